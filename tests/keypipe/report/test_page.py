from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypipe.drawing.pictures import encode_jpeg
from keypipe.errors import Fault
from keypipe.report.page import (
    BarChart,
    Card,
    CardGroup,
    Chapter,
    Faults,
    Figure,
    Findings,
    Gallery,
    GroupedBarChart,
    KeyValues,
    LineChart,
    LineCharts,
    Matrix,
    Note,
    Notes,
    Picture,
    Report,
    ScatterPlot,
    ScatterPlots,
    Section,
    SkeletonDot,
    SkeletonPlot,
    SkeletonPlots,
    Table,
    _environment,
    render_report,
)

NASTY = "<script>alert('x')</script> & \"奶牛\""


def make_card(
    text: str, severity: str = "warning", kind: str = "left-right-swap", split: str = "", jpeg: bytes | None = None
) -> Card:
    return Card(severity, kind, text, text, text, f"labelme {text}", text, split, jpeg)


def make_report(text: str = "奶牛") -> Report:
    """A report with every kind of section, this text wherever text can stand."""
    jpeg = encode_jpeg(np.full((30, 40, 3), 200, np.uint8))
    sections: list[Section] = [
        Notes(text, [Note(severity, text) for severity in ("good", "info", "warning", "error")], text),
        KeyValues(text, {text: text, "n": 1234, "none": None}, text),
        KeyValues(text, [("a", 1), ("b", 0.25)]),
        Table(
            text, ["name", "size", text], [["b", 10, 0.5], ["a", 9, 0.25], ["c", None, 1.0], [text, 200, 0.125]], text
        ),
        BarChart(text, [(text, 3), ("zero", 0), ("none", None)], " %", text),
        GroupedBarChart(text, ["nose", text], {"train": [5, 4], text: [1, None]}, "", text),
        LineChart(text, [1, 2, 3], {text: [0.5, None, 0.25], "val": [1.0, float("nan"), 0.5]}, text, None, text),
        LineCharts(text, [LineChart(text, [1, 2], {"lr": [0.1, 0.2]}), LineChart("empty", [], {"a": []})], text),
        Gallery(text, [Picture(jpeg, text, text), Picture(jpeg, "second")], text),
        Faults(text, [Fault(text, None, "kind", text, text), Fault("b.json", 3, "kind", "x", "y")], text),
        Table("empty", ["a"], []),
        Gallery("no pictures", []),
        Findings(
            text,
            [
                CardGroup("left-right-swap", text, text, [make_card(text, split="val", jpeg=jpeg), make_card(text)], 7),
                CardGroup("unknown-label", "Unknown", "", [make_card("b", "info", "unknown-label", split="train")]),
            ],
            text,
        ),
        ScatterPlots(
            text, [ScatterPlot(text, [(0, 0), (0.5, -0.5)], [(0.5, -0.5)], [((-1, -1), (1, 1))], text, "#40a0c0")], text
        ),
        Chapter(text, text),
        SkeletonPlots(
            text,
            [
                SkeletonPlot(
                    text,
                    (0.8, 0.6),
                    [
                        SkeletonDot(text, (0.1, 0.1), 0.02, 0.1, text, "#40a0c0"),
                        SkeletonDot("tail", (0.7, 0.1), None, None, "not found", "#c04040"),
                    ],
                    [(0, 1)],
                )
            ],
            text,
        ),
        Matrix(text, [text, "none"], [text, "none"], [[3, 1], [2, None]], text, text, 1),
        Table(text, [f"{text} {index}" for index in range(12)], [[text, *[0.5] * 11]], text),
    ]
    return Report(text, text, sections, [Figure(text, 0.87123, text), Figure("n", 3)], text)


