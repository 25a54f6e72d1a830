"""Packages made by hand: names, several pickles, and what lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from forge import legacy, zips
from forge import pickles as p
from forge.packages import ONES, build, resource, tensor
from forge.web import serve

import pthparse

DICT = resource(p.dict_of({"w": tensor()}))
REDUCER = p.tuple_of(
    [p.text("reduce_package"), p.integer(1 << 40), p.glob("my.code", "make"), p.tuple_of([p.text("0")])]
)


def values(ckpt: pthparse.Checkpoint) -> dict[str, list[float]]:
    return {name: t.numpy().tolist() for name, t in ckpt.items()}


def test_one_pickle_is_the_root() -> None:
    ckpt = pthparse.open(build({"model/model.pkl": DICT}))
    assert (ckpt.format, values(ckpt), dict(ckpt.errors), ckpt.findings) == ("package", {"w": [1, 2, 3, 4]}, {}, ())
    assert list(ckpt.root) == ["w"] and ckpt.writer.text == "torch.package, Python 3.11.7"
    assert ckpt.writer.evidence[1] == "imported from elsewhere: torch, collections, my, os"
    assert ckpt["w"].storage is not None and ckpt["w"].storage.key == "0"


def test_several_are_a_dict_of_their_names() -> None:
    other = resource(p.list_of([tensor(), tensor(12), p.integer(5)]))
    data = build({"a/x.pkl": DICT, "b/c/y": other, "b/z.pkl": resource(tensor(12, 1, 1))}, {"0": ONES, "12": ONES})
    ckpt = pthparse.open(data)
    assert values(ckpt) == {
        "a/x.pkl/w": [1, 2, 3, 4],
        "b/c/y/0": [1, 2, 3, 4],
        "b/c/y/1": [1, 2, 3, 4],
        "b/z.pkl": [1],
    }
    assert list(ckpt.root) == ["a/x.pkl", "b/c/y", "b/z.pkl"] and ckpt.metadata["b/c/y/2"] == 5
    assert ckpt["a/x.pkl/w"].storage == ckpt["b/c/y/0"].storage
    assert [s.names for s in ckpt.capacity().shared] == [("a/x.pkl/w", "b/c/y/0"), ("b/c/y/1", "b/z.pkl")]
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data) and ckpt.verify().ok
    # One storage of two sizes: each by itself is sound, torch loads each by itself.
    assert ckpt.audit().verdict == "review" and {f.code for f in ckpt.audit().findings} == {"storage-larger"}


def test_memo_and_stack_are_each_pickles_own() -> None:
    first = resource(p.once(p.text("theirs"), 0) + p.dict_of({"w": tensor()}) + p.put(1))
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(build({"a/x.pkl": resource(p.get(0))}))
    assert e.value.code == "pickle-memo"
    ckpt = pthparse.open(build({"a/x.pkl": first, "b/y.pkl": resource(p.get(0)), "c/z.pkl": DICT}))
    assert list(ckpt) == ["a/x.pkl/w", "c/z.pkl/w"]
    assert [(f.code, f.member) for f in ckpt.findings] == [("pickle-memo", "m/b/y.pkl")]
    memo = resource(p.text("own") + b"\x94" + p.POP + p.get(0), 4)
    ckpt = pthparse.open(build({"a/x.pkl": resource(p.text("first") + b"\x94", 4), "b/y.pkl": memo}))
    assert ckpt.root == {"a/x.pkl": "first", "b/y.pkl": "own"}


def test_the_models_own_tensors() -> None:
    note, second = resource(p.dict_of({"epoch": p.integer(3)})), {"0": ONES, "1": ONES}
    cases = {
        ("any/thing.pkl", "notes/note.pkl"): ["w"],
        ("model/model.pkl", "notes/note.pkl"): ["w"],
        ("model/model.pkl", "optim/optim.pkl"): ["w"],
        ("one/first.pkl", "two/second.pkl"): ["one/first.pkl/w", "two/second.pkl/w"],
        ("one/model.pkl", "two/model.pkl"): ["one/model.pkl/w", "two/model.pkl/w"],
    }
    for (a, b), names in cases.items():
        data = build({a: DICT, b: note if "note" in b else resource(p.dict_of({"w": tensor(1)}))}, second)
        assert list(pthparse.open(data).state_dict()) == names
    nested = resource(p.dict_of({"state_dict": p.dict_of({"w": tensor()}), "epoch": p.integer(3)}))
    assert list(pthparse.open(build({"a/m.pkl": nested, "b/n.pkl": note})).state_dict()) == ["w"]


def test_a_tensor_alone_is_named_as_its_pickle() -> None:
    ckpt = pthparse.open(build({"a/x.pkl": resource(tensor()), "b/y.pkl": resource(p.integer(5))}))
    assert list(ckpt) == list(ckpt.state_dict()) == ["a/x.pkl"] and ckpt.metadata["b/y.pkl"] == 5
    deep = tensor()
    for _ in range(900):
        deep = p.dict_of({"a": deep})
    ckpt = pthparse.open(build({"a": resource(deep), "a/a/a.pkl": resource(tensor())}))
    assert len(ckpt) == 2 and ckpt.capacity().parameters == 4


def test_convert_writes_what_the_model_is(tmp_path: Path) -> None:
    data = build(
        {"model/model.pkl": DICT, "optim/optim.pkl": resource(p.dict_of({"m": tensor(1)}))}, {"0": ONES, "1": ONES}
    )
    pthparse.convert(data, tmp_path / "m.safetensors")
    with pthparse.open(tmp_path / "m.safetensors") as ckpt:
        assert values(ckpt) == {"w": [1, 2, 3, 4]}


def module(cls: str, parameters: dict[str, bytes], modules: dict[str, bytes]) -> bytes:
    state = {"_parameters": p.dict_of(parameters), "_buffers": p.EMPTY_DICT, "_modules": p.dict_of(modules)}
    return p.glob(*cls.rsplit(".", 1)) + p.EMPTY_TUPLE + p.NEWOBJ + p.dict_of(state) + p.BUILD


def test_classes_may_have_the_names_that_an_importer_gives_them() -> None:
    inner = module("<torch_package_3>.my.net.Inner", {"weight": tensor(), "bias": tensor(12)}, {})
    net = module("<torch_package_0>.my.net.Net", {"scale": tensor(12)}, {"0": inner, "last": inner})
    data = build({"model/model.pkl": resource(net)}, {"0": ONES, "12": ONES})
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["scale", "0.weight", "0.bias", "last.weight", "last.bias"] and ckpt.whole_module
    two = build({"model/model.pkl": resource(net), "b/y.pkl": DICT}, {"0": ONES, "12": ONES})
    assert list(pthparse.open(two))[:2] == ["model/model.pkl/scale", "model/model.pkl/0.weight"]
    assert list(pthparse.open(two).state_dict()) == list(ckpt)
    report = pthparse.audit(data)
    assert report.verdict == "review" and {g.status for g in report.globals if "<" in g.module} == {"unknown"}


def test_folders_in_no_encoding() -> None:
    entries = [(".data/0.storage", ONES), ("a/x.pkl", DICT), (".data/extern_modules", b"torch\ncollections\n")]
    made = [zips.Entry("", data, flags=0, name_bytes=b"m\xe4/" + name.encode()) for name, data in entries]
    assert pthparse.open(zips.build(made))["w"].numpy().tolist() == [1, 2, 3, 4]


def test_code_alone() -> None:
    data = build({"my/code.py": b"import os\n"})
    ckpt = pthparse.open(data)
    assert list(ckpt) == [] and ckpt.root == {} and dict(ckpt.metadata) == {}
    assert ckpt.audit().verdict == "review" and ckpt.audit().code == ("m/my/code.py",)
    ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert ledger["code"] == 10 and ledger["unused storage"] == 16 and sum(ledger.values()) == len(data)


def test_what_torch_load_reads_is_no_package() -> None:
    data = build({"data.pkl": DICT, "data/0": ONES})
    assert pthparse.open(data).format == "zip"
    assert pthparse.open(build({"model/data.pkl": DICT})).format == "package"


def test_a_package_is_clean_only_without_code() -> None:
    assert pthparse.audit(build({"model/model.pkl": DICT})).verdict == "clean"
    for code in ({"my/code.py": b"x = 1\n"}, {"my/CODE.PY": b"x = 1\n"}, {".data/ts_code/code/a.py": b""}):
        report = pthparse.audit(build({"model/model.pkl": DICT, **code}))
        assert report.verdict == "review" and len(report.code) == 1
    for text in (b"collections\ntorch\n", b"tench\ngoldfish\n", b"{}.", b"\x80\x03}", b"hello"):
        report = pthparse.audit(build({"model/model.pkl": DICT, "notes/labels.txt": text}))
        assert report.verdict == "clean", text


def test_modules_that_an_importer_would_not_find() -> None:
    cases = {b"torch\ncollections\n": None, b"torch._utils\ntorch\n": "collections", b"\n": "collections"}
    for listed, lost in cases.items():
        report = pthparse.audit(build({"model/model.pkl": DICT}, extern_modules=listed))
        assert report.verdict == ("review" if lost else "clean")
        assert [(f.code, f.member) for f in report.findings] == [("zip-mark", "m/.data/extern_modules")] * bool(lost)
        assert all(repr(lost) in f.message for f in report.findings)
    own = resource(p.dict_of({"w": tensor(), "x": p.glob("own.code", "C")}))
    for code in ("own/code.py", "own/code/__init__.py"):
        findings = pthparse.audit(build({"model/model.pkl": own, code: b""})).findings
        assert {f.code for f in findings} == {"code"}


def test_marks_that_were_changed() -> None:
    data = build({"model/model.pkl": DICT})
    at = data.index(b"my\nos")
    report = pthparse.audit(data[:at] + b"your"[:2] + data[at + 2 :])
    assert report.verdict == "review" and [f.code for f in report.findings] == ["zip-crc"]
    for mark in ("extern_modules", "python_version"):
        report = pthparse.audit(build({"model/model.pkl": DICT}, **{mark: b"?\0"}))
        assert report.verdict == "review" and "zip-mark" in {f.code for f in report.findings}


def test_every_pickle_is_judged() -> None:
    command = p.call(p.glob("os", "system"), p.text("touch MARKER"))
    forms: dict[str, bytes] = {
        "a call": resource(p.dict_of({"w": tensor(), "x": command})),
        "without an end": resource(p.dict_of({"w": tensor(), "x": command}))[:-1],
        "a reducer": resource(
            p.tuple_of([p.text("reduce_package"), p.integer(1), p.glob("os", "system"), p.tuple_of([p.text("id")])])
            + p.BINPERSID
        ),
        "in the memo alone": resource(command + p.POP + p.NONE),
    }
    for name, body in forms.items():
        for where in ("b/second.pkl", "b/second", "b/second.txt", ".data/ts_code/0/data.pkl"):
            report = pthparse.audit(build({"a/first.pkl": DICT, where: body}))
            assert report.verdict == "dangerous", (name, where)
            assert any((g.module, g.name) == ("os", "system") for g in report.globals)
    for hidden in ("notes/note.txt", ".data/strange", ".data/extern_modules2", "byteorder2"):
        body = p.glob("os", "system") + p.tuple_of([p.text("id")]) + p.REDUCE
        assert pthparse.audit(build({"a/first.pkl": DICT, hidden: body})).verdict == "dangerous", hidden
    for mark in ("extern_modules", "python_version"):
        report = pthparse.audit(build({"a/first.pkl": DICT}, **{mark: b"cos\nsystem\n(S'id'\ntR."}))
        assert report.verdict == "dangerous" and "zip-mark" in {f.code for f in report.findings}


def test_a_reducer_is_told_and_never_called() -> None:
    data = build({"a/x.pkl": resource(p.dict_of({"w": tensor(), "r": REDUCER + p.BINPERSID}))})
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w"] and "my.code.make" in repr(ckpt.metadata["r"])
    report = pthparse.audit(data)
    assert report.verdict == "review" and [f.code for f in report.findings] == ["reducer"]
    for odd in (
        [p.text("reduce_package"), p.integer(1), p.text("os.system"), p.tuple_of([])],
        [p.text("reduce_package"), p.integer(1), p.glob("my", "f"), p.list_of([])],
        [p.text("something"), p.integer(1)],
    ):
        data = build({"a/x.pkl": resource(p.dict_of({"r": p.tuple_of(odd) + p.BINPERSID}))})
        assert pthparse.audit(data).verdict == "malformed"


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (7, "storage-missing"),
        (1 << 40, "storage-missing"),
        ((1 << 63) - 1, "storage-missing"),
        (1 << 63, "storage-id"),
        (1 << 4000, "storage-id"),
        (-1, "storage-id"),
        (p.TRUE, "storage-id"),
        (p.NONE, "storage-id"),
        (p.EMPTY_TUPLE, "storage-id"),
        (p.text("../secret"), "storage-missing"),
        (p.text("../../m/.data/0"), "storage-missing"),
        (p.text("/etc/passwd"), "storage-missing"),
        (p.text("0.storage.storage"), "storage-missing"),
        (p.text(""), "storage-missing"),
        (p.text("x" * 5000), "storage-missing"),
    ],
)
def test_keys_that_name_nothing(key: Any, code: str) -> None:
    data = build(
        {"a/x.pkl": resource(p.dict_of({"bad": tensor(key if isinstance(key, bytes) else long(key)), "w": tensor()}))},
        more=[zips.Entry("m/secret.storage", ONES), zips.Entry("secret.storage", ONES)],
    )
    ckpt = pthparse.open(data)
    assert ckpt.errors["bad"].code == code and ckpt["w"].numpy().tolist() == [1, 2, 3, 4]
    with pytest.raises(pthparse.PthError):
        ckpt["bad"].numpy()
    assert pthparse.audit(data).verdict == "malformed" and not pthparse.verify(data).ok


def long(value: int) -> bytes:
    return p.long_integer(value) if abs(value) >> 1000 else p.integer(value)


@pytest.mark.parametrize("key", [p.text("0"), p.text("0.storage"), p.text("name"), p.text("deep/er")])
def test_keys_may_be_texts(key: bytes) -> None:
    ckpt = pthparse.open(build({"a/x.pkl": resource(tensor(key))}, {"0": ONES, "name": ONES, "deep/er": ONES}))
    assert ckpt[""].numpy().tolist() == [1, 2, 3, 4]


def test_extents_are_checked() -> None:
    ckpt = pthparse.open(
        build(
            {
                "a/x.pkl": resource(
                    p.dict_of({"short": tensor(1), "long": tensor(0, 4, 5), "huge": tensor(0, p.integer(1 << 62), 4)})
                )
            },
            {"0": ONES, "1": ONES[:12]},
        )
    )
    assert {n: e.code for n, e in ckpt.errors.items()} == {
        "short": "tensor-bounds",
        "long": "tensor-bounds",
        "huge": "tensor-overflow",
    }


def test_two_records_of_one_name() -> None:
    data = build({"a/x.pkl": DICT}, more=[zips.Entry("m/.data/0.storage", ONES[::-1])])
    ckpt = pthparse.open(data)
    assert ckpt.errors["w"].code == "zip-duplicate" and pthparse.audit(data).verdict == "malformed"
    data = build({"a/x.pkl": DICT}, more=[zips.Entry("m/a/x.pkl", DICT)])
    assert pthparse.audit(data).verdict == "malformed"


def test_broken_pickles_are_told_and_the_others_read() -> None:
    data = build({"a/x.pkl": DICT, "b/y.pkl": b"\x80\x03(", "c/z.pkl": b"no pickle"})
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["w"] and [f.member for f in ckpt.findings] == ["m/b/y.pkl", "m/c/z.pkl"]
    assert pthparse.audit(data).verdict == "malformed" and pthparse.verify(data).verdict == "damaged"
    assert sum(e.nbytes for e in ckpt.capacity().ledger()) == len(data)
    with pytest.raises(pthparse.FormatError) as e:
        pthparse.open(build({"b/y.pkl": b"\x80\x03("}))
    assert e.value.member == "m/b/y.pkl"


def test_what_is_behind_a_pickle_is_seen() -> None:
    behind = DICT + p.glob("os", "system") + p.tuple_of([p.text("id")]) + p.REDUCE + p.STOP
    data = build({"a/x.pkl": DICT, "b/y.pkl": behind})
    assert pthparse.audit(data).verdict == "dangerous"
    ckpt = pthparse.open(data)
    assert list(ckpt) == ["a/x.pkl/w", "b/y.pkl/w"]
    assert {e.kind: e.nbytes for e in ckpt.capacity().ledger()}["trailing"] == len(behind) - len(DICT)


def test_odd_members_are_told() -> None:
    data = build({"a/x.pkl": DICT, ".data/strange": b"?"}, {"0": ONES, "9": ONES})
    found = {(f.code, f.member) for f in pthparse.audit(data).findings}
    assert found == {("zip-member", "m/.data/strange"), ("zip-unused", "m/.data/9.storage")}
    assert pthparse.open(data).capacity().wasted == 16
    outside = build({"a/x.pkl": DICT}, more=[zips.Entry("elsewhere", b"?")])
    assert {f.code for f in pthparse.audit(outside).findings} == {"zip-member"}
    assert {f.code for f in pthparse.open(build({"a/x.pkl": DICT}, prefix="")).findings} == {"zip-folder"}
    assert "zip-mark" in {f.code for f in pthparse.audit(build({"a/x.pkl": DICT}, version=b"99")).findings}


def test_damage_has_names() -> None:
    two = {"a/x.pkl": DICT, "b/y.pkl": resource(p.dict_of({"v": tensor(1)}))}
    data = build(two, {"0": ONES, "1": bytes(range(16))})
    at = data.index(bytes(range(16)))
    report = pthparse.verify(data[:at] + b"?" + data[at + 1 :])
    assert [(t.name, t.member) for t in report.damaged] == [("b/y.pkl/v", "m/.data/1.storage")]
    assert report.whole == ("a/x.pkl/w",)
    at = data.index(p.text("v"))
    report = pthparse.verify(data[: at + 5] + b"u" + data[at + 6 :])
    assert [(t.name, t.member) for t in report.damaged] == [("b/y.pkl/u", "m/b/y.pkl")]


def test_storages_by_value_are_found_in_joined_pickles() -> None:
    held = p.call(p.glob("torch.storage", "_load_from_bytes"), p.raw(legacy.by_value(ONES)))
    body = resource(p.tensor(held, [4], [1]))
    ckpt = pthparse.open(build({"a/x.pkl": DICT, "b/held.pkl": body, "c/held.pkl": body}))
    assert values(ckpt)["b/held.pkl"] == values(ckpt)["c/held.pkl"] == [1, 2, 3, 4]
    ledger = {e.kind: e.nbytes for e in ckpt.capacity().ledger()}
    assert sum(ledger.values()) == ckpt.nbytes and ledger["tensor data"] == 3 * 16


def test_deflated_and_far_memo() -> None:
    entries = [zips.Entry("m/.data/0.storage", ONES, zips.DEFLATED), zips.Entry("m/a/x", DICT, zips.DEFLATED)]
    entries += [zips.Entry("m/.data/extern_modules", b"\n"), zips.Entry("m/.data/version", b"6\n")]
    assert pthparse.open(zips.build(entries))["w"].numpy().tolist() == [1, 2, 3, 4]
    # Memo indices as large as all pickles together: room is made for each pickle's own length alone.
    far = resource(p.text("x") + p.put(60_000) + p.POP + p.NONE + b" " * 0)
    many = {f"a/{i}.pkl": far for i in range(2000)}
    ckpt = pthparse.open(build({**many, "b/x.pkl": DICT}), limits=pthparse.Limits(max_arena_bytes=64 << 20))
    assert list(ckpt) == ["b/x.pkl/w"]


def test_many_small_pickles_that_inflate_to_much() -> None:
    bomb = resource(p.raw(bytes(1 << 19)) + p.POP + p.NONE)
    data = build({"a/x.pkl": DICT}, more=[zips.Entry(f"m/b/{i}.pkl", bomb, zips.DEFLATED) for i in range(300)])
    assert len(data) < 300_000
    with pytest.raises(pthparse.LimitError) as e:
        pthparse.open(data)
    assert e.value.code == "max_inflate_ratio" and pthparse.audit(data).verdict == "incomplete"
    named_otherwise = [zips.Entry(f"m/b/{i}", b"\0" * (1 << 20), zips.DEFLATED) for i in range(30)]
    assert list(pthparse.open(build({"a/x.pkl": DICT}, more=named_otherwise))) == ["w"]


def test_what_only_begins_as_a_pickle_is_none() -> None:
    for body in (b"\x80\x03 no pickle.", b"\x80\x04" + bytes(100), b"\x80\x02(((("):
        for method in (zips.STORED, zips.DEFLATED):
            data = build({"a/x.pkl": DICT}, more=[zips.Entry("m/b/bytes", body, method)])
            ckpt = pthparse.open(data)
            assert list(ckpt) == ["w"] and ckpt.findings == () and pthparse.audit(data).verdict == "clean"


def test_limits_hold() -> None:
    data = build({f"a/{i}.pkl": DICT for i in range(50)})
    with pytest.raises(pthparse.LimitError):
        pthparse.open(data, limits=pthparse.Limits(max_names=20))
    with pytest.raises(pthparse.LimitError):
        pthparse.open(data, limits=pthparse.Limits(max_pickle_bytes=len(DICT) * 10))
    assert len(pthparse.open(data)) == 50
    assert pthparse.audit(data, limits=pthparse.Limits(max_pickle_bytes=len(DICT) * 10)).verdict == "incomplete"
    with pytest.raises(pthparse.LimitError, match="pickles in a package"):
        pthparse.open(data, limits=pthparse.Limits(max_parts=20))


def test_nothing_of_a_cut_package_is_guessed() -> None:
    data = build({"a/x.pkl": DICT})
    for n in (len(data) // 2, len(data) - 30):
        with pytest.raises(pthparse.FormatError):
            pthparse.open(data[:n])
        assert not pthparse.verify(data[:n]).ok


def test_from_afar() -> None:
    other = resource(p.list_of([tensor(12)]))
    data = build({"a/x.pkl": DICT, "b/y": other, "c/note.txt": b"kept"}, {"0": ONES, "12": ONES, "13": bytes(1 << 16)})
    with serve(data) as server, pthparse.open(server.url) as ckpt:
        assert values(ckpt) == values(pthparse.open(data)) and list(ckpt) == ["a/x.pkl/w", "b/y/0"]
        assert ckpt.audit().findings == pthparse.audit(data).findings
