"""Runs side by side: parameters, code, data, figures, keypoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.history import comparison
from flows.history.comparison import Figure, format_figure, parse_figures, parse_keypoints
from flows.history.known_runs import list_runs
from keypipe.errors import PoseError
from tests.flows.toy import Toy
from tests.workspace import git


def test_figures_have_their_intervals_and_ultralytics_own_are_marked() -> None:
    content = {
        "val": {
            "coco": {"oks_AP": 0.5, "detected": 1.0},
            "ultralytics": {"pose/mAP50": 0.7},
            "interval": {"oks_AP_low": 0.4, "oks_AP_high": 0.6},
        }
    }
    assert parse_figures(json.dumps(content).encode()) == {
        "val oks_AP": Figure(0.5, (0.4, 0.6)),
        "val detected": Figure(1.0),
        "val pose/mAP50 (Ultralytics)": Figure(0.7),
    }
    assert parse_figures(None) == {}
    assert parse_keypoints(None) == {}


@pytest.mark.parametrize(
    ("figure", "first", "text"),
    [
        (Figure(0.5), None, "0.500"),
        (Figure(0.5, (0.4, 0.61)), Figure(0.45), "0.500 [0.400, 0.610] (+0.050)"),
        (Figure(0.5), Figure(0.5), "0.500"),
        (None, Figure(0.5), "–"),
    ],
)
def test_a_figure_in_words(figure: Figure | None, first: Figure | None, text: str) -> None:
    assert format_figure(figure, first) == text


def test_runs_are_compared(history: Toy) -> None:
    root = history.root
    fourth, _failed, third, second, first = list_runs(root)
    edited = json.loads((root.parent / "edited.json").read_text())
    found = comparison.compare(root, [second.name, third.name, first.id])
    assert found.names == [second.name, third.name, first.name]
    assert found.params == {"train.epochs": ["3", "3", "2"]}
    assert found.code == {third.name: [], first.name: []}

    changes = found.data[third.name]
    assert changes is not None
    assert changes.added == (edited["added"],)
    assert changes.removed == (edited["removed"],)
    (relabelling,) = changes.relabelled
    assert (relabelling.image, str(relabelling)) == (edited["relabelled"], "1 keypoint moved by up to 3.0 px")
    assert not any(found.data[first.name].counts().values())  # type: ignore[union-attr]

    figures = found.figures["val oks_AP"]
    assert None not in figures
    assert figures[2].value < figures[0].value  # type: ignore[union-attr]
    nose = found.keypoints["val nose"]
    assert nose[2].median_px > nose[0].median_px  # type: ignore[union-attr,operator]
    assert comparison.compare(root, [second.id, "latest"]).names[1] == fourth.name


def test_the_workspace_and_any_commit_can_be_compared(history: Toy) -> None:
    root = history.root
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("seed: 0", "seed: 7"))
    (root / "tasks" / "extra.py").write_text("")
    before = git(root, "status", "--porcelain")
    output = history.keypipe("compare", "latest", "workspace")
    assert git(root, "status", "--porcelain") == before
    assert "code       workspace: tasks/extra.py" in output
    assert "data       workspace: equal" in output
    assert "page: reports/compare/report.html" in output
    found = json.loads((root / "reports/compare/report.json").read_text())
    assert found["code"] == {"workspace": ["tasks/extra.py"]}
    page = (root / "reports/compare/report.html").read_text()
    assert "tasks/extra.py" in page
    # the first commit has neither data nor figures
    found = comparison.compare(root, ["HEAD", "workspace"])
    assert found.data == {"workspace": None}
    assert {row[0] for row in found.figures.values()} == {None}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["latest"], "at least two"),
        (["latest", "latest"], "named twice"),
        (["latest", "nothing"], "no training's id begins so"),
    ],
)
def test_what_cannot_be_compared_is_said(history: Toy, names: list[str], message: str) -> None:
    with pytest.raises(PoseError, match=message):
        comparison.compare(history.root, names)


def test_the_page_in_a_browser(history: Toy, browser: Any, tmp_path: Path) -> None:
    root = history.root
    second, third = list_runs(root)[3], list_runs(root)[2]
    page = comparison.write_page(root, comparison.compare(root, [second.id, third.id]))
    browser.set_window_size(1300, 2400)
    browser.get((root / page).as_uri())
    assert second.name in browser.title or second.name in browser.page_source
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    browser.save_screenshot(str(root.parent / "compare.png"))
