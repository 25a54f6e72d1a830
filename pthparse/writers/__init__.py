"""What a model can be written as: a module a format, found by its name or by the end of a file's name."""

from __future__ import annotations

from .base import Entry, Format, Layout, Wanted
from .npy import Npy
from .npz import Npz
from .safetensors import Safetensors

FORMATS: dict[str, type[Format]] = {"safetensors": Safetensors, "npz": Npz, "npy": Npy}
SUFFIXES = {".safetensors": "safetensors", ".npz": "npz"}

__all__ = ["FORMATS", "SUFFIXES", "Entry", "Format", "Layout", "Wanted"]