class Page(HTMLParser):
    """Collects tags and text of a page, and checks that its elements are closed in order."""

    VOID = frozenset({"meta", "img", "line", "path", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


# ----------------------------------------------------------------------------------------- page


def test_the_page_is_whole() -> None:
    page = Page(render_report(make_report()))
    counts = {tag: page.tags.count(tag) for tag in ("section", "table", "img", "h1", "script", "style", "dialog")}
    assert counts == {"section": 18, "table": 4, "img": 4, "h1": 1, "script": 1, "style": 1, "dialog": 1}
    assert "奶牛" in page.text


def test_text_is_escaped_everywhere() -> None:
    html = render_report(make_report(NASTY))
    page = Page(html)
    assert page.tags.count("script") == 1
    assert "<script>alert" not in html
    assert page.text.count("alert('x')") > 20


def test_nothing_is_fetched() -> None:
    html = render_report(make_report())
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert not re.search(r"https?://|@import|url\(", html)


def test_equal_reports_are_equal_files() -> None:
    assert render_report(make_report()) == render_report(make_report())


def test_the_compiled_template_is_kept_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    report = Report("Title", "headline")

    def render() -> str:
        _environment.cache_clear()
        return render_report(report)

    first = render()
    (folder,) = tmp_path.iterdir()
    assert list(folder.iterdir())
    assert render() == first
    shutil.rmtree(folder)
    folder.write_text("not a folder")
    assert render() == first
    assert folder.read_text() == "not a folder"
    monkeypatch.undo()
    _environment.cache_clear()


def test_a_report_of_nothing() -> None:
    page = Page(render_report(Report("Empty", "Nothing to see.")))
    assert page.tags.count("section") == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Table("t", ["a", "b"], [[1, 2], [1]]), "t: row 1 has 1 values, expected 2"),
        (GroupedBarChart("t", ["a"], {"train": [1, 2]}), "t: train has 2 values, expected 1"),
        (LineChart("t", [1, 2], {"lr": [1]}), "t: lr has 1 values, expected 2"),
        (LineCharts("t", [LineChart("u", [1, 2], {"lr": [1]})]), "u: lr has 1 values, expected 2"),
        (Notes("t", [("fatal", "x")]), "t: severity 'fatal' is none of good, info, warning, error"),
        (Findings("t", [CardGroup("k", "K", "", [make_card("x", "fatal")])]), "t: severity 'fatal' is none of"),
    ],
)
def test_what_does_not_fit_is_refused(section: Section, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_report(Report("r", "", [section]))


# --------------------------------------------------------------------------------------- values


def test_a_matrix_shades_by_row_and_leaves_what_no_share_is_of() -> None:
    matrix = Matrix("t", ["a", "b", "none"], ["a", "b", "none"], [[3, 1, 0], [0, 0, 0], [5, 0, None]], shaded_rows=2)
    assert matrix.shares() == [[0.75, 0.25, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


# -------------------------------------------------------------------------------------- browser


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    (tmp_path / "report.html").write_text(render_report(make_report(NASTY)), encoding="utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    return browser


def column_texts(browser: Any, table: int, column: int) -> list[str]:
    script = """
        const rows = [...document.querySelectorAll("table")[arguments[0]].tBodies[0].rows];
        return rows.map((row) => row.cells[arguments[1]].textContent);
    """
    texts: list[str] = browser.execute_script(script, table, column)
    return texts


def test_the_page_opens_without_errors(opened: Any) -> None:
    assert opened.get_log("browser") == []
    counts = {
        selector: len(opened.find_elements("css selector", selector))
        for selector in (
            "section",
            "table.sortable",
            ".notes li",
            ".bars svg",
            ".card",
            ".scatters svg",
            ".lines path",
            ".gallery img",
            ".figures li",
        )
    }
    assert counts == {
        "section": 18,
        "table.sortable": 3,
        ".notes li": 4,
        ".bars svg": 5,
        ".card": 3,
        ".scatters svg": 1,
        ".lines path": 4,
        ".gallery img": 2,
        ".figures li": 2,
    }
    loaded = "return [...document.querySelectorAll('.gallery img')].every(i => i.complete && i.naturalWidth > 0)"
    assert opened.execute_script(loaded)


def test_tables_are_sorted_by_a_click(opened: Any) -> None:
    heads = opened.find_elements("css selector", "table")[0].find_elements("css selector", "th button")
    heads[1].click()
    assert column_texts(opened, 0, 1) == ["9", "10", "200", "–"]
    heads[1].click()
    assert column_texts(opened, 0, 1) == ["200", "10", "9", "–"]
    heads[0].click()
    assert column_texts(opened, 0, 0)[-3:] == ["a", "b", "c"]
    assert [head.get_attribute("aria-sort") for head in opened.find_elements("css selector", "th")][:2] == [
        "ascending",
        None,
    ]


def test_pictures_are_enlarged_by_a_click(opened: Any) -> None:
    dialog = opened.find_element("id", "enlarged")
    assert not dialog.is_displayed()
    opened.find_element("css selector", ".gallery figure button").click()
    assert dialog.is_displayed()
    assert NASTY in dialog.text
    opened.find_element("css selector", "dialog .close").click()
    assert not dialog.is_displayed()


def choose(opened: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(opened.find_element("css selector", f"select[name={name}]")).select_by_value(value)


def shown_cards(opened: Any) -> int:
    return sum(card.is_displayed() for card in opened.find_elements("css selector", ".card"))


def test_findings_are_filtered_and_the_address_keeps_the_choice(opened: Any) -> None:
    output = opened.find_element("css selector", ".filters output")
    assert (shown_cards(opened), output.text) == (3, "3 of 3 shown")
    choose(opened, "kind", "left-right-swap")
    assert (shown_cards(opened), output.text) == (2, "2 of 3 shown")
    choose(opened, "split", "val")
    assert shown_cards(opened) == 1
    assert opened.current_url.endswith("#kind=left-right-swap&split=val")
    opened.refresh()
    assert shown_cards(opened) == 1
    opened.find_element("css selector", "nav a").click()
    assert shown_cards(opened) == 1, "a link to a section leaves the choice alone"
    opened.find_element("css selector", ".filters button").click()
    assert shown_cards(opened) == 3
    choose(opened, "severity", "info")
    groups = opened.find_elements("css selector", ".group")
    assert [group.is_displayed() for group in groups] == [False, True]
    assert opened.get_log("browser") == []


def test_a_finding_is_enlarged_and_its_command_copied(opened: Any) -> None:
    opened.find_element("css selector", ".card .look").click()
    assert opened.find_element("id", "enlarged").is_displayed()
    opened.find_element("css selector", "dialog .close").click()
    opened.execute_script(
        "navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }"
    )
    button = opened.find_element("css selector", ".card .copy")
    button.click()
    assert opened.execute_script("return window.copied") == f"labelme {NASTY}"
    assert button.text == "copied"


def test_values_are_read_off_a_chart(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    area = opened.find_element("css selector", ".lines .area")
    ActionChains(opened).move_to_element_with_offset(area, -area.size["width"] // 2 + 2, 0).perform()
    values = [item.text for item in opened.find_elements("css selector", ".lines .keys b")][:2]
    assert values == ["0.5", "1"]
    assert opened.find_element("css selector", ".lines .cursor").is_displayed()


def test_a_phone_needs_no_sideways_scrolling(opened: Any) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    )
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
