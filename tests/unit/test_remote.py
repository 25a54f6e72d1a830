"""Files that are far away: what a server on this machine is asked for, what comes of its faults, other protocols."""

from __future__ import annotations

import errno
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import hostile, legacy
from forge import pickles as p
from forge.web import Handler, Server, serve, sound
from forge.zips import Entry, build, checkpoint, members, sparse

import pthparse
from pthparse.auditor import audit_source
from pthparse.cli import main
from pthparse.formats import read
from pthparse.source import FileSource, MemorySource, is_url, open_source

pytest.importorskip("fsspec", reason="fsspec is not installed: URLs are not tested")
pytest.importorskip("aiohttp", reason="aiohttp is not installed: URLs are not tested")

from pthparse.remote import cache, filesystem, http, open_url, shown

ROOT = Path(__file__).parents[2]
LESSON = ROOT / "tests" / "data" / "lesson" / "lesson.pth"
ZOO = sorted((ROOT / "tests" / "data" / "zoo").rglob("*.pth"))
GB2 = 500_000_000  # elements
DATA = np.arange(3000, dtype=np.float32)
SMALL = checkpoint(p.pickle(p.dict_of({"w": p.vector("0", 3000)})), {"0": DATA.tobytes()})


def listing(ckpt: pthparse.Checkpoint) -> list[tuple[Any, ...]]:
    return [(name, t.shape, t.dtype, t.nbytes) for name, t in ckpt.items()]


def told(report: pthparse.AuditReport | pthparse.VerifyReport) -> dict[str, Any]:
    return {**report.to_dict(), "path": None}


# ---- the table of a large file ----


def metadata(path: Path) -> int:
    """Bytes of the end records, the directory, the pickle and the marks."""
    with pthparse.open(path) as ckpt:
        box = ckpt._box
        held = [m.nbytes for m in ckpt.members if m.role != "storage"]
        assert len(held) == 6
        return ckpt.nbytes - int(box.end.dir_off) + sum(held)  # type: ignore[attr-defined]


