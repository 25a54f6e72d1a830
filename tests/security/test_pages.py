"""A file of the hostile catalogue has a page that is text, or an error of ours; nothing else comes out of it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from forge.hostile import CATALOGUE

import pthparse

WORDS = """
html head meta title style body nav a span input label main header h1 h2 h3 p b dl div dt dd small section fieldset
legend svg g rect text tspan path ul li details summary em table thead tbody tfoot tr th td figure figcaption i code pre
footer kbd aside script sup
"""
OURS = frozenset(WORDS.split())
TOUCHED = re.compile("[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Reader(HTMLParser):
    """Elements, and attributes that could do something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.odd: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.odd += [name for name, _ in attrs if name.startswith("on") or name in ("style", "src", "action")]
        self.odd += [str(value) for name, value in attrs if name == "href" and not str(value).startswith("#")]


def test_a_page_of_whatever_is_hostile_is_text() -> None:
    pages = refused = 0
    for forged in CATALOGUE[::3]:  # enough: neighbours differ in what a page does not look at
        data = forged.build()
        try:
            page = pthparse.page(data, title="m")
        except pthparse.PthError:
            refused += 1
            continue
        pages += 1
        found = Reader(page)
        assert set(found.tags) <= OURS and found.tags.count("script") == 1 and not found.odd, forged.name
        assert not TOUCHED.search(page), forged.name
        (verdict,) = re.findall('class="verdict v-([a-z]+)"', page)
        assert verdict == forged.verdict or (forged.verdict == "not clean" and verdict != "clean"), forged.name
        if pages % 10:  # pictures are made of the same texts
            continue
        try:
            made = pthparse.pictures(data, title="m")
        except pthparse.UnsupportedError as e:
            assert e.code == "nothing-to-draw"
            continue
        for text in made.values():
            ElementTree.fromstring(text)
    assert pages > 100 and refused > 30


@pytest.mark.parametrize("template", ["page.html", "shapes.html", "difference.html", "figure.svg"])
def test_templates_escape_by_themselves(template: str) -> None:
    from pthparse.pages.html import environment

    assert environment().get_template(template).environment.autoescape is True
