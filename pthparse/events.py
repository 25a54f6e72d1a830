"""What TensorBoard shows of checkpoints: an event file with histograms of values and scalars, by step.

Tensors are measured some at a time, so memory does not grow with the checkpoint. The same checkpoints give the same
bytes: there is no clock in them. TensorBoard's own classes encode them (`pip install 'pthparse[tensorboard]'`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .differ import Uncompared, uncompared
from .distribution import value_histogram
from .engine import measure
from .errors import PthError, UnsupportedError, guard
from .limits import Limits
from .outputs import Outputs
from .record import Record
from .series import Series, Step, each_of
from .walks import locate
from .wording import printable

if TYPE_CHECKING:
    from .stats import Stats

EXTRA = "pip install 'pthparse[tensorboard]'"
NAME = "events.out.tfevents.0000000000.pthparse"  # TensorBoard looks for the word in the middle
BATCH = 256  # tensors whose figures are in memory
BINS = 64
MOST_BINS = 10_000
LONGEST = 500  # characters of a tag
SCALARS = ("mean", "std", "l2", "absmax", "zeros", "nan")


class EventFile(Record):
    """What was written for TensorBoard.

    Attributes
    ----------
    path : str
        The event file.
    steps : tuple of Step
        path and step of each checkpoint, in order.
    basis : str
        How the steps are known.
    tensors, histograms, scalars : int
        How many were written, of all checkpoints together.
    errors : tuple of Uncompared
        Tensors that have no figures, or no histogram, each with the reason.
    """

    path: str
    steps: tuple[Step, ...]
    basis: str
    tensors: int
    histograms: int
    scalars: int
    errors: tuple[Uncompared, ...]


def export_tensorboard(
    sources: Any,
    logdir: str | os.PathLike[str],
    *,
    bins: int = BINS,
    all: bool = False,
    overwrite: bool = False,
    limits: Limits | None = None,  # type: ignore[valid-type]
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EventFile:
    """Writes histograms and scalars of each tensor of some checkpoints, as TensorBoard shows them.

    Tags are 'values/NAME' (histograms of finite values, in bins of equal width between the least and the largest), and
    'mean/NAME', 'std/NAME', 'l2/NAME', 'absmax/NAME', 'zeros/NAME' (their share), 'nan/NAME' (how many).

    Parameters
    ----------
    sources : one or several of what `pthparse.open` takes, or opened checkpoints
        Several are put in the order of their steps, as `pthparse.drift` does it.
    logdir : path
        The folder that TensorBoard is given; made if it is not there.
    bins : int
    all : bool
        Every tensor, the optimizer's too; not those of the state dict alone.
    overwrite : bool
        Replace the event file that an earlier call has written.
    limits : Limits, optional
        What the files may ask for.
    threads : int, optional
        Default: one for each processor that this process may use.
    progress : callable, optional
        Called now and then with (bytes measured, bytes in all, of files as long as the first).

    Raises
    ------
    PthError
        A checkpoint cannot be opened; UnsupportedError: tensorboard is not installed. What is wrong with a tensor
        stands in `errors`.
    OSError
        A file cannot be read or written. FileExistsError: there is an event file of ours already.
    ValueError
        There are no checkpoints, or no bins.
    """
    if not 1 <= bins <= MOST_BINS:
        raise ValueError(f"1 to {MOST_BINS:,} bins")
    given = each_of(sources)
    if not given:
        raise ValueError("no checkpoints")
    encoder = _Encoder()  # before anything is read: it may be absent
    folder = Path(logdir)
    path = folder / NAME
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(17, "File exists (--overwrite replaces it)", str(path))
    series = Series(given, limits)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        outputs = Outputs(folder, fresh=False)
        try:
            with os.fdopen(outputs.create(NAME), "wb") as file:
                made = _Writing(series, file, encoder, bins, all, threads, progress)
                made.run()
                file.flush()
                os.fsync(file.fileno())
            outputs.commit([NAME], overwrite=overwrite)
        except BaseException:
            outputs.discard()
            raise
    finally:
        series.close()
    counts = made.tensors, made.histograms, made.scalars
    return EventFile(str(path), series.steps, series.basis, *counts, uncompared(made.errors))


class _Encoder:
    """TensorBoard's classes."""

    def __init__(self) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError:
            raise UnsupportedError("tensorboard-extra", f"events are written by tensorboard: {EXTRA}") from None
        self.Event, self.Histogram, self.Summary, self.RecordWriter = Event, HistogramProto, Summary, RecordWriter