def numels(n: int) -> dict[str, int]:
    return {f"model.layers.{i // 4}.mlp.{i % 4}.weight": GB2 // n for i in range(n)}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Of 2 GB each, nearly all of it holes: by the number of tensors."""
    folder = tmp_path_factory.mktemp("large")
    out = {n: folder / f"{n}.pth" for n in (100, 3000)}
    for n, path in out.items():
        sparse(path, numels(n), {"model.layers.7.mlp.1.weight": DATA.tobytes()})
        assert path.stat().st_size > 2_000_000_000
    return out


@pytest.mark.parametrize("n", [100, 3000])
def test_the_table_of_2_gb_takes_few_requests(n: int, large: dict[int, Path]) -> None:
    with serve(large[n]) as server, pthparse.open(server.url) as ckpt:
        with pthparse.open(large[n]) as here:
            assert listing(ckpt) == listing(here)
            assert len(listing(ckpt)) == n and ckpt.path == server.url and ckpt.nbytes == here.nbytes
            first = min(m.offset for m in here.members if m.role == "storage")
            last = max(m.offset + m.stored_nbytes for m in here.members if m.role == "storage")
        assert len(server.asked) <= 5
        assert server.sent <= 1.2 * metadata(large[n])
        # Nothing of any storage, nor its header, but the last few bytes before the members that stand behind them.
        assert all(end <= first or begin >= last - 1024 for begin, end in server.asked)


def test_a_tensor_costs_its_bytes_and_one_header(large: dict[int, Path]) -> None:
    with serve(large[3000]) as server, pthparse.open(server.url) as ckpt:
        server.reset()
        t = ckpt["model.layers.7.mlp.1.weight"]
        array = t.numpy()
        assert array.shape == (166_666,) and (array[:3000] == DATA).all() and not array[3000:].any()
        assert len(server.asked) == 2 and t.nbytes <= server.sent <= t.nbytes + 4096
        server.reset()
        assert (t.numpy() == array).all() and server.asked == []  # small enough to be kept for a while


def test_a_large_tensor_comes_in_parts_at_the_same_time(large: dict[int, Path]) -> None:
    with serve(large[100]) as server, pthparse.open(server.url) as ckpt:
        server.reset()
        array = ckpt["model.layers.7.mlp.1.weight"].numpy()
        assert (array[:3000] == DATA).all() and not array[3000:].any()
        assert server.sent <= array.nbytes + 4096
        assert max(end - begin for begin, end in server.asked) == cache.PART and len(server.asked) == 4
        server.reset()
        t = ckpt["model.layers.7.mlp.1.weight"]
        assert (t.numpy() == array).all() and server.sent <= t.nbytes and len(server.asked) == 3  # the header is known


def test_an_audit_reads_the_headers_too_and_says_the_same(large: dict[int, Path]) -> None:
    with serve(large[3000]) as server:
        report = pthparse.audit(server.url)
        assert told(report) == told(pthparse.audit(large[3000])) and report.verdict == "clean"
        assert report.path == server.url
        assert len(server.asked) < 3100 and server.sent < metadata(large[3000]) + 3100 * 540


@pytest.fixture(scope="module")
def middling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 24 MB, with tensors of every size from 4 bytes to 4 MB."""
    path = tmp_path_factory.mktemp("middling") / "m.pth"
    sizes = {f"t{i}": 1 + (i * 7919) % 3000 for i in range(300)} | {f"large{i}": 1_000_000 for i in range(5)}
    rng = np.random.default_rng(0)
    sparse(path, sizes, {name: rng.random(n, dtype=np.float32).tobytes() for name, n in sizes.items()})
    return path


def test_stats_and_checksums_come_in_large_parts(middling: Path) -> None:
    with serve(middling) as server, pthparse.open(server.url) as ckpt, pthparse.open(middling) as here:
        size = ckpt.nbytes
        server.reset()
        assert [*ckpt.stats(histogram=True)] == [*here.stats(histogram=True)]
        assert len(server.asked) < 30 and server.sent < 1.5 * size
        assert [*ckpt.stats(threads=1)] == [*here.stats()]
        with ThreadPoolExecutor(2) as executor:
            assert [*ckpt.stats(executor=executor)] == [*here.stats()]
        assert ckpt["large3"].stats() == here["large3"].stats()
        server.reset()
        assert told(pthparse.verify(server.url)) == told(pthparse.verify(middling))
        assert len(server.asked) < 40 and server.sent < 1.5 * size
        assert ckpt.verify().ok and ckpt.audit().verdict == "clean"
        assert ckpt.capacity().to_dict() == here.capacity().to_dict()


def test_threads_share_a_source(middling: Path) -> None:
    with serve(middling) as server, pthparse.open(server.url) as ckpt, pthparse.open(middling) as here:
        with ThreadPoolExecutor(8) as executor:
            arrays = list(executor.map(lambda name: ckpt[name].numpy(), ckpt))
        assert all((a == t.numpy()).all() for a, t in zip(arrays, here.values(), strict=True))


def test_legacy_files_too() -> None:
    numel = 100_000
    root = p.dict_of({f"w{i}": legacy.vector(str(i), numel) for i in range(20)})
    data = legacy.stream(root, {str(i): np.full(numel, i, np.float32).tobytes() for i in range(20)})
    with serve(data) as server, pthparse.open(server.url) as ckpt:
        assert ckpt.format == "legacy" and len(ckpt) == 20
        # The beginning, where pickles may be as long as they like, and the count before each storage.
        assert len(server.asked) < 30 and server.sent < 200_000
        server.reset()
        assert (ckpt["w7"].numpy() == 7).all()
        assert server.sent == 4 * numel and len(server.asked) == 1


@pytest.mark.parametrize("path", ZOO, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_file_of_the_zoo_is_the_same_from_afar(path: Path, zoo: tuple[Server, Any]) -> None:
    server, _ = zoo
    server.content, server.size = path, path.stat().st_size
    here, there = pthparse.open(path), pthparse.open(server.url)
    with here, there:
        assert listing(here) == listing(there) and here.findings == there.findings
        for a, b in zip(here.values(), there.values(), strict=True):
            if a.kind == "dense":
                assert a.numpy().tobytes() == b.numpy().tobytes()
    assert told(pthparse.audit(server.url)) == told(pthparse.audit(path))
    assert told(pthparse.verify(server.url)) == told(pthparse.verify(path))


@pytest.fixture(scope="module")
def zoo() -> Iterator[tuple[Server, Any]]:
    with serve(b"") as server:
        server.answer = lambda handler, data, begin, end: sound(handler, data, begin, end, ETag=f'"{server.content}"')
        yield server, None


class Memory:
    """Bytes far away, without the way."""

    head, state = b"", None

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.n = data, len(data), 0

    def fetch(self, parts: Sequence[tuple[int, memoryview]]) -> None:
        for at, into in parts:
            self.n += 1
            into[:] = self.data[at : at + len(into)]

    def changed(self) -> bool:
        return False


def test_every_hostile_file_gets_the_same_verdict_from_afar() -> None:
    """What is read in another order, and in other pieces, is read as the same."""
    n = 0
    for forged in hostile.CATALOGUE:
        if any(word in forged.name for word in ("bomb", "parts that grow", ",000 ")):  # limits of time and memory
            continue
        data = forged.build()
        limits = pthparse.Limits()
        here, there = audit_source(MemorySource(data), limits), audit_source(source_of(data), limits)
        assert told(here) == told(there), forged.name
        n += 1
    assert n > 700


def source_of(data: bytes) -> cache.RemoteSource:
    return cache.RemoteSource(Memory(data), "memory")


@pytest.mark.parametrize("comment", [b"c" * 30, b"c" * 60_000, b"PK\5\6" + b"c" * 40, b"PK\5\6" + bytes(60_000)])
def test_end_records_are_found_as_nearby(comment: bytes) -> None:
    rows = members(p.pickle(p.dict_of({"w": p.vector("0", 4)})), {"0": bytes(16)})
    for data in (build(rows, comment=comment, eocd64=True), build(rows, comment=comment), build(rows, suffix=comment)):
        found = []
        for source in (MemorySource(data), source_of(data)):
            try:
                box = read(source, pthparse.Limits())
                found.append((box.end.eocd_off, box.end.dir_off, box.end.dir_len, box.findings))  # type: ignore[attr-defined]
            except pthparse.PthError as e:
                found.append((e.code, e.offset, e.message))
        assert found[0] == found[1]


def test_marks_and_headers_that_lie_far_apart() -> None:
    rows = members(p.pickle(p.dict_of({"w": p.vector("0", 3000)})), {"0": DATA.tobytes()})
    rows = [Entry("archive/big", bytes(1 << 20)), rows[0], Entry("archive/more", bytes(1 << 20)), *rows[1:]]
    with serve(build(rows)) as server, pthparse.open(server.url) as ckpt:
        assert (ckpt["w"].numpy() == DATA).all() and ckpt.byteorder == "little"
        assert server.sent < 60_000


# ---- the cache ----


def test_what_is_kept_is_bounded_and_right() -> None:
    data = np.random.default_rng(1).bytes(1 << 22)
    source = source_of(data * 16)
    rng = np.random.default_rng(2)
    for at, length in zip(rng.integers(0, 1 << 26, 700), rng.integers(0, 1 << 18, 700), strict=True):
        at, length = int(at), int(length)
        if length % 3 == 0:
            source.prepare([(at, at + length), (at + length + 5000, at + 2 * length)])
        whole = bytes(source.window(at, length))
        assert whole == (data + data)[at % len(data) :][: min(length, max(0, source.size - at))]
        assert source._held <= cache.KEPT and source._held == sum(map(len, source._parts.values()))
        assert source._starts == sorted(source._parts)
    assert bytes(source.window(source.size - 3, 100)) == data[-3:]
    assert source.window(source.size, 1) == b"" and source.window(1 << 62, 1) == b""


def test_what_is_held_is_right() -> None:
    data = np.random.default_rng(3).bytes(1 << 20)
    source = source_of(data)
    source.window(1000, 50)
    held = source.held([(900, 3000), (3100, 5000), (500_000, 600_000)])
    n = source._wire.n  # type: ignore[union-attr]
    for at, length in ((900, 2100), (1000, 3000), (3100, 10), (500_000, 100_000), (2999, 1)):
        assert bytes(held.window(at, length)) == data[at : at + length]
    assert source._wire.n == n  # type: ignore[union-attr]
    assert bytes(held.window(0, 1 << 21)) == data


def test_reads_that_follow_each_other_fetch_ahead() -> None:
    source = source_of(bytes(1 << 24))
    for at in range(0, 1 << 24, 512):
        source.window(at, 512)
    assert source._wire.n < 40  # type: ignore[union-attr]


def test_a_closed_one_says_so() -> None:
    with serve(SMALL) as server:
        ckpt = pthparse.open(server.url)
        t = ckpt["w"]
        ckpt.close()
        with pytest.raises(pthparse.PthError, match=r"closed.*\[closed\]"):
            t.numpy()
        source = open_url(server.url)
        source.close()
        with pytest.raises(pthparse.PthError, match="closed"):
            source.window(0, 10)


# ---- faults of servers ----


def whole(handler: Handler, data: bytes, begin: int, end: int) -> None:
    handler.give(200, bytes(10_000_000), Content_Type="text/html")


def status(code: int) -> Callable[..., None]:
    return lambda handler, data, begin, end: handler.give(code, b"<html>no</html>")


def with_headers(change: Callable[[int, int, int], dict[str, str]]) -> Callable[..., None]:
    return lambda handler, data, begin, end: sound(handler, data, begin, end, **change(begin, end, handler.server.size))


def longer(handler: Handler, data: bytes, begin: int, end: int) -> None:
    sound(handler, data + bytes(1 << 20), begin, end)


def endless(handler: Handler, data: bytes, begin: int, end: int) -> None:
    """No length is announced, and there is no end."""
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{handler.server.size}")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(1 << 14):
            handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            handler.server.sent += 1 << 16
    except OSError:
        handler.close_connection = True


def shorter(handler: Handler, data: bytes, begin: int, end: int) -> None:
    """The connection ends in the middle of the body."""
    sound(handler, data[: len(data) // 2], begin, end, Content_Length=str(len(data)))
    handler.close_connection = True


def few(handler: Handler, data: bytes, begin: int, end: int) -> None:
    handler.give(206, data[:10], Content_Range=f"bytes {begin}-{begin + 9}/{handler.server.size}")


def garbage(handler: Handler, data: bytes, begin: int, end: int) -> None:
    handler.wfile.write(b"\x00\x01garbage\r\n\r\n")
    handler.wfile.flush()
    handler.close_connection = True


def to(place: str) -> Callable[..., None]:
    return lambda handler, data, begin, end: handler.give(302, b"", Location=place)


FAULTS: dict[str, tuple[Callable[..., None], type[Exception], str]] = {
    "no ranges": (
        whole, pthparse.UnsupportedError, r"no parts of.*10,000,000 bytes, text/html.*page of a directory.*no-ranges"
    ),
    "not there": (status(404), FileNotFoundError, "the server says 404 Not Found"),
    "gone": (status(410), FileNotFoundError, "410 Gone"),
    "forbidden": (status(403), PermissionError, "403 Forbidden"),
    "a password": (status(401), PermissionError, "401 Unauthorized"),
    "broken": (status(500), OSError, "500 Internal Server Error"),
    "always busy": (status(503), OSError, "503 Service Unavailable"),
    "no content": (status(202), OSError, "202 Accepted"),
    "another part": (
        with_headers(lambda b, e, n: {"Content_Range": f"bytes {b + 1}-{e}/{n}"}), OSError, "0-4095 were.*sends 1-4096"
    ),
    "no size": (
        with_headers(lambda b, e, n: {"Content_Range": f"bytes {b}-{e - 1}/*"}), pthparse.UnsupportedError, "how large"
    ),
    "no part": (
        with_headers(lambda b, e, n: {"Content_Range": "\u00ff"}), pthparse.UnsupportedError, "which part.*no-ranges"
    ),
    "a size beyond all": (
        with_headers(lambda b, e, n: {"Content_Range": f"bytes {b}-{e - 1}/{10**19 - 1}"}), OSError, "999999999999"
    ),
    "compressed": (with_headers(lambda b, e, n: {"Content_Encoding": "gzip"}), pthparse.UnsupportedError, "compresses"),
    "more": (longer, OSError, "4096 bytes were asked for, the server announces 1052672"),
    "without end": (endless, OSError, "sends more than the 4096 bytes"),
    "a body cut short": (shorter, ConnectionResetError, "closed the connection too early"),
    "few bytes": (few, OSError, "0-4095 were asked for, the server sends 0-9"),
    "no HTTP": (garbage, OSError, "not an answer of HTTP"),
    "round and round": (to("/model.pth"), OSError, "redirects again and again"),
    "to a file": (to("file:///etc/passwd"), OSError, "not a URL that can be asked for"),
}  # fmt: skip


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(http, "PAUSE", 0.0)


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("hasty")
def test_a_fault_of_a_server_is_told(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer, error, words = FAULTS[name]
    with serve(SMALL, answer) as server:
        with pytest.raises(error, match=words) as caught:
            pthparse.open(server.url)
        assert isinstance(caught.value, (OSError, pthparse.PthError))
        assert getattr(caught.value, "filename", None) == server.url or server.url in str(caught.value)
        assert server.sent < 60_000_000 and len(server.asked) <= 12
        assert main(["ls", server.url]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.startswith(f"pthparse: {server.url}: ") and said.err.count("\n") == 1
        if error is pthparse.UnsupportedError:
            assert (
                pthparse.audit(server.url).verdict == "incomplete" and pthparse.verify(server.url).verdict == "unknown"
            )
            assert main(["audit", server.url]) == 2 and main(["verify", server.url]) == 2
        else:
            with pytest.raises(error, match=words):
                pthparse.audit(server.url)
            assert main(["audit", server.url]) == 2 and main(["verify", server.url]) == 2


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("name", [n for n in FAULTS if n not in ("no size", "few bytes", "more", "another part")])
def test_a_fault_that_comes_later_is_of_the_network(name: str) -> None:
    """A server that had ranges a moment ago has them: what it does wrong says nothing about the file."""
    with serve(SMALL) as server, pthparse.open(server.url) as ckpt:
        server.answer = FAULTS[name][0]
        with pytest.raises(OSError) as caught:
            ckpt["w"].numpy()
        assert caught.value.filename == server.url


@pytest.mark.usefixtures("hasty")
def test_passing_troubles_are_passed_by() -> None:
    count = itertools.count()

    def sometimes(handler: Handler, data: bytes, begin: int, end: int) -> None:
        answers = (status(503), sound, garbage_free, sound, status(429), status(500), sound)
        answers[min(next(count), 6)](handler, data, begin, end)

    def garbage_free(handler: Handler, data: bytes, begin: int, end: int) -> None:
        handler.close_connection = True  # without a word

    with serve(SMALL, sometimes) as server, pthparse.open(server.url) as ckpt:
        assert (ckpt["w"].numpy() == DATA).all()
        assert next(count) >= 7


def test_an_empty_file_is_one() -> None:
    for answer in (None, lambda handler, data, begin, end: handler.give(200)):
        with serve(b"", answer) as server, pytest.raises(pthparse.FormatError, match="empty-file"):
            pthparse.open(server.url)


def test_a_redirect_is_followed() -> None:
    with serve(SMALL) as server, serve(b"", to(server.url)) as other, pthparse.open(other.url) as ckpt:
        assert (ckpt["w"].numpy() == DATA).all() and ckpt.path == other.url


def test_the_configuration_of_fsspec_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setitem(fsspec.config.conf, "http", {"headers": {"X-Token": "word", "Range": "bytes=0-0"}})
    with serve(SMALL) as server, pthparse.open(server.url) as ckpt:
        assert (ckpt["w"].numpy() == DATA).all()
        assert {headers["X-Token"] for headers in server.headers} == {"word"}
        assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}
        assert server.asked[0] == (0, 4096)


def test_https_is_not_left_for_http() -> None:
    class Step:
        def __init__(self, scheme: str) -> None:
            self.url = type("U", (), {"scheme": scheme})
            self.history: tuple[Any, ...] = ()
            self.status, self.headers = 206, {"Content-Range": "bytes 0-9/10"}

    wire = http.HttpWire.__new__(http.HttpWire)
    wire._web, wire.state, wire._path = True, None, "https://x"
    answer = Step("https")
    assert wire._length(answer, 0, 10) == 10
    answer.history = (Step("http"),)
    with pytest.raises(PermissionError, match="from https to http"):
        wire._length(answer, 0, 10)
    wire._web = False
    assert wire._length(answer, 0, 10) == 10


CHANGES: dict[str, Callable[[int, int, int], dict[str, str]]] = {
    "ETag": lambda b, e, n: {"ETag": '"2"'},
    "size": lambda b, e, n: {"Content_Range": f"bytes {b}-{e - 1}/{n + 1}"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_changes_is_told(name: str) -> None:
    with serve(SMALL) as server, pthparse.open(server.url) as ckpt:
        server.answer = with_headers(CHANGES[name])
        with pytest.raises(pthparse.TruncatedError, match=r"changed while it was read.*file-changed"):
            ckpt["w"].numpy()
        assert ckpt.stats().errors["w"].code == "file-changed"
        assert ckpt.audit().verdict == "incomplete" and ckpt.verify().verdict == "unknown"
        n = len(server.asked)
        with pytest.raises(pthparse.TruncatedError):
            ckpt["w"].numpy()
        assert len(server.asked) == n  # nobody is asked any more


@pytest.mark.parametrize("after", range(1, 6))
def test_a_file_that_changes_while_it_is_opened(after: int) -> None:
    data = checkpoint(p.pickle(p.dict_of({f"w{i}": p.vector("0", 4) for i in range(300)})), {"0": bytes(1 << 20)})
    count = itertools.count()

    def changing(handler: Handler, data: bytes, begin: int, end: int) -> None:
        sound(handler, data, begin, end, ETag=f'"{next(count) >= after}"')

    for ask, wanted in ((pthparse.audit, "incomplete"), (pthparse.verify, "unknown")):
        count = itertools.count()
        with serve(data, changing) as server:
            report = ask(server.url)
            if len(server.asked) > after:
                assert report.verdict == wanted and "file-changed" in {f.code for f in report.findings}
            assert len(server.asked) > min(after, 3)


def test_servers_need_not_agree_on_all_marks() -> None:
    count = itertools.count()

    def either(handler: Handler, data: bytes, begin: int, end: int) -> None:
        marks = ({"ETag": '"1"', "Last_Modified": "x"}, {"ETag": '"1"', "Last_Modified": "y"}, {"ETag": ""})
        sound(handler, data, begin, end, **marks[next(count) % 3])

    with serve(SMALL, either) as server, pthparse.open(server.url) as ckpt:
        assert (ckpt["w"].numpy() == DATA).all()


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECT", 0.1)
    monkeypatch.setattr(http, "SILENCE", 0.1)
    done = threading.Event()

    def silent(handler: Handler, data: bytes, begin: int, end: int) -> None:
        done.wait(20)
        handler.close_connection = True

    def dripping(handler: Handler, data: bytes, begin: int, end: int) -> None:
        """A byte now and then, so that it is never silent for long."""
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{handler.server.size}")
        handler.send_header("Content-Length", str(end - begin))
        handler.end_headers()
        try:
            while not done.is_set():
                handler.wfile.write(b"P")
                handler.wfile.flush()
                time.sleep(0.02)
        except OSError:
            pass
        handler.close_connection = True

    for answer in (silent, dripping):
        with serve(SMALL, answer) as server:
            with pytest.raises(TimeoutError, match="does not answer in time"):
                pthparse.open(server.url)
            done.set()
        done.clear()


def test_nobody_there() -> None:
    with serve(b"") as server:
        url = server.url
    with pytest.raises(OSError, match="no connection") as caught:
        pthparse.open(url)
    assert caught.value.errno == errno.ECONNREFUSED and caught.value.filename == url
    with pytest.raises(OSError, match="not a URL"):
        pthparse.open("http://127.0.0.1:99999999/x")


# ---- URLs ----


@pytest.mark.parametrize("text", ["https://h/x", "s3://b/k", "HF://a/b", "simplecache::https://h/x", "git+ssh://h"])
def test_what_is_a_url(text: str) -> None:
    assert is_url(text) and not is_url(Path(text)) and not is_url(text.encode())


@pytest.mark.parametrize(
    "text",
    ["", "x.pth", "C:/x", "C://x", "c:\\x", "/a/b", "://x", "a b://x", "1a://x", "é://x", "aa:://x", "https:/x"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert not is_url(text)


def test_a_path_is_never_a_url() -> None:
    """Only text that is given is: names that are made of a file's contents come as paths."""
    with serve(SMALL) as server:
        with pytest.raises(FileNotFoundError):
            open_source(Path(server.url))
        assert isinstance(open_source(server.url.encode()), MemorySource)  # bytes are a file's contents
        assert server.asked == []


def test_an_index_names_no_url(tmp_path: Path) -> None:
    with serve(SMALL) as server:
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": {"w": server.url}}))
        report = pthparse.audit(index)
        assert report.verdict == "malformed" and {f.code for f in report.findings} == {"shard-name"}
        assert pthparse.audit(tmp_path).verdict == "malformed"
        assert server.asked == []
    # Nor does one that is far away.
    with serve(index.read_bytes()) as server:
        url = server.url.replace("model.pth", "model.bin.index.json")
        report = pthparse.audit(url)
        assert {f.code for f in report.findings} == {"shard-name"} and report.verdict == "malformed"
        assert set(server.paths) == {"/model.bin.index.json"} and len(server.asked) <= 2


def test_nothing_beside_a_url_is_fetched() -> None:
    with serve(SMALL) as server, pthparse.open(server.url) as ckpt:
        server.reset()
        assert ckpt.plan().to_dict()["parameters"] == 3000
        assert server.asked == []


def test_secrets_are_not_shown() -> None:
    assert shown("https://user:word@host:8/a/b.pth?X-Signature=1#f") == "https://host:8/a/b.pth?..."
    assert shown("https://token@host") == "https://host"
    assert shown("s3://key:word@bucket/x?v=1") == "s3://bucket/x?v=1"
    assert shown("hf://user/repo@main/x") == "hf://user/repo@main/x" and shown("hf://gpt2@main/x") == "hf://gpt2@main/x"
    with serve(SMALL) as server:
        url = server.url.replace("//", "//me:secret@") + "?signature=secret"
        with pthparse.open(url) as ckpt:
            assert ckpt.path == server.url + "?..."
        assert server.headers[0]["Authorization"].startswith("Basic ")
        report = pthparse.audit(url)
        assert "secret" not in report.to_json() and "secret" not in json.dumps(report.to_sarif())
        assert server.url in json.dumps(report.to_sarif()) or not report.findings
        server.answer = status(404)
        with pytest.raises(FileNotFoundError) as caught:
            pthparse.open(url)
        assert "secret" not in str(caught.value)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b%.pth"
    path.write_bytes(SMALL)
    for url in (path.as_uri(), path.as_uri().replace("file://", "FILE://localhost")):
        with pthparse.open(url) as ckpt:
            assert isinstance(ckpt._box.source, FileSource) and ckpt.path == str(path)
    with pytest.raises(pthparse.UnsupportedError, match="another machine"):
        pthparse.open("file://host/x.pth")


def test_the_command_takes_urls(capsys: pytest.CaptureFixture[str]) -> None:
    with serve(LESSON) as server:
        for verb in ("ls", "capacity", "stats"):
            assert main([verb, "--json", str(LESSON)]) == 0
            here = json.loads(capsys.readouterr().out)
            assert main([verb, "--json", server.url]) == 0
            there = json.loads(capsys.readouterr().out)
            assert {k: v for k, v in here.items() if k not in ("file", "path")} == {
                k: v for k, v in there.items() if k not in ("file", "path")
            }
        assert main([server.url]) == 0 and "audit: clean" in capsys.readouterr().out
        assert main(["verify", server.url]) == 0 and capsys.readouterr().out.startswith(f"OK         {server.url}")
        assert main(["audit", server.url]) == 0 and capsys.readouterr().out.startswith(f"CLEAN      {server.url}")
        assert main(["show", server.url, "fc.bias[0:2]"]) == 0


# ---- other protocols ----


class Odd:
    """A filesystem that answers as it is told."""

    def __init__(self, info: Any, data: Any = b"") -> None:
        self._info, self._data = info, data

    def info(self, name: str) -> Any:
        if isinstance(self._info, Exception):
            raise self._info
        return self._info

    def cat_file(self, name: str, start: int, end: int) -> bytes:
        if isinstance(self._data, Exception):
            raise self._data
        return bytes(self._data)

    def invalidate_cache(self, name: str) -> None:
        pass


def test_other_protocols() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe("/pthparse/x.pth", SMALL)
    try:
        with pthparse.open("memory://pthparse/x.pth") as ckpt:
            assert (ckpt["w"].numpy() == DATA).all() and ckpt.path == "memory://pthparse/x.pth"
            assert ckpt.verify().verdict == "ok"
        with pthparse.open("memory://pthparse/x.pth") as ckpt:
            fs.pipe("/pthparse/x.pth", SMALL[:6000])
            with pytest.raises(pthparse.TruncatedError, match="file-changed"):
                ckpt["w"].numpy()
            assert ckpt.verify().verdict == "unknown"
            fs.rm("/pthparse/x.pth")
            assert ckpt._box.source.changed()
        with pytest.raises(FileNotFoundError) as missing:
            pthparse.open("memory://pthparse/x.pth")
        assert missing.value.strerror == "No such file or directory"
        assert missing.value.filename == "memory://pthparse/x.pth"
        with pytest.raises(pthparse.UnsupportedError, match="directory"):
            pthparse.open("memory://")
    finally:
        fs.store.clear()


def test_asynchronous_protocols_and_chains(tmp_path: Path) -> None:
    with serve(SMALL) as server:
        url = f"simplecache::{server.url}"
        with pthparse.open(url) as ckpt:
            assert (ckpt["w"].numpy() == DATA).all() and ckpt.path == url
        fs, _ = __import__("fsspec").core.url_to_fs(server.url)
        wire = filesystem.FilesystemWire(fs, server.url, "x")  # its own way to ask for ranges
        buffers = [bytearray(100), bytearray(5000)]
        wire.fetch([(7, memoryview(buffers[0])), (200, memoryview(buffers[1]))])
        assert [bytes(b) for b in buffers] == [SMALL[7:107], SMALL[200:5200]]
        server.answer = status(404)
        with pytest.raises(FileNotFoundError, match="x"):
            wire.fetch([(7, memoryview(buffers[0]))])


@pytest.mark.parametrize(
    ("fs", "error", "words"),
    [
        (Odd({"size": None, "type": "file"}), pthparse.UnsupportedError, "size is not known"),
        (Odd({"type": "directory"}), pthparse.UnsupportedError, "a directory"),
        (Odd(KeyError("x")), OSError, "KeyError: 'x'"),
        (Odd(PermissionError("no\x1b[2J")), PermissionError, r"no\\x1b\[2J"),
        (Odd({"size": 10}, b"12"), pthparse.TruncatedError, "10 bytes are wanted, 2 are there"),
        (Odd({"size": 10}, bytes(100)), OSError, "10 bytes were asked for, 100 came"),
        (Odd({"size": 10}, TimeoutError()), TimeoutError, "no answer in time"),
        (Odd({"size": 10}, RuntimeError("x")), OSError, "RuntimeError: x"),
    ],
)
def test_faults_of_filesystems(fs: Odd, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        cache.RemoteSource(filesystem.FilesystemWire(fs, "x", "odd://x"), "odd://x").window(0, 10)


def test_a_protocol_that_reads_ahead_is_kept_from_it() -> None:
    from fsspec import AbstractFileSystem
    from fsspec.spec import AbstractBufferedFile

    fetched = []

    class File(AbstractBufferedFile):
        def _fetch_range(self, start: int, end: int) -> bytes:
            fetched.append((start, end))
            return SMALL[start:end]

    class Files(AbstractFileSystem):
        protocol = "hf"  # one of those that are asked several times at once

        def info(self, path: str, **how: Any) -> dict[str, Any]:
            return {"name": path, "size": len(SMALL), "type": "file"}

        def _open(self, path: str, mode: str = "rb", **how: Any) -> Any:
            return File(self, path, mode, **{k: v for k, v in how.items() if k != "block_size"})

    source = cache.RemoteSource(filesystem.FilesystemWire(Files(skip_instance_cache=True), "x", "x"), "x")
    box = read(source, pthparse.Limits())
    assert box.format == "zip" and sum(end - begin for begin, end in fetched) <= 2 * 4096 + 1024
    fetched.clear()
    wire = source._wire
    buffers = [memoryview(bytearray(n)) for n in (10, 20, 30)]
    wire.fetch([(100 * n, into) for n, into in enumerate(buffers)])  # type: ignore[union-attr]
    assert [bytes(b) for b in buffers] == [SMALL[:10], SMALL[100:120], SMALL[200:230]]
    assert sorted(fetched) == [(0, 10), (100, 120), (200, 230)]


def test_archives_that_are_aligned_to_pages() -> None:
    """Their local headers are longer than those of most: found out once, not for each."""
    rows, at = [], 0
    data = {f"archive/data/{i}": np.full(50_000, i, np.float32).tobytes() for i in range(40)}
    root = p.pickle(p.dict_of({f"w{i}": p.vector(str(i), 50_000) for i in range(40)}))
    for name, held in {"archive/data.pkl": root, **data, "archive/version": b"3\n"}.items():
        padding = -(at + 34 + len(name)) % 4096
        extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
        rows.append(Entry(name, held, local_extra=extra))
        at += 30 + len(name) + len(extra) + len(held)
    whole = build(rows)
    with serve(whole) as server:
        report = pthparse.audit(server.url)
        assert told(report) == told(pthparse.audit(whole))
        assert len(server.asked) < 90 and server.sent < 500_000
        assert told(pthparse.verify(server.url)) == told(pthparse.verify(whole))


def test_what_cannot_be_a_protocol() -> None:
    with pytest.raises(pthparse.UnsupportedError, match=r"nosuch.*\[url\]"):
        pthparse.open("nosuch://x/y")
    assert pthparse.audit("nosuch://x/y").verdict == "incomplete"


ABSENT = """
import sys
for name in {absent!r}: sys.modules[name] = None
import pthparse
try:
    pthparse.open({url!r})
except pthparse.UnsupportedError as e:
    print(e)
"""


@pytest.mark.parametrize(
    ("absent", "url", "words"),
    [
        (["fsspec"], "https://h/x", "https:// needs fsspec: pip install 'pthparse[remote]'"),
        (["fsspec"], "s3://h/x", "s3:// needs fsspec: pip install 'pthparse[remote]'"),
        (["aiohttp"], "https://h/x", "https:// needs aiohttp: pip install 'pthparse[remote]'"),
        (["s3fs"], "s3://h/x", "s3:// needs s3fs: pip install s3fs"),
        (["huggingface_hub"], "hf://h/x", "hf:// needs huggingface_hub: pip install huggingface_hub"),
        (["dropboxdrivefs"], "dropbox://h/x", "dropbox:// needs a package: "),
    ],
)
def test_a_package_that_is_missing_is_named(absent: list[str], url: str, words: str) -> None:
    done = subprocess.run([sys.executable, "-c", ABSENT.format(absent=absent, url=url)], capture_output=True, text=True)
    assert words in done.stdout and "[remote-extra]" in done.stdout, done.stderr


def test_local_files_need_none_of_it() -> None:
    asked = "c.stats(); c.audit(); c.verify()"
    code = f"import sys, pthparse; c = pthparse.open({str(LESSON)!r}); {asked}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pthparse.verifier" in loaded
    assert not {"fsspec", "aiohttp", "asyncio", "ssl", "pthparse.remote"} & set(loaded)
