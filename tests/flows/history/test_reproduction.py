"""A run rebuilt beside the workspace, and what it is compared with."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.history.known_runs import Run, list_runs
from flows.history.reproduction import Line, compare_figures, needs_equal_weights, reproduce
from tasks.tracking import runs as tracking
from tasks.tracking.history import tag_run
from tasks.versions import snapshots
from tasks.workspace.models import read_run_id
from tests.flows.toy import Toy, dvc
from tests.imports import ROOT
from tests.workspace import git, make_workspace

MACHINE = "Linux, x86_64, Some CPU, 2 cores"


@pytest.mark.parametrize(
    ("recorded", "here", "packages", "exact", "why"),
    [
        (MACHINE, MACHINE, [], True, "the machine type and the packages of the run"),
        ("", MACHINE, [], False, "did not record its machine"),
        (MACHINE.replace("2", "4"), MACHINE, [], False, "another machine type: .* 4 cores then, .* 2 cores now"),
        (MACHINE, MACHINE, ["torch 2.13.0 -> 2.14.1"], False, "other packages: torch 2.13.0 -> 2.14.1"),
        (f"{MACHINE}, GPU A100", f"{MACHINE}, GPU A100", [], False, "need not repeat to the bit"),
    ],
)
def test_equal_weights_are_asked_for_where_they_can_be(
    recorded: str, here: str, packages: list[str], exact: bool, why: str
) -> None:
    import re

    found = needs_equal_weights(recorded, here, packages)
    assert found[0] is exact
    assert re.search(why, found[1])


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "same", "detail"),
    [
        ({"val": {"coco": {"AP": 0.5}}}, {"val": {"coco": {"AP": 0.5}}}, 0.0, True, ""),
        ({"val": {"AP": 0.5}}, {"val": {"AP": 0.515}}, 0.02, True, "val/AP 0.5, now 0.515"),
        ({"val": {"AP": 0.5}}, {"val": {"AP": 0.53}}, 0.02, False, "val/AP 0.5, now 0.53"),
        ({"val": {"AP": 0.5}}, {"val": {"AP": 0.5000001}}, 0.0, False, "val/AP 0.5, now 0.5"),
        ({"px": 100.0, "n": [1, 2]}, {"px": 101.9, "n": [1, 2]}, 0.02, True, "px 100, now 101.9"),  # relative above 1
        ({"px": 100.0}, {"px": 103}, 0.02, False, "px 100, now 103"),
        ({"onnx": {"size_mb": 12.9}}, {"onnx": {"size_mb": 13.0}}, 0.0, True, ""),  # as exporters make it
        ({"a": 0.5, "b": math.nan}, {"a": math.nan, "b": math.nan}, 9.0, False, "a 0.5, now nan"),
        ({"a": 1.0}, {"b": 1.0}, 9.0, False, "only one of the two has a, b"),
        ({"a": None, "b": "words", "c": True}, {"a": None, "b": "others", "c": False}, 0.0, True, ""),
    ],
)
def test_figures_are_compared_one_by_one(before: Any, after: Any, tolerance: float, same: bool, detail: str) -> None:
    found = list(compare_figures("m.json", json.dumps(before).encode(), json.dumps(after).encode(), tolerance))
    assert found == [Line("figures m.json", same, detail)]


def traces(root: Path) -> dict[str, Any]:
    """All that a reproduction must leave as it was."""
    return {
        "refs": git(root, "show-ref"),
        "trees": git(root, "worktree", "list"),
        "status": git(root, "status", "--porcelain"),
        "runs": list_runs(root),
        "lock": (root / "dvc.lock").read_bytes(),
        "model": (root / "models/best.pt").read_bytes(),
    }


def model_of(root: Path, run: Run) -> bytes:
    from tasks.versions.store import opened_commit

    assert run.snapshot is not None
    with opened_commit(root, run.snapshot.commit) as read:
        content = read("models/best.pt")
    assert content is not None
    return content


def test_the_results_of_an_old_run_come_back_without_training(history: Toy) -> None:
    root = history.root
    first = list_runs(root)[-1]
    before, model = traces(root), model_of(root, first)
    output = history.keypipe("reproduce", first.name)
    assert "results from DVC's cache" in output
    assert f"run {first.name} is reproduced" in output
    place = root / ".keypipe/reproduced" / first.name
    assert (place / "models/best.pt").read_bytes() == model != before["model"]
    assert "epochs: 2" in (place / "params.yaml").read_text()
    assert json.loads((place / "reproduction.json").read_text())["exact"] is True
    assert traces(root) == before
    assert not list((root / ".keypipe/reproduce").glob("*/"))


def test_a_check_trains_again_and_finds_the_same(history: Toy) -> None:
    root = history.root
    third = list_runs(root)[2]
    before = traces(root)
    done = reproduce(root, third.id, check=True, tolerance=0.02, say=print)
    assert done.same
    assert (done.trained, done.exact) == (True, True)
    compared = {line.what: line.same for line in done.lines}
    assert {"weights models/best.pt", "weights models/last.pt", "figures metrics/validate.json"} <= compared.keys()
    assert {"data data/coco/keypoints.json", "data data/dataset/annotations"} <= compared.keys()
    assert all(compared.values())
    assert traces(root) == before


def test_a_check_finds_what_differs(history: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    root = history.root
    first = list_runs(root)[-1]
    monkeypatch.setenv("TOY_DRIFT", "0.001")  # as if something random had not been seeded
    output = history.keypipe("reproduce", first.name, "--check", code=1)
    assert "weights models/best.pt" in output
    assert f"run {first.name} is NOT reproduced" in output
    assert git(root, "worktree", "list").count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("drift", "same"), [("0.001", True), ("30", False)])
def test_on_another_machine_figures_must_agree(
    history: Toy, monkeypatch: pytest.MonkeyPatch, drift: str, same: bool
) -> None:
    root = history.root
    first = list_runs(root)[-1]
    tag_run(root, first.id, {tracking.MACHINE: "another"})
    monkeypatch.setenv("TOY_DRIFT", drift)
    done = reproduce(root, first.id, check=True, tolerance=0.02, say=print)
    assert (done.exact, done.same) == (False, same)
    weights = next(line for line in done.lines if line.what == "weights models/best.pt")
    assert (weights.same, weights.decides) == (False, False)


def test_what_cannot_be_reproduced_is_said(history: Toy, tmp_path: Path) -> None:
    root = history.root
    failed, first = list_runs(root)[1], list_runs(root)[-1]
    output = history.keypipe("reproduce", failed.name, code=2)
    assert f"run {failed.name} is failed and left no results" in output
    assert "no training's id begins so" in history.keypipe("reproduce", "nothing", code=2)

    snapshots.drop(root, list_runs(root)[3].id)
    assert "has no snapshot" in history.keypipe("reproduce", list_runs(root)[3].name, code=2)

    dvc(root, "remote", "add", "--local", "--default", "storage", str(tmp_path / "storage"))
    shutil.copytree(root / ".dvc/cache/files", tmp_path / "storage/files")
    shutil.rmtree(root / ".dvc/cache")
    assert f"run {first.name} is reproduced" in history.keypipe("reproduce", first.name)
    shutil.rmtree(root / ".dvc/cache")
    shutil.rmtree(tmp_path / "storage")
    shutil.rmtree(root / ".dvc/tmp", ignore_errors=True)
    output = history.keypipe("reproduce", first.name, code=2)
    assert "the run's data are in neither DVC's cache nor its remote: data/raw" in output
    assert git(root, "worktree", "list").count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("batches", ["", "1:4"], ids=["", "memory did not hold its batch"])
def test_a_real_training_is_reproduced_to_the_bit(tmp_path: Path, batches: str) -> None:
    """The whole pipeline, Ultralytics included, by ``dvc repro`` and then by ``keypipe reproduce --check``."""
    from tests.workspace import dvc as run_dvc
    from tests.workspace import environment

    root = make_workspace(tmp_path / "workspace", n_images=24, **{"train.epochs": 1, "train.imgsz": 64})
    assert run_dvc(root, "add", "--quiet", "data/raw").returncode == 0
    done = run_dvc(root, "repro", **({"KEYPIPE_BATCHES": batches} if batches else {}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((root / "models/train.json").read_text())["batches"] == ([[1, 4]] if batches else [])
    code = "import sys; from pathlib import Path; from flows.cli import main; main(Path.cwd())"
    command = [sys.executable, "-c", code, "reproduce", "latest", "--check"]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "trained again" in done.stdout
    assert "Ultralytics Settings" not in done.stdout + done.stderr  # its settings stay in the workspace
    assert "asked for: equal weights and figures" in done.stdout
    found = json.loads(next((root / ".keypipe/reproduced").glob("*/reproduction.json")).read_bytes())
    lines = {line["what"]: line for line in found["lines"]}
    assert lines["weights models/best.pt"]["same"]
    assert lines["weights models/last.pt"]["same"]
    # other dates and paths: equal weights in files that differ
    kept = next((root / ".keypipe/reproduced").glob("*/models/best.pt"))
    assert kept.read_bytes() != (root / "models/best.pt").read_bytes()


@pytest.mark.slow
def test_a_training_from_weights_is_reproduced_in_a_second_clone(tmp_path: Path) -> None:
    """They are larger than what a snapshot takes, and come from DVC's remote."""
    from tests.workspace import dvc as run_dvc
    from tests.workspace import environment

    tracked = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    door = "import sys; from pathlib import Path; from flows.cli import main; main(Path.cwd())"

    def python(root: Path, code: str, *arguments: str) -> str:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(
            command, cwd=root, env=environment(**tracked), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc_in(root: Path, *arguments: str) -> None:
        done = run_dvc(root, *arguments, **tracked)
        assert done.returncode == 0, done.stdout + done.stderr

    first, second = tmp_path / "one/workspace", tmp_path / "two/workspace"  # MLflow knows runs by the folder's name
    weights = tmp_path / "elsewhere/big.pt"
    make_workspace(first, n_images=12, **{"train.epochs": 1, "train.imgsz": 64})
    script = (
        "import sys; from pathlib import Path; from tasks.engine.settings import configure; place = Path(sys.argv[1]);"
        "configure(place.parent); from tests.pose_checkpoint import write_random_checkpoint;"
        "write_random_checkpoint(place, ['cow'], [f'k{number}' for number in range(13)])"
    )
    python(ROOT, script, str(weights))
    assert weights.stat().st_size > snapshots.MAX_FILE_BYTES
    dvc_in(first, "remote", "add", "--default", "store", str(tmp_path / "store"))
    python(first, door, "weights", str(weights))
    shutil.rmtree(weights.parent)
    dvc_in(first, "add", "data/raw")
    dvc_in(first, "repro", "train")
    git(first, "add", "--all")
    git(first, "commit", "--quiet", "--message", "trained")
    dvc_in(first, "push")

    subprocess.run(["git", "clone", "--quiet", str(first), str(second)], check=True)
    git(second, "fetch", "--quiet", "origin", "refs/keypipe/*:refs/keypipe/*")
    dvc_in(second, "pull", "data/raw.dvc", "data/weights/big.pt.dvc")
    said = python(second, door, "reproduce", read_run_id(first), "--check")
    print(said)
    assert "trained again" in said
    assert "asked for: equal weights and figures" in said
    assert "is reproduced" in said
    found = json.loads(next((second / ".keypipe/reproduced").glob("*/reproduction.json")).read_bytes())
    lines = {line["what"]: line for line in found["lines"]}
    assert lines["what the training depends on"]["same"]
    assert lines["weights models/best.pt"]["same"]
    assert "model: data/weights/big.pt" in next((second / ".keypipe/reproduced").glob("*/params.yaml")).read_text()
