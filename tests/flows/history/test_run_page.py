"""``keypipe report``: the page of the workspace's run, and of an earlier one out of git and DVC's cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from flows.history.known_runs import list_runs
from flows.history.run_page import FOLDER
from flows.outcome import Outcome, RuleRow
from flows.retraining.record import write_outcome
from tasks.registry.moves.aliases import promote
from tasks.versions.store import opened_tree
from tests.flows.history.test_cleaning import register
from tests.flows.toy import Toy


def test_the_workspace_as_it_is(history: Toy) -> None:
    root = history.root
    fourth, *_ = list_runs(root)
    rule = RuleRow(rule="oks_AP", champion=0.61, challenger=0.66, interval=(0.01, 0.09), verdict="passed")
    told = Outcome(kind="promoted", title="v2 is in use", reason="better", rows=(rule,), training=fourth.id)
    write_outcome(root, told)
    output = history.keypipe("report", "--small")
    page = (root / FOLDER / "report.html").read_text(encoding="utf-8")
    assert f"page: {root / FOLDER / 'report.html'}, " in output
    assert f"training {fourth.name}" in page
    assert "v2 is in use. better" in page
    assert "+0.010 to +0.090" in page
    assert "not registered" in page


def test_an_earlier_run_comes_out_of_git_and_the_cache(history: Toy, tmp_path: Path) -> None:
    root = history.root
    *_, first = list_runs(root)
    register(root, first.id)
    promote(root, "1", why="the first")
    for name in ("models", "reports", "exports"):
        shutil.rmtree(root / name)
    place = tmp_path / "run.html"
    done = json.loads(history.keypipe("report", first.name, "--small", "--output", str(place), "--json"))
    assert (done["run"], done["path"]) == (first.id, str(place))
    assert done["size_bytes"] == place.stat().st_size < 10_000_000
    page = place.read_text(encoding="utf-8")
    assert f"training {first.name}" in page
    assert first.snapshot is not None
    assert first.snapshot.commit in page
    assert "workspace v1 (champion)" in page
    assert "the first" in page, "what people did with it, and why"
    assert "What each stage read and wrote" in page
    assert "there is no training to tell of" in history.keypipe("report", code=2)


def test_names_of_a_commit_s_files_come_from_git_and_dvc(history: Toy) -> None:
    root = history.root
    (first,) = list_runs(root)[-1:]
    assert first.snapshot is not None
    with opened_tree(root, first.snapshot.commit) as (read, names):
        assert "train.json" in names("models")
        assert "params.yaml" in names(".")
        assert names("nowhere") == []
        assert read("models/nothing") is None