class _Writing:
    def __init__(
        self,
        series: Series,
        file: Any,
        encoder: _Encoder,
        bins: int,
        everything: bool,
        threads: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.series, self.bins, self.everything, self.threads = series, bins, everything, threads
        self.encoder, self.records = encoder, encoder.RecordWriter(file)
        self.progress, self.done, self.total = progress, 0, 0
        self.tags = _Tags()
        self.errors: dict[str, PthError] = {}
        self.tensors = self.histograms = self.scalars = 0

    def run(self) -> None:
        self._write(file_version="brain.Event:2")
        for i, step in enumerate(self.series.steps):
            with ExitStack() as stack:
                ckpt: Any = self.series.open(i, stack, self.everything)
                if not hasattr(ckpt, "stats"):
                    raise TypeError("a checkpoint is wanted, not a mapping of arrays")
                locate([*ckpt.values()])
                tensors = iter(ckpt.values())
                if not i and self.progress is not None:
                    self.total = len(self.series) * sum(max(0, t.nbytes) for t in ckpt.values())
                while batch := list(islice(tensors, BATCH)):
                    self._batch(batch, step.step)

    def _batch(self, tensors: Sequence[Any], step: int) -> None:
        for s, bins in self._figures(tensors):
            tag = self.tags.of(s.name)
            values = [self.encoder.Summary.Value(tag=f"{n}/{tag}", simple_value=x) for n, x in _scalars(s)]
            self.scalars += len(values)
            self.tensors += 1
            if bins is not None:
                self.histograms += 1
                values.append(self.encoder.Summary.Value(tag=f"values/{tag}", histo=self._histogram(s, *bins)))
            self._write(step=step, summary=self.encoder.Summary(value=values))
        self.done += sum(max(0, t.nbytes) for t in tensors)
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)

    def _figures(self, tensors: Sequence[Any]) -> Iterator[tuple[Stats, Any]]:
        """Figures of each, and its edges and counts if it has some."""
        table = measure(tensors, threads=self.threads, bins=self.bins)
        for s in table:
            if s.min is None and s.finite:
                self._fail(s.name, UnsupportedError("no-array", "complex numbers have no order, so no histogram"))
            yield s, s.values
        for t in tensors:
            error = table.errors.get(t.name)
            if error is None:
                continue
            alone = measure([t], threads=self.threads)
            for s in alone:  # no histogram, but what else there is
                bins = self._of_chunks(t, s) if t.kind == "chunked" else None
                if bins is None:
                    self._fail(s.name, error)
                yield s, bins
            for name, why in alone.errors.items():
                self._fail(name, why)

    def _of_chunks(self, t: Any, s: Stats) -> Any:
        def arrays() -> Iterator[Any]:
            return (chunk.numpy().reshape(-1) for chunk in t.chunks)

        if s.min is None or s.max is None:
            return None
        try:
            with guard("its histogram"):
                return value_histogram(arrays, self.bins, float(s.min), float(s.max))
        except PthError:
            return None

    def _histogram(self, s: Stats, edges: Sequence[float], counts: Sequence[int]) -> Any:
        """`bucket_limit` is where a bin ends. Of neighbours that are empty one is made: most tensors are small."""
        low, high, mean, l2 = (float(x or 0) for x in (s.min, s.max, s.mean, s.l2))  # type: ignore[arg-type]
        ends = [i for i, n in enumerate(counts) if n or i + 1 == len(counts) or counts[i + 1]]
        return self.encoder.Histogram(
            min=low,
            max=high,
            num=s.finite,
            sum=mean * s.finite,
            sum_squares=l2 * l2,
            bucket_limit=[edges[i + 1] for i in ends],
            bucket=[counts[i] for i in ends],
        )

    def _fail(self, name: str, error: PthError) -> None:
        self.errors.setdefault(name, error)

    def _write(self, **fields: Any) -> None:
        self.records.write(self.encoder.Event(wall_time=0.0, **fields).SerializeToString(deterministic=True))


def _scalars(s: Stats) -> Iterator[tuple[str, float]]:
    shares = {"zeros": s.zeros / s.numel if s.numel else 0.0}
    for name in SCALARS:
        value = shares.get(name, getattr(s, name))
        if isinstance(value, (int, float)):  # not the mean of complex numbers, nor what no element makes
            yield name, float(value)


class _Tags:
    """Names as tags: fit for print, not too long, and no two the same."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.used: set[str] = set()

    def of(self, name: str) -> str:
        tag = self.known.get(name)
        if tag is None:
            tag = text = printable(name, LONGEST)
            n = 1
            while tag in self.used:
                n += 1
                tag = f"{text}#{n}"
            self.used.add(tag)
            self.known[name] = tag
        return tag
