"""The command guide: a page with an example of every keypoint, and the workspace's own rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows.cli import cli
from keypipe.errors import DatasetError
from tests.workspace import make_workspace, set_params


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("guide") / "w", n_images=30)


def guide(root: Path) -> tuple[str, str, dict[str, Any]]:
    """Run the command; return what it prints, the page and the report."""
    done = CliRunner().invoke(cli, ["guide"], obj=root, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = root / "reports/guide"
    return done.output, (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())


def test_every_keypoint_has_an_example(drawn: Path) -> None:
    told, page, report = guide(drawn)
    assert "examples of 13 of 13 keypoints; the page: reports/guide/report.html" in told
    for name in ("nose", "left_hind_hoof", "withers"):
        assert page.count(name) >= 3  # in the skeleton, below its pictures, in the table
    assert page.count("data:image/jpeg") == 13 + 6
    nose = report["classes"]["cow"]["nose"]
    assert nose["partner"] == ""
    assert report["classes"]["cow"]["left_ear"]["partner"] == "right_ear"
    assert sum(nose[what] for what in ("visible", "occluded", "not_labelled")) == pytest.approx(1, abs=1e-3)


def test_the_rules_are_the_workspaces(drawn: Path) -> None:
    assert "tick its flag &#39;occluded&#39;" in guide(drawn)[1]
    set_params(drawn, **{"convert.occluded_flag": "", "convert.occluded_suffix": "_occ"})
    page = guide(drawn)[1]
    assert "end its label in &#39;_occ&#39;" in page
    assert "tick its flag" not in page
    set_params(drawn, **{"convert.occluded": "ignore"})
    assert "nothing is learnt from such points" in guide(drawn)[1]


def test_a_class_without_objects_has_its_names(drawn: Path) -> None:
    set_params(drawn, **{"schema.classes": {"cow": {"keypoints": ["nose"]}, "goat": {"keypoints": ["nose", "horn"]}}})
    told, page, report = guide(drawn)
    assert "examples of 1 of 3 keypoints; of the others none is labelled well inside a picture" in told
    assert "horn" in page
    assert report["classes"]["goat"]["horn"]["visible"] is None
    set_params(drawn, **{"schema.classes": {"goat": {"keypoints": ["nose", "horn"]}}})
    done = CliRunner().invoke(cli, ["guide"], obj=drawn)
    assert isinstance(done.exception, DatasetError)
    assert "no object of goat is annotated" in str(done.exception)
