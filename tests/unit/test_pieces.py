"""Elements in the order of their indices, against numpy's own view of the same bytes."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest

from pthparse import pieces
from pthparse.pieces import Lie, boxes, gather, lie_of_array, runs, tile_of
from pthparse.source import MemorySource, Source

DATA = np.random.default_rng(3).bytes(1 << 15)


class Counted(MemorySource):
    """Counts what is read."""

    calls = nbytes = 0

    def window(self, offset: int, length: int) -> memoryview:
        self.calls += 1
        self.nbytes += length
        return super().window(offset, length)


def put_together(lie: Lie, source: Source) -> bytes:
    out = bytearray(lie.nbytes)
    for box in boxes(lie):
        found = gather(lie, source, box).tobytes()
        for to, at, n in runs(lie.dims, box):
            out[to * lie.itemsize : (to + n) * lie.itemsize] = found[at * lie.itemsize : (at + n) * lie.itemsize]
    return bytes(out)


@pytest.mark.parametrize("seed", range(60))
def test_any_dimensions(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned, repeated, overlapping, with steps between: in pieces of any size."""
    chance = random.Random(seed)
    monkeypatch.setattr(pieces, "TILE", chance.choice([16, 64, 256, 1 << 20]))
    monkeypatch.setattr(pieces, "LINE", chance.choice([16, 64, 1 << 20]))
    monkeypatch.setattr(pieces, "GAP", chance.choice([0, 8, 64, 1 << 12]))
    size = chance.choice([1, 2, 4, 8, 16])
    shape = [chance.randint(1, 9) for _ in range(chance.randint(0, 4))]
    steps = [chance.choice([0, 1, 2, 3, 9, 50, 81]) * size for _ in shape]
    offset = chance.randint(0, 100)
    lie = Lie(size, offset, tuple(zip(shape, steps, strict=True)), None, 1)
    wanted = np.ndarray(shape, f"V{size}", DATA, offset, steps).tobytes()
    assert put_together(lie, MemorySource(DATA)) == wanted
    assert put_together(lie._replace(data=DATA), MemorySource(b"")) == wanted


def test_a_transposed_matrix_is_cut_into_tiles() -> None:
    """Long runs on both sides, and every byte read once."""
    n = 1 << 12
    lie = Lie(4, 0, ((n, 4), (n, 4 * n)), None, 1)
    high, wide = tile_of(lie)
    assert (high, wide) == (512, 1024) and high * wide * 4 <= pieces.TILE
    source = Counted(np.arange(n * n, dtype=np.uint32))
    for box in (((0, high), (0, wide)), ((n - high, high), (wide, wide))):
        source.calls = source.nbytes = 0
        found = gather(lie, source, box)
        (row, _), (column, _) = box
        assert found[1, 2] == (column + 2) * n + row + 1
        assert (source.calls, source.nbytes) == (wide, high * wide * 4)
        assert [few for _, _, few in runs(lie.dims, box)] == [wide] * high


def test_pieces_cover_everything_once() -> None:
    lie = Lie(2, 0, ((5, 2), (7, 10), (3, 70)), None, 1)
    seen = [
        tuple(at + i for (at, _), i in zip(box, index, strict=True))
        for box in boxes(lie)
        for index in product(*(range(few) for _, few in box))
    ]
    assert sorted(seen) == sorted(product(range(5), range(7), range(3))) and lie.n == 105


def test_arrays() -> None:
    for array in (np.arange(6, dtype=np.int16).reshape(2, 3).T, np.zeros((0, 3)), np.array(7.0)):
        lie = lie_of_array(array)
        assert put_together(lie, MemorySource(b"")) == array.tobytes() and lie.together
