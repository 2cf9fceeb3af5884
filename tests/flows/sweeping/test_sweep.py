"""A sweep on a real workspace, by the command itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workspace import environment, make_workspace


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that nothing has been done in; not to be changed."""
    return make_workspace(tmp_path_factory.mktemp("sweep") / "farm", n_images=12)


SPACE = ["train.lr0=log:0.001..0.01", "train.mosaic=0.0|1.0"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "keypipe", "sweep", *arguments]


def keypipe(root: Path, *arguments: str, code: int = 0, log: bool = False) -> str:
    """Run the command; return what it printed, or what went to the error channel."""
    env = environment(OMP_NUM_THREADS="1", COLUMNS="160")
    done = subprocess.run(command(*arguments), cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code or log else done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rates"], "no sweep is called rates (there are: none yet)"),
        (["rates", "train.lr=0.1..0.2"], "keypipe: train.lr: unknown parameter (did you mean"),
        (["rates", "train.batch=a|b"], "keypipe: train.batch: expected a value like 16, got 'a'"),
        (["rates", "train.lr0=0.1..0.2", "--set", "train.lr0=0.3"], "the sweep tries other values of it"),
        (["rates", "train.lr0=0.1..0.2", "--set", "seed=1"], "a sweep sets keys of train alone"),
        (["train.lr0=0.1..0.2"], "a sweep's name is of letters, digits, _ and -"),
        (["rates", "--apply"], "no sweep is called rates"),
        (["rates", "--apply", "--forget"], "--apply and --forget go with the name of a sweep"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(drawn: Path, arguments: list[str], message: str) -> None:
    assert message in keypipe(drawn, *arguments, code=2)
    assert not (drawn / ".keypipe/sweeps").exists()
    assert not (drawn / "data/coco").exists()


def test_without_a_sweep_the_list_says_how_to_start_one(drawn: Path) -> None:
    assert "no sweep yet; start one such as" in keypipe(drawn)
    assert json.loads(keypipe(drawn, "--json")) == []


def mlflow_runs(root: Path) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sweep_is_killed_goes_on_and_its_best_is_taken(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", **{"train.epochs": 3})
    fixed = ["--set", "train.epochs=4"]
    # Killed in the middle of the second trial.
    process = subprocess.Popen(
        command("rates", *SPACE, *fixed, "--trials", "4", "--no-pruning"),
        cwd=root,
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "trial 1: epoch 2/4" in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "trial 1: epoch 2/4" in lines[-1], "".join(lines)
    found = json.loads(keypipe(root, "rates", "--json"))
    assert [trial["state"] for trial in found["trials"]] == ["complete", "running"]
    assert found["trials"][0]["values"] == {"train.lr0": 0.003, "train.mosaic": 0.0}, "as they were"

    said = keypipe(root, "rates", "--trials", "3", log=True)
    assert "going on with 1 trial that ended on the way" in said
    assert "epoch 1/4" not in said.partition("trial 3: train")[0], "it goes on after its last whole epoch"
    found = json.loads(keypipe(root, "rates", "--json"))
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 3
    assert {trial["epochs"] for trial in found["trials"]} == {4}

    # MLflow: the trials are children of the sweep, each training once.
    (sweep,) = [run for run in mlflow_runs(root) if run.data.tags.get("keypipe.sweep")]
    trials = [run for run in mlflow_runs(root) if run.data.tags.get("keypipe.trial")]
    assert (sweep.info.run_name, sweep.info.status) == ("sweep rates", "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {sweep.info.run_id}
    assert [run.info.status for run in trials] == ["FINISHED"] * 3
    assert {run.info.run_id for run in trials} == {trial["run"] for trial in found["trials"]}
    assert "A sweep by keypipe" in sweep.data.tags["mlflow.note.content"]
    assert "A training of" in trials[0].data.tags["mlflow.note.content"]

    # Other values under the same name are refused; nothing else of the workspace has changed.
    assert "was started with" in keypipe(root, "rates", "train.lr0=0.1..0.2", "--trials", "5", code=2)
    assert yaml.safe_load((root / "params.yaml").read_text())["train"]["epochs"] == 3
    assert not (root / "models").exists()
    assert not list((root / ".keypipe/sweeps/rates").glob("tree*"))

    # The best is taken over, and its training comes from the cache.
    chosen = found["trials"][1]
    assert "train.epochs: 3 -> 4" in keypipe(root, "rates", "--apply", "--trial", str(chosen["number"]))
    train = yaml.safe_load((root / "params.yaml").read_text())["train"]
    assert (train["lr0"], train["mosaic"]) == tuple(chosen["values"].values())
    done = subprocess.run(
        [sys.executable, "-m", "keypipe", "run", "--until", "train", "--json"],
        cwd=root, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [stage["state"] for stage in json.loads(done.stdout)["stages"]][-1] == "Restored"
    assert json.loads((root / "models/train.json").read_text())["run_id"] == chosen["run"]
    assert len(mlflow_runs(root)) == 4

    # What cleans up leaves the best; a sweep that is forgotten leaves its trainings.
    runs = [sys.executable, "-m", "keypipe", "runs"]
    gone = subprocess.check_output(runs, cwd=root, env=environment(COLUMNS="200"), text=True)
    assert "best of sweep rates" in gone
    assert "is forgotten" in keypipe(root, "rates", "--forget")
    assert "no sweep yet" in keypipe(root)
    assert not (root / ".keypipe/sweeps/rates").exists()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_trainings_at_a_time_and_one_that_fails(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", **{"train.epochs": 2})
    said = keypipe(root, "models", "train.model=yolov8n-pose.yaml|none-such.pt", "--trials", "2", "--workers", "2")
    found = json.loads(keypipe(root, "models", "--json"))
    states = {trial["values"]["train.model"]: trial["state"] for trial in found["trials"]}
    assert states["yolov8n-pose.yaml"] == "complete", said
    if "none-such.pt" in states:  # both draws may fall on the same one
        assert states["none-such.pt"] == "failed"
        assert "none-such.pt" in next(trial["message"] for trial in found["trials"] if trial["state"] == "failed")
    local = root / ".keypipe/sweeps/models"
    assert not list(local.glob("tree*"))


def test_parameters_that_are_wrong_are_told_before_a_sweep(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", n_images=0, **{"train.epochs": "many"})
    assert "train.epochs" in keypipe(root, "rates", "train.lr0=0.1..0.2", code=2)


@pytest.mark.slow
def test_without_a_database_that_can_be_used_nothing_is_trained(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "farm", n_images=12)
    (root / "mlflow.db").write_text("no database")
    said = keypipe(root, "rates", *SPACE, "--trials", "1", code=2)
    assert "the sweep cannot be recorded: the MLflow server sqlite:" in said
    assert [trial["state"] for trial in json.loads(keypipe(root, "rates", "--json"))["trials"]] == ["waiting"]
