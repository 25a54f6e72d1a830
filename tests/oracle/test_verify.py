"""What torch wrote, and what is left of it: torch is the judge of values, zipfile of checksums."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle.judge import saved

import pthparse

TENSORS: dict[str, Any] = {f"layer{i}.weight": torch.arange(i * 100, dtype=torch.float32) for i in range(1, 12)}
TENSORS["shared"] = TENSORS["layer3.weight"][7:].reshape(-1, 1)
TENSORS["half"] = torch.linspace(0, 1, 999, dtype=torch.bfloat16)
LEGACY = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("how", [{}, LEGACY], ids=["zip", "legacy"])
def test_salvaged_tensors_are_those_of_torch(how: dict[str, Any], tmp_path: Path) -> None:
    data = saved(TENSORS, **how)
    theirs = torch.load(io.BytesIO(data), weights_only=True)
    seen = set()
    for part in range(1, 40):
        ckpt_bytes = data[: len(data) * part // 40]
        try:
            ckpt = pthparse.open(ckpt_bytes, salvage=True)
        except pthparse.TruncatedError:
            continue
        assert list(ckpt) == list(theirs)
        report = ckpt.verify()
        assert report.verdict == "truncated" and set(report.whole) == set(ckpt) - set(ckpt.errors)
        seen.add(len(report.whole))
        for name in report.whole:
            ours, wanted = ckpt[name].numpy(), theirs[name]
            assert ours.shape == tuple(wanted.shape)
            assert np.array_equal(ours.astype(np.float64), wanted.double().numpy())
    assert len(seen) > 8


@pytest.mark.parametrize("setting", ["none", "skipped", "all"])
def test_records_that_torch_wrote_without_a_checksum(setting: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(setting != "none")
        if setting == "skipped":
            with torch.serialization.skip_data():
                torch.save(TENSORS, path)
        else:
            torch.save(TENSORS, path)
    finally:
        torch.serialization.set_crc32_options(before)
    report = pthparse.verify(path)
    assert report.ok and len(report.whole) == len(TENSORS)
    unchecked = {m.name for m in report.members if m.status == "unchecked"}
    with zipfile.ZipFile(path) as z:
        assert unchecked == {i.filename for i in z.infolist() if i.CRC == 0 and i.file_size}
        assert (z.testzip() is None) == (setting == "all")
    assert bool(unchecked) == (setting != "all")


def test_zipfile_finds_the_same_damage(tmp_path: Path) -> None:
    data = saved(TENSORS)
    rng = np.random.default_rng(7)
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        first = z.infolist()
    for _ in range(60):
        i = first[int(rng.integers(len(first)))]
        begin = (
            i.header_offset + 30 + sum(int.from_bytes(data[i.header_offset + at :][:2], "little") for at in (26, 28))
        )
        at = begin + int(rng.integers(max(1, i.file_size)))
        spoilt = data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :]
        with zipfile.ZipFile(io.BytesIO(spoilt)) as z:
            bad = z.testzip()
        assert [m.name for m in pthparse.verify(spoilt).members if m.status == "wrong"] == [bad]
