"""The page in a browser without a window: it opens in silence, and all that can be clicked does what it says."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forge import pickles as p
from forge import zips

import pthparse

selenium = pytest.importorskip("selenium", reason="the page in a browser needs selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("there is no chromium with its chromedriver", allow_module_level=True)

LESSON = Path(__file__).parents[1] / "data" / "lesson" / "lesson.pth"
HOSTILE = (
    "<img src=x onerror=document.title='won'>",
    "</script><script>document.title='won'</script>",
    "{{7*7}}",
    "a\u202eb",
)
WIDE, PHONE = (1280, 900), (390, 800)


class Browser:
    """One browser for all tests, and what it has said."""

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(word)
        options.add_argument(f"--user-data-dir={folder / 'profile'}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        self.driver.set_script_timeout(20)

    def open(self, path: Path, size: tuple[int, int] = WIDE, scheme: str = "light", script: bool = True) -> None:
        self.say("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)
        self.say("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.say("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.as_uri())
        if script:
            self.settle()

    def say(self, command: str, **how: Any) -> None:
        self.driver.execute_cdp_cmd(command, how)

    def settle(self) -> None:
        """Until what was asked for is drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def run(self, code: str, *what: Any) -> Any:
        return self.driver.execute_script(code, *what)

    def one(self, what: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, what)

    def all(self, what: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, what)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def click(self, what: Any) -> None:
        ActionChains(self.driver).move_to_element(what).click().perform()
        self.settle()

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        told = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return [m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"]

    def panel(self) -> str:
        """The heading of the panel that is open; '' if none is."""
        return str(self.run("return document.querySelector('.card:target h3')?.textContent ?? ''"))

    def shown(self, what: str) -> list[str]:
        """Texts of the elements that can be seen."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length)"
            ".map(e => e.textContent)",
            what,
        )
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.driver.quit()


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "lesson.html"
    path.write_text(pthparse.page(LESSON), "utf-8")
    return path


def checkpoint(path: Path, names: list[str]) -> Path:
    """Of vectors of four numbers each; a page of it beside it is returned."""
    tensors = {n: p.vector(str(i), 4) for i, n in enumerate(names)}
    records = {str(i): struct.pack("<4f", 0.5, -1, i, 2) for i in range(len(names))}
    path.write_bytes(zips.checkpoint(p.pickle(p.dict_of(tensors)), records))
    page = path.with_suffix(".html")
    page.write_text(pthparse.page(path), "utf-8")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desktop", "phone"])
def test_it_opens_in_silence_and_fits(browser: Browser, lesson: Path, size: tuple[int, int], scheme: str) -> None:
    browser.open(lesson, size, scheme)
    assert browser.errors() == []
    assert browser.requests() == [lesson.as_uri()]
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(", "))) > 600) == (scheme == "light")
    browser.run("document.querySelector('#theme').click()")
    other = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, other[4:-1].split(", "))) > 600) == (scheme == "dark")
    width = browser.run("return document.querySelector('.map').getBoundingClientRect().width")
    assert browser.one(".map").get_dom_attribute("viewBox").split()[2] == str(round(width))


def test_the_treemap_goes_down_to_a_tensor(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    number = browser.run(
        "return [...document.querySelectorAll('.card')].find(c => c.querySelector('h3').textContent"
        " === 'layers.2.linear1.weight').id"
    )
    place = f"a.t[href='#{number}']"
    seen = []
    for _ in range(5):
        browser.click(browser.one(f"{place} rect"))
        seen.append((browser.one(".crumbs").text, browser.panel()))
        if browser.panel():
            break
    assert seen == [
        ("all \u203a layers", ""),
        ("all \u203a layers \u203a 2", ""),
        ("all \u203a layers \u203a 2 \u203a linear1", ""),
        ("all \u203a layers \u203a 2 \u203a linear1", "layers.2.linear1.weight"),
    ]
    frames = "return [...document.querySelectorAll('.map .edge')].filter(r => r.getClientRects().length).length"
    assert browser.run(frames) == 1
    box = browser.run("return document.querySelector(arguments[0] + ' rect').getBBox().width", place)
    assert box > browser.run("return document.querySelector('.map').viewBox.baseVal.width") / 2
    browser.press(Keys.ESCAPE)
    assert browser.panel() == ""
    browser.press(Keys.ESCAPE)
    assert browser.one(".crumbs").text == "all \u203a layers \u203a 2"
    browser.click(browser.one(".crumbs a"))
    assert browser.one(".crumbs").text == ""
    assert any(text.startswith("fc  ") for text in browser.shown(".map .labels text"))
    assert browser.errors() == []


def test_colours_change_with_what_is_asked(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    fill = "return new Set([...document.querySelectorAll('.map .t rect')].map(r => getComputedStyle(r).fill)).size"
    browser.click(browser.one("#by-dtype"))
    assert browser.run(fill) == 1 and browser.shown(".legend.for-dtype span") == ["float32"]
    browser.click(browser.one("#by-health"))
    assert browser.run(fill) == 1 and browser.shown(".legend.for-health span") == ["fine"]


def test_the_tree_opens_and_its_links_show_the_panel(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    summary = browser.run(
        "return [...document.querySelectorAll('.tree summary')].find(s => s.querySelector('a').textContent === '3')"
    )
    before = len(browser.shown(".tree .leaf"))
    browser.click(summary.find_element(By.CSS_SELECTOR, "em"))
    assert len(browser.shown(".tree .leaf")) >= before and summary.get_property("parentElement").get_property("open")
    browser.click(summary.find_element(By.CSS_SELECTOR, "a"))
    assert browser.panel() == "layers.3"
    inner = browser.one(".card:target ul a")
    browser.click(inner)
    assert browser.panel().startswith("layers.3.")
    browser.click(browser.one(".x"))
    assert browser.panel() == ""


def test_a_panel_has_all_of_a_tensor(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    browser.click(browser.one(".list tbody a"))
    text = browser.one(".card:target").text
    with pthparse.open(LESSON) as ckpt:
        t = ckpt["embed.weight"]
        storage = t.storage
        assert storage is not None and storage.file_offset is not None
        first = f"{t.numpy()[0, 0]:.4g}"
    assert "embed.weight" in text and "float32 [97, 16]" in text and f"[{first}, " in text
    assert f"{storage.file_offset:,}" in text and "6,208" in text and "1,552" in text
    assert len(browser.all(".card:target figure svg path")) == 2


def test_a_curve_leads_to_its_tensor(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    figure = next(f for f in browser.all(".ridges") if f.text.startswith("layers.*.linear2.weight"))
    curves = figure.find_elements(By.CSS_SELECTOR, "a")
    assert len(curves) == 6
    browser.run("arguments[0].dispatchEvent(new MouseEvent('click', {bubbles: true}))", curves[3])
    browser.settle()
    assert browser.panel() == "layers.3.linear2.weight"


def test_keys_go_from_tensor_to_tensor(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    names = browser.shown(".list tbody tr td:first-child a")
    browser.click(browser.one(".list tbody a"))
    browser.press(Keys.ARROW_RIGHT)
    browser.press(Keys.ARROW_RIGHT)
    assert browser.panel() == names[2]
    browser.press(Keys.ARROW_LEFT)
    assert browser.panel() == names[1]
    assert browser.one(".map .on title").get_attribute("textContent").startswith(names[1])
    browser.press(Keys.ESCAPE)
    assert browser.panel() == ""


def test_search_keeps_what_holds_all_words(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    browser.press("/")
    browser.press("layers.4 NORM")
    found = browser.shown(".list tbody tr td:first-child a")
    with pthparse.open(LESSON) as ckpt:
        assert found == [n for n in ckpt if "layers.4" in n and "norm" in n] and len(found) == 6
    assert browser.shown(".tree .leaf a") == ["weight", "bias"] * 3
    lit = browser.run("return document.querySelectorAll('.map .t:not(.dim)').length")
    assert lit == 6
    browser.press(Keys.ESCAPE)
    assert len(browser.shown(".list tbody tr")) == 111 and not browser.all(".map .dim")
    assert browser.errors() == []


def test_heads_sort_the_table(browser: Browser, lesson: Path) -> None:
    browser.open(lesson)
    column = "return [...document.querySelectorAll('.list tbody tr')].map(r => r.cells[arguments[0]].textContent)"
    heads = browser.shown(".list th")

    def numbers(name: str) -> list[float]:
        return [float(x.replace(",", "")) for x in browser.run(column, heads.index(name)) if x]

    for name in ("elements", "mean", "max"):
        browser.run("document.querySelectorAll('.list th')[arguments[0]].click()", heads.index(name))
        assert numbers(name) == sorted(numbers(name), reverse=True)
        browser.run("document.querySelectorAll('.list th')[arguments[0]].click()", heads.index(name))
        assert numbers(name) == sorted(numbers(name))
    browser.run("document.querySelectorAll('.list th')[0].click()")
    names = browser.run(column, 0)
    assert names[0] == "embed.weight" and names[1].startswith("fc.") and names[-1].startswith("layers.5")


def test_without_script_it_is_whole(browser: Browser, lesson: Path) -> None:
    browser.open(lesson, script=False)
    browser.say("Emulation.setScriptExecutionDisabled", value=False)
    assert len(browser.shown(".list tbody tr")) == 111 and not browser.one("#search").is_displayed()
    assert any(text.startswith("embed.weight") for text in browser.shown(".map .labels text"))
    browser.run("document.querySelector('.map a.t').dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    assert browser.panel() != ""
    browser.run("document.querySelector('.x').click()")
    assert browser.panel() == ""


def test_hostile_names_stay_text(browser: Browser, tmp_path: Path) -> None:
    page = checkpoint(tmp_path / "m.pth", [*HOSTILE, "x" * 100_000])
    browser.open(page)
    assert browser.driver.title == "m.pth \u00b7 pthparse" and browser.errors() == []
    assert browser.requests() == [page.as_uri()]
    names = browser.shown(".list tbody a")
    assert {*HOSTILE[:3], "a\\u202eb"} < {*names} and len(names) == 5
    assert browser.run("return document.images.length + document.scripts.length") == 1
    for size in (WIDE, PHONE):
        browser.open(page, size)
        assert browser.run("return document.documentElement.scrollWidth") <= size[0]
        browser.run("[...document.querySelectorAll('.list tbody a')].find(a => a.textContent[0] === 'x').click()")
        browser.settle()
        assert browser.panel().startswith("xxx")
        assert browser.run("return document.querySelector('.card:target').scrollWidth") <= size[0]


def test_thousands_of_tensors_are_quick(browser: Browser, tmp_path: Path) -> None:
    page = checkpoint(tmp_path / "many.pth", [f"part{i % 37}.{chr(97 + i % 26)}{i}.w" for i in range(1500)])
    browser.open(page)
    assert browser.errors() == [] and "1,000 are only counted" in browser.one(".flag").text
    assert len(browser.shown(".list tbody tr")) == 500
    assert browser.run("return document.querySelectorAll('*').length") < 50_000
    browser.press("/")
    browser.press("part3")
    assert 0 < len(browser.shown(".list tbody tr")) < 100
