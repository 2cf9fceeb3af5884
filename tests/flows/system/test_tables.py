"""No word of a table is ever cut, however narrow the terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from flows.system.tables import print_table

PATH = "barn/camera-3/2024-06-01/frame_000123.json"
HEADINGS = ("severity", "kind", "count", "what", "for example")
ROWS = [
    ["[red]error[/]", "keypoint-without-object", "3", "a point in no rectangle", PATH],
    ["info", "rare-class", "1", "", "a file with blanks.json shape 4"],
]


def shown(width: int) -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width, highlight=False), HEADINGS, ROWS)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_names_of_files_stay_whole(width: int) -> None:
    text = shown(width)
    assert PATH in text
    assert "keypoint-without-object" in text


@pytest.mark.parametrize("width", range(40, 121, 3))
def test_no_word_is_cut_however_the_columns_share_the_width(width: int) -> None:
    rows = [
        ["warning", "decided-by-list-order", "5", "Keypoints that only list order could give", "Day 2/cam A 014.json"],
        ["info", "rare-keypoint", "1", "Keypoints that are seldom labelled", "关键点 of 'cow' " * 4],
    ]
    out = io.StringIO()
    print_table(Console(file=out, width=width, highlight=False), HEADINGS, rows)
    text = out.getvalue()
    assert not [word for row in rows for cell in row for word in cell.split() if word not in text]
    if "━" in text:
        assert max(map(cell_len, text.splitlines())) <= width


def test_a_wide_terminal_has_a_table_and_a_narrow_one_a_paragraph_for_each_row() -> None:
    assert "│ rare-class" in shown(200)
    assert max(map(len, shown(200).splitlines())) <= 200
    assert shown(40).splitlines() == [
        "error",
        "  kind: keypoint-without-object",
        "  count: 3",
        "  what: a point in no rectangle",
        f"  for example: {PATH}",
        "info",
        "  kind: rare-class",
        "  count: 1",
        "  for example: a file with blanks.json shape 4",
    ]


def test_colours_are_left_out_where_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def printed() -> str:
        out = io.StringIO()
        print_table(Console(file=out, width=200, force_terminal=True, color_system="standard"), HEADINGS, ROWS)
        return out.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in printed()
