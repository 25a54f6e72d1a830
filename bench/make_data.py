"""Makes the files that the benchmarks read, by torch and safetensors.

python bench/make_data.py [FOLDER]        model_weights (505 MB), state_dict_100mb, many_20000 and
                                          many_100000, each as .pth and .safetensors; and model_bfloat16
                                          and model_float16, the first one in half precision, as .pth
python bench/make_data.py --lesson PATH   the lesson's architecture at small width, as shipped with the project
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

HERE = Path(__file__).parent
DATA = HERE / ".data"
LESSON_BYTES = 505_322_271
LESSON_PARAMETERS = 126_320_967


class Lesson(nn.Module):
    """A decoder-only Transformer as the lesson builds it: embedding, decoder layers, output layer."""

    def __init__(self, vocabulary: int, width: int, heads: int, feed_forward: int, layers: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(nn.TransformerDecoderLayer(width, heads, feed_forward) for _ in range(layers))
        self.fc = nn.Linear(width, vocabulary)


def lesson(path: Path) -> None:
    """The 505 MB model. Its size is known to the byte."""
    torch.manual_seed(0)
    state = Lesson(98631, 512, 8, 2048).state_dict()
    assert sum(t.numel() for t in state.values()) == LESSON_PARAMETERS
    save(state, path)
    assert path.stat().st_size == LESSON_BYTES, path.stat().st_size


def many(path: Path, n: int) -> None:
    """Many small tensors under names as models have them."""
    parts = ("attn.q_proj.weight", "attn.k_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
    save({f"layers.{i // 4}.{parts[i % 4]}": torch.full((4, 4), float(i)) for i in range(n)}, path)


def save(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path)
    safetensors.torch.save_file(dict(state), path.with_suffix(".safetensors"))


def make(folder: Path) -> None:
    """Makes what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "model_weights.pth"
    if not weights.exists() or weights.stat().st_size != LESSON_BYTES:
        lesson(weights)
    for dtype in (torch.bfloat16, torch.float16):
        path = folder / f"model_{str(dtype).removeprefix('torch.')}.pth"
        if not path.exists():
            torch.save({n: t.to(dtype) for n, t in torch.load(weights, weights_only=True).items()}, path)
    hundred = folder / "state_dict_100mb.pth"
    if not hundred.exists():
        save({f"layers.{i}.weight": torch.randn(512, 512) for i in range(100)}, hundred)
    for n in (20_000, 100_000):
        path = folder / f"many_{n}.pth"
        if not path.with_suffix(".safetensors").exists():
            many(path, n)


def small_lesson(path: Path) -> None:
    """The same architecture small enough to ship, with a .json that says what is in it."""
    torch.manual_seed(0)
    state = Lesson(97, 16, 2, 32).state_dict()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    tensors = [
        {
            "name": name,
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": list(t.shape),
            "sha256": hashlib.sha256(t.numpy().tobytes()).hexdigest(),
        }
        for name, t in state.items()
    ]
    text = json.dumps({"torch": torch.__version__, "tensors": tensors}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=DATA)
    parser.add_argument("--lesson", type=Path, metavar="PATH")
    args = parser.parse_args()
    if args.lesson:
        small_lesson(args.lesson)
    else:
        make(args.folder)


if __name__ == "__main__":
    main()
