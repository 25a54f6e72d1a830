"""Figures and names as texts: the one way each is written."""

from __future__ import annotations

import math

import pytest

from pthparse.wording import base_name, brief, change, count, number, printable, shape, share, size, units


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1,000 B (1.0 kB, 1.0 KiB)"),
        (1_500_000, "1,500,000 B (1.5 MB, 1.4 MiB)"),
        (10**9, "1,000,000,000 B (1.00 GB, 0.93 GiB)"),
        (5 * 10**12, "5,000,000,000,000 B (5.00 TB, 4.55 TiB)"),
    ],
)
def test_sizes(n: int, told: str) -> None:
    assert size(n) == told
    both = units(n)
    assert brief(n) == (told if both is None else both[0])
    assert both is None or f"({both[0]}, {both[1]})" in told


def test_numbers() -> None:
    figures = {
        None: "-", True: "True", 1234: "1,234", 10**12 - 1: "999,999,999,999", -(10**12): "-1.0000e+12",
        0.12345: "0.1235", 9999.4: "9999", 12345.6: "12,346", -9_999_999.0: "-9,999,999", 1e7: "1e+07", -0.0: "-0",
        math.inf: "inf", 1 - 2j: "1-2j",
    }  # fmt: skip
    assert {x: number(x) for x in figures} == figures and number(math.nan) == "nan"


def test_shares_and_changes() -> None:
    assert [share(*pair) for pair in ((1, 3), (1, 20_000), (1, 10**7), (0, 5), (1, 0))] == [
        *("33.33 %", "0.005 %", "< 0.0001 %", "0.00 %", "-"),
    ]
    assert [change(x) for x in (None, 0.0, 1e-7, 1e-6, 0.1, 9999.0, 1e4, math.inf)] == [
        *("-", "0", "1.00e-07", "0.0001 %", "10 %", "1e+06 %", "1.00e+04", "from 0"),
    ]


def test_counts_shapes_and_names() -> None:
    assert (count(0, "tensor"), count(1, "tensor"), count(1000, "tensor")) == ("0 tensors", "1 tensor", "1,000 tensors")
    assert (shape(()), shape((2, -1))) == ("[]", "[2, ?]")
    paths = ("a.pth", "/x/a.pth", "C:\\x\\a.pth", "models/", "/", "", None)
    assert [base_name(path) for path in paths] == ["a.pth"] * 3 + ["models", "", "", ""]


def test_texts_out_of_a_file() -> None:
    assert printable("a\x1b[1m\u202e", 40) == "a\\x1b[1m\\u202e"
    assert printable("\x1b" * 9, 13) == "\\x1b\\...b\\x1b"  # no longer for being spelt out
    assert printable("a" * 10**7 + "b", 11) == "aaaa...aaab"
