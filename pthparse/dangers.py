"""What is known of a class or function by its name alone.

The table is csrc/defs/dangers.def. It explains; what is in no table is unknown, and never clean.
"""

from __future__ import annotations

from functools import cached_property

from . import _core

HARMLESS = frozenset(
    (
        "HARMLESS",
        "NAMED",
        "NESTED_TYPE",
        "NUMPY_ARRAY",
        "PER_CHANNEL",
        "PER_TENSOR",
        "SLOTS",
        "TENSOR_TYPE",
        "TEXT_CLASS",
        "DTYPE",
        "ELLIPSIS",
        "NOT_IMPLEMENTED",
    )
)
LONGEST = 1000  # characters of a name that are looked at
MOST_PARTS = 16

OWN = {
    "SCRIPT": "a class of TorchScript code",
    "SCRIPT_OBJECT": "an object of TorchScript, made by code of its own",
    "GRAPH_MODULE": "holds Python source that torch runs to make it again",
    "FOLD": "joins types, as `int | str` is pickled",
    "MAP": "calls what it is given, later on",
    "MEMMAP": "an array that lay in a file of its own; its bytes are in the pickle",
    "OR": "joins two values",
}


class Judge:
    """Statuses of globals: each a look into a table."""

    def __init__(self) -> None:
        from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

        self._modules: dict[str, str] = IMPORT_MAPPING
        self._names: dict[tuple[str, str], tuple[str, str]] = NAME_MAPPING

    # Most files name nothing that has to be looked up here.
    @cached_property
    def _dangers(self) -> dict[tuple[str, str], tuple[str, str]]:
        return _core.dangers()

    @cached_property
    def _wholes(self) -> set[str]:
        return {module for module, name in self._dangers if name == "*"}

    @cached_property
    def _tops(self) -> set[str]:
        return {module.partition(".")[0] for module, _ in self._dangers} | {_core.COMPUTED}

    def __call__(self, module: str, name: str, meaning: str) -> tuple[str, str, str | None]:
        """(status, reason, what Python 3 makes of it if that is something else)"""
        there = self._names.get((module, name))
        if there is None and module in self._modules:
            there = self._modules[module], name
        python3 = f"{there[0]}.{there[1]}" if there is not None and there != (module, name) else None
        if meaning in _core.HANDLED:
            harmless = meaning in HARMLESS
            return "harmless" if harmless else "handled", HANDLED_REASONS[harmless], python3
        if meaning in OWN:
            return "unknown", OWN[meaning], python3
        found = self.danger(module, name)
        if (found is None or found[0] != "dangerous") and there is not None:
            found = self.danger(*there) or found
        if found is not None:
            return found[0], found[1], python3
        return "unknown", self.unknown(module, name), python3

    def danger(self, module: str, name: str) -> tuple[str, str] | None:
        """(status, reason) if it is in the table, by whatever detour."""
        if name in self._wholes and (module, name) not in self._dangers:  # a module may be an attribute: torch . os
            return "dangerous", f"hands out the module {name}, which {self._dangers[name, '*'][1]}"
        plain = "." not in name and "__" not in name and name != _core.COMPUTED
        if plain and module.partition(".")[0] not in self._tops:  # a file may name as many as it likes
            return None
        module, name = module[:LONGEST], name[:LONGEST]
        if _core.COMPUTED in (module, name):
            return "dangerous", "its name is made while a loader reads it, so that nobody else can see it"
        found = self._dangers.get((module, name)) or self._package(module)
        if found is not None or ("." not in name and not name.startswith("__")):
            return found
        parts = name.split(".")[:MOST_PARTS]
        if any(part.startswith("__") and part.endswith("__") and len(part) > 4 for part in parts):
            return "dangerous", "reaches through an object into the interpreter"
        for i in range(len(parts)):  # an attribute may be a module: torch.serialization . os.system
            inner = ".".join(parts[:i])
            for outer in (f"{module}.{inner}" if inner else module, inner, parts[i - 1] if i else ""):
                found = self._dangers.get((outer, parts[i])) or self._package(outer)
                if found is not None and found[0] == "dangerous":
                    return found[0], f"{outer}.{parts[i]}: {found[1]}"
        return None

    def _package(self, module: str) -> tuple[str, str] | None:
        """The row of a module as a whole, or of a package that it lies in."""
        for _ in range(MOST_PARTS):
            found = self._dangers.get((module, "*"))
            if found is not None or "." not in module:
                return found
            module = module.rpartition(".")[0]
        return None

    def imports(self, module: str | None, name: str, alias: str | None) -> bool:
        """Does such a line of source import what is dangerous, or a module by another name?"""
        if module is None and alias is not None and not alias.endswith("pytree"):
            return True
        whole = name if module is None else f"{module}.{name}"
        found = [self.danger(whole, "*"), None if module is None else self.danger(module, name)]
        return any(f is not None and f[0] == "dangerous" for f in found)

    @staticmethod
    def unknown(module: str, name: str) -> str:
        text = f"{module}.{name}"
        if not text.isascii() or not text.isprintable() or text != text.strip() or not module or not name:
            return "not a name that Python code has: it may be made to look like another"
        if module.startswith("torch.nn.modules."):
            return "a module class of torch: what it does with its state is torch's own code"
        if module.startswith("torch."):
            return "a part of torch that is not read here"
        return "not known: a loader imports it and does what its code says"


HANDLED_REASONS = {False: "understood here, inert in a loader", True: "holds plain values, runs nothing"}
