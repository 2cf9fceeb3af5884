from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tasks.engine.training.arguments import read_train_arguments
from tasks.engine.training.job import check_loaded
from tasks.engine.weights import hash_weights, read_checkpoint
from tasks.train import Progress, TrainParams, _read_progress, flatten, warn
from tasks.workspace.models import decode_figures
from tasks.workspace.program import write_json
from tests.imports import TELLS
from tests.patience import PATIENCE
from tests.workspace import dvc, environment, keep_weights, make_workspace, run_stage, run_stages, set_params

LOSSES = ("box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_epoch_is_recorded_and_keypoints_are_learnt_from_the_first(trained_once: Path) -> None:
    epochs = read(trained_once / "models/epochs.json")
    assert len(epochs) == 2
    for epoch in epochs:
        for loss in LOSSES:
            assert epoch[f"train/{loss}"] > 0
            assert epoch[f"val/{loss}"] > 0
        for kind in ("box", "pose"):
            for figure in ("precision", "recall", "mAP50", "mAP50-95"):
                assert f"val_ultralytics/{kind}_{figure}" in epoch
        assert epoch["lr/pg0"] > 0
    assert epochs[0]["train/kobj_loss"] > 0


def test_the_model_folder_is_whole_and_carries_schema_and_license(trained_once: Path) -> None:
    names = {path.name for path in (trained_once / "models").iterdir()}
    assert {"best.pt", "last.pt", "results.csv", "args.yaml", "train.json", "epochs.json", "timings.json"} <= names
    checkpoint = read_checkpoint(trained_once / "models/best.pt")
    assert checkpoint["keypipe"]["schema"]["classes"]["cow"]["keypoints"][0] == "nose"
    assert checkpoint["keypipe"]["license"] == "AGPL-3.0-or-later"
    assert not (trained_once / ".keypipe/train").exists()
    assert not (trained_once / ".keypipe/progress.json").exists()


def test_trained_once_more_in_another_place_weights_and_figures_are_the_same(
    trained_once: Path, tmp_path: Path
) -> None:
    root = tmp_path / "another"
    shutil.copytree(trained_once, root, symlinks=True)
    shutil.rmtree(root / "models")
    (root / "local.yaml").write_text("threads: 1\ndevice: cpu\ncache: false\nworkers: 2\n")
    run_stages(root, "train")
    for name in ("epochs.json", "results.csv"):
        assert (root / "models" / name).read_bytes() == (trained_once / "models" / name).read_bytes(), name
    for name in ("best.pt", "last.pt"):
        assert hash_weights(root / "models" / name) == hash_weights(trained_once / "models" / name)


def test_the_time_that_exact_resume_costs_is_recorded_apart_from_the_figures(trained_once: Path) -> None:
    timings = read(trained_once / "models/timings.json")
    assert len(timings["seconds_per_epoch"]) == 2
    (cost,) = timings["state_seconds_per_epoch"]
    assert cost > 0
    assert "second" not in (trained_once / "models/epochs.json").read_text()
    assert "time" not in (trained_once / "models/results.csv").read_text()


def test_the_run_says_whether_it_repeats(trained_once: Path) -> None:
    (parent,) = find_runs(trained_once, **{"keypipe.repeatable": "yes"})
    assert parent.info.run_id == read(trained_once / "models/train.json")["run_id"]


def test_the_best_epoch_is_the_one_with_most_of_the_declared_figure(trained_once: Path) -> None:
    summary, epochs = (read(trained_once / "models" / name) for name in ("train.json", "epochs.json"))
    assert summary["best_by"] == "oks_AP"
    values = [epoch["val_epoch/oks_AP"] for epoch in epochs]
    assert summary["best_value"] == values[summary["best_epoch"] - 1] == max(values)


@pytest.mark.slow
@pytest.mark.parametrize("best_by", ["oks_AP", "fitness"])
def test_the_figure_of_the_best_epoch_is_measured_again_from_its_file(tmp_path: Path, best_by: str) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=60, size_wh=(128, 96))
    # Sigmas so wide that a network of a hundred steps is worth something.
    wide = {"train.loss_sigma": 0.6, "validate.sigma": 0.6}
    set_params(root, **{"train.best_by": best_by, "train.epochs": 25, **wide})
    run_stages(root, "convert", "split", "train", "validate")
    summary = read(root / "models/train.json")
    again = read(root / "metrics/validate.json")["val"]
    measured = again["ultralytics"]["fitness"] if best_by == "fitness" else again["coco"][best_by]
    assert summary["best_value"] > 0, "something was learnt"
    assert measured == pytest.approx(summary["best_value"], abs=2e-3)


