"""Elements in the order of their indices, against numpy's own view of the same bytes."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from pthparse import pieces
from pthparse.errors import TruncatedError
from pthparse.pieces import Lie, bands, blocks, boxes, gather, lie_of_array, merged, regrouped, runs, tile_of
from pthparse.source import FileSource, MemorySource, SliceSource, Source, open_source

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
        found = gather(lie.part(box), source).tobytes()
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
    monkeypatch.setattr(pieces, "MOST", chance.choice([16, 100, 1 << 20]))
    monkeypatch.setattr(pieces, "BAND", chance.choice([16, 300, 1 << 20]))
    size = chance.choice([1, 2, 4, 8, 16])
    shape = [chance.randint(1, 9) for _ in range(chance.randint(0, 4))]
    steps = [chance.choice([0, 1, 2, 3, 9, 50, 81]) * size for _ in shape]
    offset = chance.randint(0, 100)
    swap = chance.choice([1, min(size, 8), max(1, size // 2)])
    lie = Lie(size, offset, tuple(zip(shape, steps, strict=True)), None, swap)
    wanted = np.ndarray(shape, f"V{size}", DATA, offset, steps).tobytes()
    if swap > 1:
        wanted = np.frombuffer(wanted, f"u{swap}").byteswap().tobytes()
    for dims in (lie.dims, merged(lie.dims)):
        lie = lie._replace(dims=dims)
        assert put_together(lie, MemorySource(DATA)) == wanted
        assert put_together(lie._replace(data=DATA), MemorySource(b"")) == wanted
        assert b"".join(block.tobytes() for block in blocks(lie, MemorySource(DATA))) == wanted
    for few in (1, 7, 1 << 20):
        found = list(regrouped(blocks(lie, MemorySource(DATA)), few))
        assert b"".join(found) == wanted and {len(block) for block in found[:-1]} <= {few}


def test_a_transposed_matrix_is_cut_into_tiles() -> None:
    """Long runs on both sides, and every byte read once."""
    n = 1 << 12
    lie = Lie(4, 0, ((n, 4), (n, 4 * n)), None, 1)
    high, wide = tile_of(lie)
    assert (high, wide) == (512, 1024) and high * wide * 4 <= pieces.TILE
    source = Counted(np.arange(n * n, dtype=np.uint32))
    for box in (((0, high), (0, wide)), ((n - high, high), (wide, wide))):
        source.calls = source.nbytes = 0
        found = gather(lie.part(box), source)
        (row, _), (column, _) = box
        assert found[1, 2] == (column + 2) * n + row + 1
        assert (source.calls, source.nbytes) == (wide, high * wide * 4)
        assert [few for _, _, few in runs(lie.dims, box)] == [wide] * high


def test_every_third_element_is_read_along() -> None:
    """Neither a call for each of them, nor more at once than is allowed."""
    lie = Lie(4, 0, ((1 << 20, 12),), None, 1)
    source = Counted(bytes(12 << 20))
    assert sum(block.size for block in blocks(lie, source)) == 1 << 20
    assert source.calls <= 13 and source.nbytes <= 12 << 20


def test_bands_follow_each_other() -> None:
    for shape in ((), (0,), (5,), (2, 3, 4), (7, 1, 5), (1, 1)):
        index = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        for most in (1, 3, 4, 7, 12, 100):
            found = [index[tuple(slice(at, at + few) for at, few in box)] for box in bands(shape, most)]
            assert np.array_equal(np.concatenate([part.reshape(-1) for part in found]), index.reshape(-1))
            assert all(part.size <= most for part in found)


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    """Of a file, and of a part of one: never what lies behind it."""
    path = tmp_path / "x"
    path.write_bytes(DATA)
    file = open_source(path)
    assert isinstance(file, FileSource)
    lie = Lie(4, 0, ((8, 1 << 12), (2, 4)), None, 1)  # the last ends at byte 28,680
    wanted = np.ndarray((8, 2), "u4", DATA, 0, (1 << 12, 4)).tolist()
    with pytest.MonkeyPatch.context() as m:
        m.setattr(pieces, "GAP", 0)
        for source in (file, SliceSource(file, 0, 28680), MemorySource(DATA)):
            assert gather(lie, source).tolist() == wanted
        for source in (SliceSource(file, 0, 28679), SliceSource(MemorySource(DATA), 0, 28679)):
            with pytest.raises(TruncatedError):
                gather(lie, source)
        path.write_bytes(DATA[:20000])
        with pytest.raises(TruncatedError):
            gather(lie, file)
    file.close()


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
