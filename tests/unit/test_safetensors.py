"""Safetensors files: what a sound one gives, and each way to be none."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forge import hostile, zips
from forge import pickles as p
from forge import safetensors as st

import pthparse
from pthparse import _core, cli

W = np.arange(6, dtype=np.float32)
SOUND = {
    "__metadata__": {"format": "pt", "note": "a\nb"},
    "b": st.entry("F32", [2, 3], [0, 24]),
    "a.x": st.entry("I64", [], [24, 32]),
    "none": st.entry("U8", [0, 7], [32, 32]),
}
DATA = W.tobytes() + np.int64(-5).tobytes()


def code(data: bytes, **how: Any) -> str:
    with pytest.raises(pthparse.PthError) as e:
        pthparse.open(data, **how)
    return e.value.code


def findings(data: bytes) -> list[str]:
    with pthparse.open(data) as ckpt:
        assert sum(entry.nbytes for entry in ckpt.capacity().ledger()) == len(data)
        return [f.code for f in ckpt.findings]


# ---- sound files ----


@pytest.mark.parametrize("mmap", [True, False])
def test_sound(mmap: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data := st.build(SOUND, DATA))
    ckpt = pthparse.open(path, mmap=mmap)
    start = len(data) - len(DATA)
    assert ckpt.format == "safetensors" and not ckpt.findings and not ckpt.errors and not ckpt.globals
    assert list(ckpt) == ["b", "a.x", "none"]  # as in the header
    b = ckpt["b"]
    assert (b.shape, b.stride, b.dtype, b.kind, b.device) == ((2, 3), (3, 1), "float32", "dense", "cpu")
    assert np.array_equal(b.numpy(), W.reshape(2, 3)) and b.numpy().flags.owndata is False
    assert b.storage == pthparse.Storage("b", 24, start, ("b",), "float32", "cpu")
    assert ckpt["a.x"].numpy() == -5 and ckpt["a.x"].storage.file_offset == start + 24
    assert ckpt["none"].numpy().shape == (0, 7)
    assert dict(ckpt.metadata) == dict(ckpt.root_values) == {"format": "pt", "note": "a\nb"}
    assert list(ckpt.root) == list(ckpt) and np.array_equal(ckpt.root["b"].numpy(), b.numpy())
    assert ckpt.writer.text == "safetensors, from torch" and ckpt.writer.protocol == 0
    assert [(m.name, m.offset, m.nbytes) for m in ckpt.members] == [
        ("header", 0, start), ("tensor b", start, 24), ("tensor a.x", start + 24, 8), ("tensor none", start + 32, 0),
    ]  # fmt: skip
    copy = b.numpy(copy=True)
    copy[0, 0] = 9
    assert b.numpy()[0, 0] == 0
    ckpt.close()
    with pytest.raises(pthparse.PthError, match="closed"):
        b.numpy()


def test_every_byte_has_its_kind() -> None:
    data = st.build(st.dumped(SOUND) + b"   ", DATA)
    ledger = {e.kind: e.nbytes for e in pthparse.open(data).capacity().ledger()}
    assert ledger.pop("names and headers") == len(data) - len(DATA) - 3
    assert ledger.pop("alignment padding") == 3 and ledger.pop("tensor data") == len(DATA)
    assert set(ledger.values()) == {0}


def test_audit_and_verify() -> None:
    data = st.build(SOUND, DATA)
    report = pthparse.audit(data)
    assert (report.verdict, report.format, report.tensors, report.n_globals, report.findings) == (
        "clean", "safetensors", 3, 0, (),
    )  # fmt: skip
    assert pthparse.open(data).audit() == report
    verified = pthparse.verify(data)
    assert verified.ok and verified.whole == ("b", "a.x", "none") and verified.checked_nbytes == 0
    assert {m.status for m in verified.members} == {"unchecked"}


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m"
    path.write_bytes(st.build(SOUND, DATA))
    shown = {}
    for verb in (["info"], ["ls"], ["show", "b[0]"], ["show", "note"], ["stats"], ["capacity"], ["audit"], ["verify"]):
        assert cli.main([verb[0], str(path), *verb[1:]]) == 0, verb
        shown[" ".join(verb)] = capsys.readouterr().out
    assert "safetensors checkpoint, safetensors, from torch (inferred)\n" in shown["info"]
    assert "values: format = 'pt', note = 'a\\nb'" in shown["info"] and "audit: clean" in shown["info"]
    assert "[2, 3]" in shown["ls"] and "2." in shown["show b[0]"] and r"a\nb" in shown["show note"]
    assert "CLEAN" in shown["audit"] and "OK" in shown["verify"] and "names and headers" in shown["capacity"]
    assert cli.main(["info", "--json", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["pickle_nbytes"], told["parameters"], told["metadata"]["format"]) == (
        "safetensors", 0, 7, "pt",
    )  # fmt: skip


def test_statistics() -> None:
    found = pthparse.open(st.build(SOUND, DATA)).stats()
    assert (found["b"].mean, found["b"].max, found["a.x"].min) == (2.5, 5.0, -5)


SIZES = {name: bits for name, (_, bits) in _core.SAFETENSORS.items()}


@pytest.mark.parametrize("name", SIZES)
def test_dtypes(name: str) -> None:
    index, bits = _core.SAFETENSORS[name]
    raw = bytes(range(16 * bits // 8))
    ckpt = pthparse.open(st.build({"w": st.entry(name, [2, 8], [0, len(raw)])}, raw))
    t = ckpt["w"]
    if name.startswith("F6_"):
        with pytest.raises(pthparse.UnsupportedError, match=r"'w': elements of 6 bits") as e:
            t.numpy()
        assert e.value.code == "safetensors-packed" and t.shape == (2, 8)
        assert ckpt.audit().verdict == "review" and pthparse.verify(st.build({}, b"")).ok
        return
    assert t.dtype == _core.DTYPES[index][0] and t.shape == ((2, 4) if name == "F4" else (2, 8))
    assert t.numpy().tobytes() == raw and not t.numpy().flags.owndata and ckpt.audit().verdict == "clean"


def test_order_of_the_header_need_not_be_that_of_the_data() -> None:
    data = st.build({"z": st.entry(offsets=[4, 8]), "a": st.entry(offsets=[0, 4])}, W[:2].tobytes())
    ckpt = pthparse.open(data)
    assert [(n, t.numpy()[0]) for n, t in ckpt.items()] == [("z", 1.0), ("a", 0.0)]
    assert not ckpt.findings and ckpt.audit().verdict == "clean"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "0",
        "17",
        "__metadata",
        "a/b",
        "\u00e9\u20ac\U0001f600",
        "\x00\x1b[31m\n",
        "x" * 5000,
        '"\\',
        "\u2028",
        "../../x",
        "#2",
    ],
)
def test_odd_names(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for ascii_only in (True, False):
        header = json.dumps({name: st.entry(), "w": st.entry(offsets=[4, 8])}, ensure_ascii=ascii_only).encode()
        data = st.build(header, W[:2].tobytes())
        ckpt = pthparse.open(data)
        assert list(ckpt) == [name, "w"] and ckpt["w"].numpy() == 1 and ckpt[name].numpy() == 0
        assert ckpt[name].storage.tensors == (name,) and ckpt.audit().verdict == "clean"
    (tmp_path / "m").write_bytes(data)
    assert cli.main(["ls", str(tmp_path / "m")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\0" not in out


def test_escapes_in_every_text() -> None:
    raw = rb'{"\u0061\ud83d\ude00\/\b\f\n\r\t":{"\u0064type":"F\u00332","sh\u0061pe":[1],"data_offsets":[0,4]},'
    raw += rb'"__metadat\u0061__":{"\u00e9":"\u20ac\\"}}'
    ckpt = pthparse.open(st.build(raw, W[1:2].tobytes()))
    assert list(ckpt) == ["a\U0001f600/\b\f\n\r\t"] and next(iter(ckpt.values())).numpy() == 1
    assert dict(ckpt.metadata) == {"\u00e9": "\u20ac\\"}


def test_spaces_wherever_json_has_them() -> None:
    raw = b'{ \n"w" :\t{ "shape" : [ 1 , 2 ] ,\r"dtype" : "U8" , "data_offsets" : [ 0 , 2 ] } , '
    raw += b'"__metadata__" : { } } \n\t\r '
    assert pthparse.open(st.build(raw, b"ab"))["w"].numpy().tolist() == [[97, 98]]


def test_nothing_but_a_header() -> None:
    for header in (b"{}", b"{ }  ", b'{"__metadata__":{"a":"b"}}'):
        ckpt = pthparse.open(st.build(header))
        assert len(ckpt) == 0 and not ckpt.findings and pthparse.audit(st.build(header)).verdict == "clean"


# ---- what no reader takes ----

ENTRY = st.dumped(st.entry()).decode()
SYNTAX = {
    "not closed": '{"w":' + ENTRY,
    "closed twice": '{"w":' + ENTRY + "}}",
    "comma at the end": '{"w":' + ENTRY + ",}",
    "no comma": '{"w":' + ENTRY + '"v":' + ENTRY + "}",
    "no colon": '{"w"' + ENTRY + "}",
    "key without quotes": '{ "w":' + ENTRY + ",w:" + ENTRY + "}",
    "single quotes": '{ "a":' + ENTRY + ",'w':" + ENTRY + "}",
    "a comment": '{"w":/**/' + ENTRY + "}",
    "nul behind": '{"w":' + ENTRY + "}\0",
    "text behind": '{"w":' + ENTRY + "}x",
    "raw newline in a name": '{"w\n":' + ENTRY + "}",
    "bad escape": '{"\\x41":' + ENTRY + "}",
    "short escape": '{"\\u00g1":' + ENTRY + "}",
    "escape at the end": '{"\\',
    "text at the end": '{"w',
    "half a pair": '{"\\ud800":' + ENTRY + "}",
    "half a pair and a letter": '{"\\ud800\\u0041":' + ENTRY + "}",
    "half a pair and a bell": '{"\\ud800\\n":' + ENTRY + "}",
    "other half": '{"\\udc00":' + ENTRY + "}",
    "tensor is a number": '{"w":1}',
    "tensor is null": '{"w":null}',
    "tensor is a list": '{"w":["F32",[1],[0,4]]}',
    "deep": '{"w":' + "[" * 100_000,
    "deep in metadata": '{"__metadata__":' + '{"a":' * 100_000,
    "hexadecimal": '{"w":{"dtype":"F32","shape":[0x1],"data_offsets":[0,4]}}',
    "dtype is a number": '{"w":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}',
    "shape is a number": '{"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}',
    "one offset": '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}}',
    "three offsets": '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}',
    "metadata is a list": '{"__metadata__":["a"]}',
    "metadata is null": '{"__metadata__":null}',
    "number in metadata": '{"__metadata__":{"a":1}}',
    "true in metadata": '{"__metadata__":{"a":true}}',
    "object in metadata": '{"__metadata__":{"a":{}}}',
}


@pytest.mark.parametrize("name", SYNTAX)
def test_other_json(name: str) -> None:
    data = st.build(SYNTAX[name].encode(), bytes(4))
    assert code(data) == "safetensors-json"
    report = pthparse.audit(data)
    assert (report.verdict, report.format) == ("malformed", "safetensors")
    assert pthparse.verify(data).verdict == "damaged"


def test_the_byte_of_an_error() -> None:
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(st.build(b'{"w":1}', b""))
    assert e.value.offset == 8 + 5


NUMBERS = [
    "[" * 100_000, "-1", "-0", "1.0", "1e0", "1E2", "0.", "01", "00", "true", "null", '"1"', "+1",
    "9223372036854775808", "1" + "0" * 30, "1" * 5000, "NaN", "[1]", "",
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n[:20])
@pytest.mark.parametrize("where", ["shape", "begin", "end"])
def test_no_number(number: str, where: str) -> None:
    shape, begin, end = (number if where == w else d for w, d in (("shape", "1"), ("begin", "0"), ("end", "4")))
    raw = f'{{"w":{{"dtype":"F32","shape":[{shape},1],"data_offsets":[{begin},{end}]}}}}'
    assert code(st.build(raw.encode(), bytes(4))) == "safetensors-number"


def test_an_offset_beyond_any_file() -> None:
    assert code(st.build({"w": st.entry("U8", [1], [0, (1 << 63) - 1])}, b"a")) == "safetensors-number"
    assert code(st.build({"w": st.entry("U8", [1], [0, 1 << 62])}, b"a")) == "safetensors-extent"


@pytest.mark.parametrize(
    "header",
    [
        [("w", [("dtype", "F32"), ("shape", [1])])],
        [("w", [("dtype", "F32"), ("data_offsets", [0, 4])])],
        [("w", [("shape", [1]), ("data_offsets", [0, 4])])],
        [("w", {})],
        [("w", st.entry(more=1))],
        b'{"w":' + b'{"a":' * 100_000,
        [("w", [*st.entry().items(), ("dtype", "F32")])],
        [("w", [*st.entry().items(), ("shape", [1])])],
        [("w", [*st.entry().items(), ("data_offsets", [0, 4])])],
        [("__metadata__", {}), ("w", st.entry()), ("__metadata__", {})],
    ],
    ids=str,
)
def test_fields_each_once(header: Any) -> None:
    assert code(st.build(header, bytes(4))) == "safetensors-field"


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"])
def test_no_utf8(raw: bytes) -> None:
    data = st.build(b'{"' + raw + b'":' + ENTRY.encode() + b"}", bytes(4))
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(data)
    assert (e.value.code, e.value.offset) == ("safetensors-utf8", 10)


# ---- the length, and the end of the file ----


def test_a_header_longer_than_allowed() -> None:
    data = st.build(SOUND, DATA)
    assert code(data, limits=pthparse.Limits(max_header_bytes=100)) == "max_header_bytes"
    long = st.build(b"{}", b"", length=100_000_001)
    assert code(long) == "max_header_bytes" and pthparse.audit(long).verdict == "incomplete"
    assert code(st.build(b"{}", b"", length=100_000_000)) == "safetensors-cut"
    assert code(st.build(b'{"', b"", length=1 << 40)) == "not-a-checkpoint"
    assert code(data, limits=pthparse.Limits(max_names=2)) == "max_names"


def test_cut_in_the_header() -> None:
    data = st.build(SOUND, DATA)
    for n in (9, 20, len(data) - len(DATA) - 1):
        with pytest.raises(pthparse.TruncatedError) as e:
            pthparse.open(data[:n])
        assert e.value.code == "safetensors-cut" and pthparse.verify(data[:n]).verdict == "truncated"


def test_cut_in_the_data() -> None:
    data = st.build(SOUND, DATA)[:-5]
    with pytest.raises(pthparse.TruncatedError, match=r"open\(\.\.\., salvage=True\)") as e:
        pthparse.open(data)
    assert e.value.code == "safetensors-extent"
    ckpt = pthparse.open(data, salvage=True)
    assert list(ckpt.errors) == ["a.x", "none"] or list(ckpt.errors) == ["a.x"]
    assert ckpt["b"].numpy().tolist() == W.reshape(2, 3).tolist() and [f.code for f in ckpt.findings] == ["salvaged"]
    with pytest.raises(pthparse.TruncatedError):
        ckpt["a.x"].numpy()
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    report = pthparse.verify(data)
    assert (report.verdict, report.missing_nbytes) == ("truncated", 5) and "b" in report.whole
    assert pthparse.audit(data).verdict == "malformed"


def test_a_file_cut_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(data := st.build(SOUND, DATA))
    ckpt = pthparse.open(path, mmap=False)
    path.write_bytes(data[:-20])
    with pytest.raises(pthparse.TruncatedError):
        ckpt["b"].numpy()
    assert "file-changed" in {f.code for f in ckpt.audit().findings}


# ---- what two readers could see differently ----


def test_a_hole() -> None:
    for offsets in ([4, 8], [1, 5]):
        data = st.build({"w": st.entry(offsets=offsets)}, bytes(offsets[1]))
        assert findings(data) == ["safetensors-hole"] and pthparse.audit(data).verdict == "malformed"
        assert pthparse.open(data)["w"].numpy() == 0 and pthparse.verify(data).verdict == "damaged"


def test_a_hole_between_two() -> None:
    data = st.build({"v": st.entry(offsets=[8, 12]), "w": st.entry()}, W[:3].tobytes())
    assert findings(data) == ["safetensors-hole"] and pthparse.open(data)["v"].numpy() == 2
    (finding,) = pthparse.open(data).findings
    assert finding.offset == len(data) - 8 and finding.message.startswith("4 bytes")


@pytest.mark.parametrize("other", [[0, 4], [2, 6], [1, 2], [4, 4]])
def test_an_overlap(other: list[int]) -> None:
    size = other[1] - other[0]
    header = {"w": st.entry("U8", [6], [0, 6]), "v": st.entry("U8", [size], other)}
    data = st.build(header, bytes(range(6)))
    assert findings(data) == ["safetensors-overlap"] and pthparse.audit(data).verdict == "malformed"
    assert pthparse.open(data)["v"].numpy().tolist() == list(range(*other))


def test_bytes_behind() -> None:
    data = st.build(SOUND, DATA + b"\0")
    assert findings(data) == ["safetensors-trailing"] and pthparse.audit(data).verdict == "malformed"


def test_one_name_twice() -> None:
    header = [
        ("w", st.entry()),
        ("w", st.entry(offsets=[4, 8])),
        ("v", st.entry(offsets=[8, 12])),
        ("w#2", st.entry(offsets=[12, 16])),
    ]
    data = st.build(header, W[:4].tobytes())
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w", "w#3", "v", "w#2"] and list(ckpt.errors) == ["w", "w#3"]
    assert {e.code for e in ckpt.errors.values()} == {"safetensors-duplicate"} and ckpt["v"].numpy() == 2
    report = pthparse.audit(data)
    assert report.verdict == "malformed" and [f.code for f in report.findings] == ["safetensors-duplicate"]
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    for names in (["3", "3"], ["a" * 5000] * 2, ["\u00e9", "\\u00e9"]):
        raw = ",".join(f'"{n}":{ENTRY}' for n in names).join("{}").encode()
        assert len(pthparse.open(st.build(raw, bytes(4))).errors) == 2


def test_metadata_twice() -> None:
    data = st.build([("__metadata__", [("a", "1"), ("a", "2")])])
    assert findings(data) == ["safetensors-metadata"] and pthparse.audit(data).verdict == "malformed"


WRONG = {
    "safetensors-size": [("F32", [2], [0, 4]), ("F32", [], [0, 8]), ("F32", [0], [0, 4]), ("U8", [3], [0, 4])],
    "safetensors-offsets": [("F32", [1], [8, 4]), ("F32", [0], [1, 0]), ("F32", [1] * 1025, [8, 4])],
    "safetensors-bits": [("F4", [1], [0, 1]), ("F6_E2M3", [3], [0, 2])],
    "safetensors-halves": [("F4", [4, 1], [0, 2]), ("F4", [2, 3], [0, 3])],
    "safetensors-dtype": [("F31", [1], [0, 4]), ("", [1], [0, 4]), ("f32", [1], [0, 4]), ("F32\0", [1], [0, 4])],
    "tensor-overflow": [
        ("F32", [1 << 62, 4], [0, 0]),
        ("F32", [1 << 40, 1 << 40, 0], [0, 0]),
        ("F32", [1 << 61], [0, 0]),
    ],
    "max_ndim": [("F32", [1] * 1025, [0, 4])],
}


@pytest.mark.parametrize(
    ("expected", "row"), [(c, r) for c, rows in WRONG.items() for r in rows], ids=lambda x: str(x)[:30]
)
def test_a_wrong_tensor_among_sound_ones(expected: str, row: Any) -> None:
    header = {"w": st.entry(*row), "v": st.entry("U8", [8], [row[2][1], row[2][1] + 8])}
    data = st.build(header, bytes(row[2][1] + 8))
    ckpt = pthparse.open(data)
    assert list(ckpt.errors) == ["w"] and ckpt.errors["w"].code == expected and ckpt["v"].numpy().size == 8
    with pytest.raises(pthparse.PthError) as e:
        ckpt["w"].numpy()
    assert e.value.code == expected and e.value.message.startswith("tensor 'w': ")
    report = pthparse.audit(data)
    severity = {"UnsupportedError": "review", "LimitError": "incomplete"}.get(type(e.value).__name__, "malformed")
    assert [f.message[:11] for f in report.findings if f.code == expected] == ["tensor 'w':"]
    assert report.verdict in (severity, "malformed")
    assert sum(entry.nbytes for entry in ckpt.capacity().ledger()) == len(data)
    assert ckpt.stats().errors.keys() == {"w"} and repr(ckpt["w"]).startswith("<Tensor 'w'")


def test_more_dimensions_than_numpy_has() -> None:
    ckpt = pthparse.open(st.build({"w": st.entry("F32", [1] * 100, [0, 4])}, bytes(4)))
    assert ckpt["w"].shape == (1,) * 100
    with pytest.raises(pthparse.UnsupportedError, match="100 dimensions"):
        ckpt["w"].numpy()


def test_a_budget_of_memory() -> None:
    header = {f"layer.{i}": st.entry("U8", [0], [0, 0]) for i in range(2000)}
    assert code(st.build(header), limits=pthparse.Limits(max_arena_bytes=50_000)) == "max_arena_bytes"


# ---- other formats inside, around and instead ----


def test_a_pickle_that_is_a_sound_file_too() -> None:
    data = st.polyglot(hostile.BAD)
    report = pthparse.audit(data)
    assert report.verdict == "dangerous" and "two-formats" in {f.code for f in report.findings}
    assert ("posix", "system") in {(g.module, g.name) for g in report.globals}
    with pthparse.open(data) as ckpt:
        assert (
            ckpt.audit().verdict == "dangerous"
            and not ckpt.globals
            and ckpt.capacity().parameters == len(data) - 7768 - 8
        )


@pytest.mark.parametrize("place", ["behind", "hole"])
def test_what_lies_between(place: str) -> None:
    evil = hostile.BAD
    at = [0, 4] if place == "behind" else [len(evil), len(evil) + 4]
    body = bytes(4) + evil if place == "behind" else evil + bytes(4)
    report = pthparse.audit(st.build({"w": st.entry(offsets=at)}, body))
    assert report.verdict == "dangerous"
    assert {"embedded", "safetensors-trailing" if place == "behind" else "safetensors-hole"} <= {
        f.code for f in report.findings
    }


def test_inside_of_a_zip() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        z.writestr("model.safetensors", st.build({"w": st.entry(offsets=[4, 8])}, bytes(8)))
    report = pthparse.audit(out.getvalue())
    assert ("safetensors-hole", "model.safetensors") in {(f.code, f.member) for f in report.findings}


def test_numbers_that_begin_alike_are_no_such_file() -> None:
    """A storage that nothing refers to is looked into; a broken header there is nothing to tell of."""
    numbers = np.array([40, 0x227B, 3], dtype=np.int64).tobytes()
    data = zips.checkpoint(p.pickle(p.NONE), {"0": numbers})
    assert {f.code for f in pthparse.audit(data).findings} == {"zip-unused"}


def test_a_tar_that_begins_alike() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("x"))
    block = bytearray(out.getvalue())
    block[:10] = (500).to_bytes(8, "little") + b'{"'
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    assert "two-formats" in {f.code for f in pthparse.audit(bytes(block)).findings}


def test_a_directory_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(st.build(SOUND, DATA))
    report = pthparse.audit(tmp_path)
    assert report.verdict == "clean" and [f.format for f in report.files] == ["safetensors"]
    (tmp_path / "b.safetensors").write_bytes(st.build(SOUND, DATA + b"x"))
    assert pthparse.audit(tmp_path).verdict == "malformed"