def test_nothing_is_written_beside_the_inputs(trained_once: Path) -> None:
    raw = [path.suffix for path in (trained_once / "data/raw").rglob("*") if path.is_file()]
    assert set(raw) == {".jpg", ".json"}
    unexpected = [path.name for path in trained_once.iterdir() if path.name in {"runs", "yolov8n.pt", "settings.json"}]
    assert not unexpected


def open_client(root: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def find_runs(root: Path, **tags: str) -> list[Any]:
    client = open_client(root)
    (experiment,) = client.search_experiments(filter_string="name = 'keypipe'")
    runs = client.search_runs([experiment.experiment_id])
    return [run for run in runs if all(run.data.tags.get(key) == value for key, value in tags.items())]


def test_one_mlflow_run_with_children(trained_once: Path) -> None:
    record = read(trained_once / "models/train.json")
    runs = {run.info.run_id: run for run in find_runs(trained_once)}
    assert len(runs) == 3
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs.pop(record["run_id"])
    assert parent.data.tags["keypipe.fingerprint"] == record["record"]["fingerprint"]
    assert parent.data.tags["keypipe.git_dirty"] in {"true", "false"}
    assert len(parent.data.tags["mlflow.source.git.commit"]) == 40
    assert parent.data.params["train.epochs"] == "2"
    assert parent.data.params["local.device"] == "cpu"
    for name in ("train/kobj_loss", "val/pose_loss", "val_ultralytics/pose_mAP50-95", "lr/pg0", "val_coco/oks_AP50"):
        assert name in parent.data.metrics
    assert not any(name.startswith("export") for name in parent.data.metrics), "they are on the child run"
    data = {item.dataset.name: item.dataset.digest for item in parent.inputs.dataset_inputs}
    assert data["data/raw"].endswith(".dir")
    assert {"val split", "test split"} <= data.keys()
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {record["run_id"]}
    assert {run.info.run_name for run in runs.values()} == {"validate", "export"}


def test_artifacts_and_the_logged_model(trained_once: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{trained_once / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    record = read(trained_once / "models/train.json")
    assert {item.path for item in client.list_artifacts(record["run_id"], "models")} >= {
        "models/best.pt",
        "models/results.csv",
    }
    (child,) = [run for run in find_runs(trained_once) if run.info.run_name == "export"]
    assert {item.path for item in client.list_artifacts(child.info.run_id)} >= {"exports", "reports"}
    (model,) = client.search_logged_models([child.info.experiment_id])
    info = mlflow.models.get_model_info(model.model_uri)
    assert info.signature.inputs.inputs[0].shape == (-1, 3, 96, 96)
    packages = client.download_artifacts(record["run_id"], "packages.json")
    assert "ultralytics" in Path(packages).read_text()


def test_a_killed_run_goes_on_from_its_last_checkpoint_in_the_same_mlflow_run(drawn: Path) -> None:
    set_params(drawn, **{"train.epochs": 60})
    run_stages(drawn, "convert", "split")
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.train"], cwd=drawn, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        state = wait_for_epochs(drawn, process, 2)
    finally:
        process.kill()
        process.wait()
    assert not (drawn / "models").exists()
    recorded = len(read(state)["epochs"])
    (killed,) = find_runs(drawn)
    assert killed.info.status == "RUNNING"

    # Sixty epochs are too many to wait for; let patience end them soon after going on.
    process = subprocess.Popen(
        [sys.executable, "-m", "tasks.train"], cwd=drawn, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        wait_for_epochs(drawn, process, recorded + 2)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    found = re.search(r"stopped after epoch (\d+)", output)
    assert found
    reached = int(found[1])
    assert reached in {recorded - 1, recorded}, "a kill between an epoch's record and its state repeats the epoch"
    numbers = [int(line.split()[1].split("/")[0]) for line in output.splitlines() if line.startswith("epoch ")]
    assert numbers[0] == reached + 1
    history = open_client(drawn).get_metric_history(killed.info.run_id, "train/pose_loss")
    steps = [entry.step for entry in history]
    assert steps == sorted(set(steps)), "no epoch is logged twice"
    (run,) = find_runs(drawn)
    assert run.info.run_id == killed.info.run_id
    assert run.info.status == "KILLED"
    assert run.data.tags["keypipe.resumed"] == "true"


@pytest.mark.faults
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_model_whose_recorder_falls_silent_is_kept_and_recorded_later(
    divided: Path, tmp_path: Path, when: str
) -> None:
    """On a real MLflow server that is away before a training or ended in its middle, and up after the last stage."""
    from tests.mlflow_server import MlflowServer

    set_params(divided, **{"train.epochs": 4, "export.formats": ["onnx"]})
    assert dvc(divided, "add", "--quiet", "data/raw").returncode == 0
    server = MlflowServer(tmp_path / "mlflow")
    if when == "during":
        server.start()
    uri = {"MLFLOW_TRACKING_URI": server.url}
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.train"],
            cwd=divided,
            env=environment(**uri),
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for_epochs(divided, process, 1)
        server.stop()
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert "warning: the MLflow server" in output
        assert "the rest waits in .keypipe/outbox" in output
        summary = read(divided / "models/train.json")
        assert len(summary["record"]["epochs"]) == 4
        for stage in ("validate", "export"):
            done = run_stage(divided, stage, **uri)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "the rest waits in .keypipe/outbox" in done.stdout

        server.start()
        command = [sys.executable, "-m", "keypipe", "runs"]
        done = subprocess.run(command, cwd=divided, env=environment(**uri), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "was told of 3 runs" in done.stdout
        training, *children = server.runs()
        if summary["run_id"] != training.info.run_id:  # it has no id of the server's before the server has answered
            assert summary["run_id"] == training.data.tags["keypipe.box"]
        refs = ["git", "for-each-ref", "--format=%(refname:lstrip=2)", "refs/keypipe"]
        named = subprocess.run(refs, cwd=divided, capture_output=True, text=True, check=True).stdout.split()
        assert named == [training.info.run_id], "its snapshot has the id that it got"
        assert {run.info.status for run in (training, *children)} == {"FINISHED"}
        assert [run.data.tags["keypipe.stage"] for run in children] == ["validate", "export"]
        history = server.client().get_metric_history(training.info.run_id, "train/pose_loss")
        assert [entry.step for entry in history] == [1, 2, 3, 4]
        assert "val_coco/oks_AP" in training.data.metrics
        assert {file.path for file in server.client().list_artifacts(training.info.run_id, "models")} >= {
            "models/best.pt"
        }
        (model,) = server.client().search_logged_models([training.info.experiment_id])
        assert (model.source_run_id, model.tags["keypipe.export"]) == (training.info.run_id, children[1].info.run_id)
        assert not list((divided / ".keypipe/outbox").iterdir())
        again = subprocess.run(command, cwd=divided, env=environment(**uri), capture_output=True, text=True)
        assert "was told" not in again.stdout
        assert len(server.runs()) == 3
    finally:
        server.stop()


LINGER = """
    import pathlib, time
    if not pathlib.Path(".keypipe/lingered").exists():
        pathlib.Path(".keypipe/lingered").write_text("")
        time.sleep(600)
"""


def test_a_training_that_dvc_had_not_taken_is_taken_up_by_the_next_dvc_repro(divided: Path) -> None:
    """The last line was printed, and the machine went down before DVC had its results."""
    train = divided / "tasks/train.py"
    train.write_text(train.read_text() + LINGER)
    assert dvc(divided, "add", "--quiet", "data/raw").returncode == 0
    done = dvc(divided, "repro", "split")
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "dvc", "repro", "train"]
    process = subprocess.Popen(
        command, cwd=divided, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 240
    while not (divided / ".keypipe/lingered").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if child.cwd() == str(divided):
                child.kill()
    weights = hash_weights(divided / "models/best.pt")

    done = dvc(divided, "repro", "train")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 1/2" not in done.stdout, "no epoch is trained again"
    assert "going on with a training that was stopped after epoch 2" in done.stdout
    assert hash_weights(divided / "models/best.pt") == weights
    (run,) = find_runs(divided)
    assert run.info.status == "FINISHED"

    # Once DVC has it, whoever forces it gets a training.
    done = dvc(divided, "repro", "--force", "--single-item", "train")
    assert done.returncode == 0, done.stderr
    assert "epoch 1/2" in done.stdout
    assert hash_weights(divided / "models/best.pt") == weights


def wait_for_epochs(root: Path, process: subprocess.Popen[Any], n: int) -> Path:
    """Wait until a training has recorded some epochs; return its state file."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
        assert process.poll() is None, "the training ended by itself"
        for state in (root / ".keypipe/train").glob("*/state.json"):
            if len(read(state)["epochs"]) >= n:
                return state
        time.sleep(0.1)
    raise AssertionError(f"no {n} epochs in time")


def refuse(root: Path, **env: str) -> str:
    done = run_stage(root, "train", **env)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("split") / "workspace", n_images=12)
    run_stages(root, "convert", "split")
    return root


@pytest.fixture
def divided(split_once: Path, tmp_path: Path) -> Path:
    root = tmp_path / "divided"
    shutil.copytree(split_once, root, symlinks=True)
    return root


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"train.epoch": 3}, "train.epoch: unknown parameter (did you mean epochs?)"),
        ({"train.device": "cpu"}, "train.device: not a parameter of a training: a setting of the machine"),
        ({"train.epochs": "many"}, "train.epochs: expected a value like 100, got 'many'"),
        ({"train.optimizer": "Adamm"}, "optimizer"),
        ({"train.best_by": "luck"}, "train.best_by: expected one of oks_AP, oks_AP50,"),
        ({"train.save_period": 5}, "train.save_period: not a parameter of a training"),
        ({"train.model": "nothing.yaml"}, "train.model: nothing.yaml: not weights that Ultralytics can load"),
        ({"train.model": "no-such-file.pt"}, "is not a file here and could not be fetched"),
    ],
)
def test_bad_parameters(divided: Path, params: dict[str, Any], message: str) -> None:
    set_params(divided, **params)
    assert message in refuse(divided)
    assert not (divided / "models").exists()


def test_published_weights_that_cannot_be_fetched_give_one_clear_line(divided: Path) -> None:
    set_params(divided, **{"train.model": "yolov8n-pose.pt"})
    done = run_stage(divided, "train")
    if done.returncode == 0:
        pytest.skip("the weights were fetched: this machine is online")
    assert done.returncode == 2, done.stderr
    assert "train.model: yolov8n-pose.pt is not a file here and could not be fetched" in done.stderr
    assert not list(divided.glob("*.pt"))


def test_weights_are_a_warm_start_by_keypoint_name_and_that_is_recorded(divided: Path, trained_once: Path) -> None:
    start = keep_weights(divided, trained_once / "models/best.pt", "start.pt")
    set_params(divided, **{"train.model": start, "train.epochs": 1})
    run_stages(divided, "train")
    shutil.rmtree(divided / "models")
    keypoints = ["left_ear", "muzzle", "nose"]
    set_params(divided, **{"schema.classes": {"cow": {"keypoints": keypoints}}, "convert.unknown_labels": "ignore"})
    run_stages(divided, "convert", "split")
    done = run_stage(divided, "train")
    assert done.returncode == 0, done.stderr
    assert (
        "start.pt; keypoints: 2 of 3 by name; new: muzzle; left out: right_ear, withers, " in done.stdout + done.stderr
    )
    tags = read(divided / "models/train.json")["record"]["tags"]
    assert tags["keypipe.start"] == start
    assert tags["keypipe.start.weights"] == hash_weights(divided / start)
    assert tags["keypipe.start.keypoints"].startswith("2 of 3 by name; new: muzzle; left out: right_ear")
    before, after = find_runs(divided)[1], find_runs(divided)[0]
    assert before.data.tags["keypipe.start.keypoints"] == "13 of 13 by name"
    assert {name: after.data.tags[name] for name in tags} == tags
    assert read(trained_once / "models/train.json")["record"]["tags"]["keypipe.start"] == "random weights"


def test_weights_that_know_no_keypoint_of_the_dataset_are_refused(divided: Path, trained_once: Path) -> None:
    start = keep_weights(divided, trained_once / "models/best.pt", "start.pt")
    set_params(divided, **{"train.model": start, "train.epochs": 1})
    keypoints = ["muzzle", "left_horn", "right_horn"]
    set_params(divided, **{"schema.classes": {"cow": {"keypoints": keypoints}}, "convert.unknown_labels": "ignore"})
    run_stages(divided, "convert", "split")
    message = refuse(divided)
    assert "start.pt knows none of the dataset's keypoints (it has nose, left_ear," in message
    assert "train.new_head: true" in message
    (failed,) = [run for run in find_runs(divided) if run.info.status == "FAILED"]
    assert "none of the dataset's keypoints" in failed.data.tags["keypipe.reason"]


def test_damaged_weights(divided: Path) -> None:
    (divided / "damaged.pt").write_bytes(b"no weights\0")
    start = keep_weights(divided, divided / "damaged.pt", "start.pt")
    set_params(divided, **{"train.model": start})
    assert "train.model: " in (message := refuse(divided))
    assert "start.pt: not weights that Ultralytics can load" in message
    set_params(divided, **{"train.model": "yolov8n-pose.yaml", "train.distill_model": start})
    assert "train.distill_model: " in (message := refuse(divided))
    assert "start.pt: not weights that Ultralytics can load" in message


def test_a_file_elsewhere_is_no_start_of_a_training(divided: Path) -> None:
    """It would be in no fingerprint, and too large for a snapshot; the refusal says what to do."""
    (divided / "start.pt").write_bytes(b"weights")
    set_params(divided, **{"train.model": "start.pt", "train.distill_model": str(divided / "start.pt")})
    said = refuse(divided)
    assert "params.yaml: train.model: start.pt: lies outside data/weights" in said
    assert "`keypipe weights start.pt` copies it there" in said
    assert "`keypipe weights --teacher start.pt` copies it there" in said
    assert not (divided / "models").exists()


@pytest.mark.slow
def test_a_training_learns_from_a_teacher(divided: Path, trained_once: Path) -> None:
    teacher = keep_weights(divided, trained_once / "models/best.pt", "teacher.pt")
    set_params(divided, **{"train.distill_model": teacher, "train.epochs": 1})
    run_stages(divided, "train")
    assert "train/dis_loss" in read(divided / "models/epochs.json")[0]
    tags = read(divided / "models/train.json")["record"]["tags"]
    assert tags["keypipe.start.teacher"] == hash_weights(divided / teacher)


def test_a_loader_that_drops_objects_stops_the_stage(divided: Path) -> None:
    label = next(path for path in (divided / "data/yolo/labels/train").rglob("*.txt") if path.read_text())
    line = label.read_text().splitlines()[0]
    label.write_text(label.read_text() + line + "\n")  # Ultralytics removes equal rows
    annotations = divided / "data/dataset/annotations/train.json"
    document = read(annotations)
    twin = dict(document["annotations"][0], id=10_000)
    document["annotations"].append(twin)
    annotations.write_text(json.dumps(document))
    message = refuse(divided)
    assert "the loader holds fewer train objects than were converted" in message


def test_check_loaded_names_the_images() -> None:
    from keypipe.errors import DatasetError

    labels = [{"im_file": "/x/images/train/a/1.jpg", "cls": [0, 0]}]
    check_loaded("train", labels, {"a/1.jpg": 2})
    with pytest.raises(DatasetError, match=r"a/1.jpg: 3 converted, 2 held; b.jpg: 1 converted, image dropped"):
        check_loaded("train", labels, {"a/1.jpg": 3, "b.jpg": 1})


def test_several_devices_are_refused(divided: Path) -> None:
    (divided / "local.yaml").write_text('device: "0,1"\n')
    assert "local.yaml: device: '0,1': a training uses one device" in refuse(divided)


def test_a_seed_of_zero_is_a_seed(tmp_path: Path) -> None:
    from tasks.workspace import params as read

    (tmp_path / "params.yaml").write_text("seed: 0\n")
    seed = read.load_seed(read.read_params(tmp_path))
    assert type(seed) is int
    assert seed == 0


def test_an_address_that_is_none_of_mlflows_stops_before_training(divided: Path) -> None:
    assert "MLFLOW_TRACKING_URI=./mlruns: a folder" in refuse(divided, MLFLOW_TRACKING_URI="./mlruns")
    assert "neither a server nor a database" in refuse(divided, MLFLOW_TRACKING_URI="htp://127.0.0.1:9")


def test_before_split_it_says_what_to_run(drawn: Path) -> None:
    assert "run the split stage first" in refuse(drawn)


def test_a_warning_when_boxes_are_learnt_and_keypoints_are_not() -> None:
    def epoch(box: float, pose: float) -> dict[str, float]:
        return {"val_ultralytics/box_mAP50": box, "val_ultralytics/pose_mAP50": pose}

    assert warn([epoch(0.2, 0.0), epoch(0.7, 0.01)])
    assert not warn([epoch(0.7, 0.4)])
    assert not warn([epoch(0.3, 0.0)])
    assert not warn([])
    (note,) = warn([{}] * 3, [["val/box_loss"], [], ["val/box_loss"]])
    assert note.startswith("val/box_loss was not a number in 2 of 3 epochs")


def test_a_figure_that_is_not_a_number_is_told_and_leaves_every_file_readable(divided: Path) -> None:
    trainer = divided / "tasks/engine/training/trainer.py"
    good = 'metrics["train/loss_sigma"] ='
    assert good in trainer.read_text()
    odd = """if self.epoch == 0:
            metrics |= {"val/pose_loss": float("nan"), "lr/pg0": float("inf")}
        """
    trainer.write_text(trainer.read_text().replace(good, f"{odd}{good}"))
    done = run_stage(divided, "train")
    assert done.returncode == 0, done.stderr
    assert "warning: epoch 1: not a number, and not recorded: val/pose_loss, lr/pg0" in done.stdout
    assert "warning: val/pose_loss was not a number in 1 of 2 epochs" in done.stdout
    first, second = read(divided / "models/epochs.json")
    assert second.keys() - first.keys() == {"val/pose_loss", "lr/pg0"}
    assert "null" not in (divided / "models/train.json").read_text()
    run_stages(divided, "validate")


def test_a_killed_training_with_a_figure_that_is_not_a_number_goes_on(tmp_path: Path) -> None:
    progress = Progress(run_id="1", epochs=[{"val/pose_loss": float("nan"), "lr/pg0": 0.1}])
    write_json(tmp_path / "state.json", progress)
    assert _read_progress(tmp_path).epochs == []  # nothing of the engine's own is there: it starts over
    found = decode_figures((tmp_path / "state.json").read_bytes(), Progress)
    assert found.epochs == [{"lr/pg0": 0.1}]


def test_all_train_arguments_of_ultralytics_are_known() -> None:
    known = read_train_arguments()
    assert {"epochs", "lr0", "mosaic", "degrees", "optimizer", "pose", "kobj", "box", "patience"} <= known.keys()
    assert not TrainParams.find_problems(
        {"epochs": 3, "lr0": 1e-3, "mosaic": 0, "optimizer": "AdamW", "cos_lr": True, "freeze": [1]}
    )


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": "1", "a.c": "[1, 2]", "d": "None"}


def test_mirroring_is_off_without_pairs(divided: Path) -> None:
    set_params(divided, **{"schema.classes.cow.pairs": [], "train.epochs": 1})
    run_stages(divided, "split", "train")
    import yaml

    assert yaml.safe_load((divided / "models/args.yaml").read_text())["fliplr"] == 0


def test_only_code_that_trains_makes_a_training_stale(trained: Path) -> None:
    """On DVC itself: pages, drawings, records and what editors drop leave the model up to date."""
    assert dvc(trained, "commit", "--force", "--quiet").returncode == 0

    def is_stale() -> bool:
        return "Data and pipelines are up to date." not in dvc(trained, "status", "train").stdout

    assert not is_stale()
    for place in TELLS:
        file = trained / place
        for path in [file] if file.is_file() else sorted(file.glob("*.py")):
            path.write_text(path.read_text() + "# mended\n")
    folder = trained / "tasks/engine/training"
    for name in ("trainer.py~", ".trainer.py.swp", ".#trainer.py", "__pycache__/trainer.cpython-311.pyc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("dropped")
    assert not is_stale()
    trainer = folder / "trainer.py"
    trainer.write_text(trainer.read_text() + "# mended\n")
    assert is_stale()


@pytest.mark.slow
def test_images_of_every_kind_are_trained_on_and_the_weights_say_how_they_were_scaled(drawn: Path) -> None:
    """No image is lost between convert and Ultralytics' loader, which stops the stage where it holds fewer objects."""
    raw = drawn / "data/raw"
    suffixes = (".jfif", ".jpe", ".avif", ".jp2", ".pgm", ".png", ".tif")
    for path, suffix in zip(sorted(raw.rglob("*.json"))[: len(suffixes)], suffixes, strict=True):
        with Image.open(path.with_suffix(".jpg")) as picture:
            grey = np.asarray(picture.convert("L"))
            if suffix in {".jfif", ".jpe"}:
                path.with_suffix(suffix).write_bytes(path.with_suffix(".jpg").read_bytes())
            elif suffix == ".tif":
                Image.fromarray(grey.astype(np.float32) / 255).save(path.with_suffix(suffix))
            else:
                deep = grey.astype(np.uint16) * 16 if suffix == ".png" else grey
                Image.fromarray(deep).save(path.with_suffix(suffix))
        path.with_suffix(".jpg").unlink()
        path.write_text(path.read_text().replace(".jpg", suffix))
    set_params(drawn, **{"convert.depth": "scale"})
    assert dvc(drawn, "add", "--quiet", "data/raw").returncode == 0
    run_stages(drawn, "convert", "split", "train")
    derived = json.loads((drawn / "reports/convert/report.json").read_text())["derived_images"]
    assert sorted(Path(path).suffix for path in derived) == [".pgm", ".png", ".tif"]
    from tasks.engine.inference import load_torch_model

    assert load_torch_model(drawn / "models/best.pt", "cpu")[1].depth == "scale"
