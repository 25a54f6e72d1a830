"""Programs that torch.export saves: the tensors, and the signature, are torch's own."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

import pthparse


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.tied = self.linear.weight
        self.turned = nn.Parameter(torch.randn(3, 4).t())
        self.register_buffer("shift", torch.arange(3).to(torch.bfloat16))
        self.constant = torch.tensor([1, 2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + self.shift + x @ self.tied.T + x @ self.turned + self.constant.sum()


def test_the_same_as_torch(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(Net(), (torch.randn(2, 4),))
        torch.export.save(exported, tmp_path / "m.pt2")
    with pthparse.open(tmp_path / "m.pt2") as ckpt:
        wanted = {**exported.state_dict, **{f"constants/{n}": t for n, t in exported.constants.items()}}
        assert set(ckpt) == set(wanted) and not ckpt.errors
        for name, t in wanted.items():
            mine = ckpt[name]
            assert (mine.shape, mine.stride) == (tuple(t.shape), t.stride())
            assert mine.numpy().tobytes() == t.detach().contiguous().view(torch.uint8).numpy().tobytes()
        assert ckpt.metadata["inputs/user_input"] == "x"
        assert set(str(ckpt.metadata["inputs/parameter"]).split(", ")) == set(dict(exported.named_parameters()))
        assert ckpt.metadata["torch_version"] == torch.__version__
        assert sum(e.nbytes for e in ckpt.capacity().ledger()) == ckpt.nbytes and ckpt.verify().ok
        assert ckpt.audit().verdict == "review"
