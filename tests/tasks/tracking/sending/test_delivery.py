"""What a run records while a real MLflow server is away, frozen or back: nothing is lost, nothing is told twice."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keypipe.errors import ConfigError, PoseError
from tasks.tracking import history, outbox, runs
from tasks.tracking.client import tracking_uri
from tasks.tracking.sending import courier
from tasks.tracking.sending.delivery import deliver_all, name_params, take_over
from tasks.workspace.models import FORMAT, Summary, TrainingRecord
from tasks.workspace.places import BEST, MODELS, OUTBOX, RECORD
from tasks.workspace.program import write_json
from tests.faults.proxy import BadLine
from tests.flows.toy import wait_until
from tests.imports import ROOT
from tests.mlflow_server import MlflowServer

FINGERPRINT = "f" * 64


@pytest.fixture(scope="module")
def server_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(server_once: MlflowServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MlflowServer:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_once.url)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)  # of each test its own
    if server_once._process is None:
        server_once.start()
    return server_once


def make_record(epochs: int = 0) -> TrainingRecord:
    figures = [{"train/pose_loss": 1.0 / number} for number in range(1, epochs + 1)]
    return TrainingRecord(FINGERPRINT, {"train.epochs": "3"}, {"keypipe.git_commit": "none"}, "abc.dir", {}, figures)


def write_models(root: Path, run_id: str, epochs: int = 2) -> None:
    """Leave what a training leaves."""
    (root / MODELS).mkdir(exist_ok=True)
    (root / BEST).write_bytes(b"weights")
    record = make_record(epochs)
    write_json(root / RECORD, Summary("2 epochs", run_id, 1, [], record, "oks_AP", 0.5, 1, FORMAT))


def begin(root: Path) -> runs.Run:
    """Begin a training, and wait until the server knows it."""
    live = runs.start_training(root, make_record())
    wait_until(lambda: not outbox.is_box_name(live.run_id), "the server to know the run")
    return live


def kill_a_training(root: Path, start: str = "runs.start_training(root, make_record())") -> str:
    """Begin a training in a process that is killed after an epoch; returns its run's id."""
    program = (
        "import os, signal, sys; from pathlib import Path; from tasks.tracking import runs;"
        "from tests.tasks.tracking.sending.test_delivery import begin, make_record;"
        f"root = Path(sys.argv[1]); live = {start};"
        "live.log_metrics({'train/pose_loss': 3.0}, 1);"
        "print(live.run_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(root)], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()[-1]


def of(server: MlflowServer, root: Path) -> list:
    client = server.client()
    experiment = client.get_experiment_by_name(root.name)
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def test_a_training_and_what_comes_after_it_are_told_once_when_the_server_is_back(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = begin(tmp_path)
    run_id = live.run_id
    with runs.ending(live):
        live.log_metrics({"train/pose_loss": 3.0}, 1)
        server.stop()
        live.log_metrics({"train/pose_loss": 2.0, "val/pose_loss": float("nan")}, 2)
        write_models(tmp_path, run_id)
        live.relax()
        live.log_files(tmp_path / MODELS, "models")
    (tmp_path / BEST).write_bytes(b"of a later training")  # what waits is what was recorded
    parent = runs.find_run(tmp_path)
    with runs.child_run(tmp_path, parent, "validate") as child:
        parent.log_metrics({"val_coco/oks_AP": 0.5})
        child.log_metrics({"val_coco/oks_AP": 0.5})
        child.log_files(tmp_path / RECORD, "reports")
    output = capsys.readouterr().out
    assert output.count("does not answer") >= 1
    assert f"the rest waits in {OUTBOX}, and the next keypipe command that reaches the server sends it" in output
    assert sum(outbox.count_waiting(tmp_path).values()) == 2
    shutil.rmtree(tmp_path / MODELS)

    server.start()
    assert [run.id for run in history.list_runs(tmp_path)][-1] == run_id
    assert "was told of 2 runs" in capsys.readouterr().out
    training, validation = of(server, tmp_path)
    assert (training.info.run_id, training.info.status, validation.info.status) == (run_id, "FINISHED", "FINISHED")
    assert validation.data.tags["mlflow.parentRunId"] == run_id
    client = server.client()
    assert [metric.step for metric in client.get_metric_history(run_id, "train/pose_loss")] == [1, 2]
    (odd,) = client.get_metric_history(run_id, "val/pose_loss")
    assert math.isnan(odd.value)
    assert len(client.get_metric_history(run_id, "val_coco/oks_AP")) == 1
    assert {file.path for file in client.list_artifacts(run_id, "models")} == {"models/best.pt", "models/train.json"}
    path = client.download_artifacts(run_id, "models/best.pt", str(tmp_path))
    assert Path(path).read_bytes() == b"weights"
    assert not list((tmp_path / OUTBOX).iterdir())
    history.list_runs(tmp_path)
    assert capsys.readouterr().out == ""
    assert len(of(server, tmp_path)) == 2


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.faults), pytest.param(3, marks=pytest.mark.faults)]
)
def test_over_a_line_that_delays_and_cuts_every_point_is_recorded_once(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    steps = range(1, 41)
    with BadLine(server.port, seed) as line:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", line.url)
        live = runs.start_training(tmp_path, make_record())
        with runs.ending(live):
            for step in steps:
                live.log_metrics({"train/pose_loss": 1 / step, "val_epoch/oks_AP": step / 100}, step)
                time.sleep(0.1)
            write_models(tmp_path, live.run_id)
            live.relax()
            live.log_files(tmp_path / MODELS, "models")
        line.mend()
        history.list_runs(tmp_path)
    assert line.cut >= 3, "the line was too good"
    (training,) = of(server, tmp_path)
    assert training.info.status == "FINISHED"
    client = server.client()
    for name in ("train/pose_loss", "val_epoch/oks_AP"):
        told = client.get_metric_history(training.info.run_id, name)
        assert [metric.step for metric in told] == list(steps)
    assert {file.path for file in client.list_artifacts(training.info.run_id, "models")} == {
        "models/best.pt",
        "models/train.json",
    }
    assert not list((tmp_path / OUTBOX).iterdir())


def test_what_was_sent_and_not_acknowledged_is_not_there_twice(server: MlflowServer, tmp_path: Path) -> None:
    live = begin(tmp_path)
    write_models(tmp_path, live.run_id)
    live.end("FINISHED")
    parent = runs.find_run(tmp_path)
    box = outbox.open_box(
        tmp_path,
        outbox.RunInfo(server.url, tmp_path.name, FINGERPRINT, "validate", stage="validate"),
    )
    box.add(outbox.Metrics({"val_coco/oks_AP": 0.5}, 0, outbox.now()))
    box.add(outbox.Files("reports"), tmp_path / RECORD)
    box.add(outbox.Status("FINISHED", "", outbox.now()))
    kept = tmp_path / "kept"
    shutil.copytree(box.path, kept)
    from tasks.tracking.sending.delivery import send

    send(tmp_path, box)
    run_id = box.run.run_id
    # The answers got lost: nothing that was sent is known to have been, but that a run was asked for.
    shutil.rmtree(box.path)
    shutil.copytree(kept, box.path)
    box.run.run_id = ""
    box.run.asked = True
    box.save()
    send(tmp_path, box)
    assert box.run.run_id == run_id
    box.close()
    assert len(of(server, tmp_path)) == 2
    assert len(server.client().get_metric_history(run_id, "val_coco/oks_AP")) == 1
    assert parent.run_id


def test_a_training_never_waits_for_a_server_that_takes_connections_and_never_answers(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = begin(tmp_path)
    server.freeze()
    try:
        for step in range(20):
            live.log_metrics({"train/pose_loss": 1.0}, step)
        sender = next(thread for thread in threading.enumerate() if thread.name == "keypipe-courier")
        assert len(list((tmp_path / OUTBOX).glob("*/*.item"))) >= 19, "written down, and not sent by who wrote it"
        live.end("FINISHED")
        assert not sender.is_alive()
        assert "does not answer" in capsys.readouterr().out
        runs.start_training(tmp_path, make_record()).end("KILLED", "the test ends it")  # one starts all the same
    finally:
        server.thaw()
    history.list_runs(tmp_path)
    first, second = of(server, tmp_path)
    assert (first.info.run_id, first.info.status, second.info.status) == (live.run_id, "FINISHED", "KILLED")
    assert len(server.client().get_metric_history(live.run_id, "train/pose_loss")) == 20
    assert not list((tmp_path / OUTBOX).iterdir())


def test_a_loader_process_that_is_forked_meanwhile_finds_no_lock_held(server: MlflowServer, tmp_path: Path) -> None:
    live = begin(tmp_path)
    server.freeze()
    try:
        live.log_metrics({"train/pose_loss": 1.0}, 1)
        wait_until(lambda: not courier._sending.acquire(blocking=False) or courier._sending.release(), "it to be sent")
        child = os.fork()
        if not child:
            os._exit(0 if courier._sending.acquire(blocking=False) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert live.silence, "the fork has waited for the end of the try"
    finally:
        server.thaw()
    live.end("FINISHED")


def test_what_is_recorded_is_sent_while_the_training_goes_on(server: MlflowServer, tmp_path: Path) -> None:
    live = begin(tmp_path)
    for step in range(30):
        live.log_metrics({"train/pose_loss": 1.0}, step)
    wait_until(lambda: not list((tmp_path / OUTBOX).glob("*/*.item")), "all of it to be sent")
    assert len(server.client().get_metric_history(live.run_id, "train/pose_loss")) == 30
    live.end("FINISHED")


def test_a_training_starts_though_the_server_is_away_and_is_told_once_when_it_is_back(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    live = runs.start_training(tmp_path, make_record())
    name = live.run_id
    assert outbox.is_box_name(name)
    with runs.ending(live):
        live.log_metrics({"train/pose_loss": 3.0}, 1)
        write_models(tmp_path, name)
        live.relax()
        live.log_files(tmp_path / MODELS, "models")
    parent = runs.find_run(tmp_path)
    with runs.child_run(tmp_path, parent, "validate") as child:
        parent.log_metrics({"val_coco/oks_AP": 0.5})
        child.log_metrics({"val_coco/oks_AP": 0.5})
    output = capsys.readouterr().out
    assert "does not answer" in output
    assert f"what it is not told waits in {OUTBOX}" in output
    assert sum(outbox.count_waiting(tmp_path).values()) == 2

    server.start()
    history.list_runs(tmp_path)
    training, validation = of(server, tmp_path)
    assert (training.info.status, validation.info.status) == ("FINISHED", "FINISHED")
    assert training.data.params == {"train.epochs": "3"}
    assert training.data.metrics == {"train/pose_loss": 3.0, "val_coco/oks_AP": 0.5}
    assert training.data.tags["keypipe.box"] == name
    assert validation.data.tags["mlflow.parentRunId"] == training.info.run_id
    assert not list((tmp_path / OUTBOX).iterdir())
    assert runs.find_run(tmp_path).run_id == training.info.run_id


def test_a_training_that_began_without_a_server_and_was_killed_goes_on_as_one_run(
    server: MlflowServer, tmp_path: Path
) -> None:
    server.stop()
    name = kill_a_training(tmp_path)
    assert outbox.is_box_name(name)
    live = runs.start_training(tmp_path, make_record(), name)
    assert live.run_id == name
    live.log_metrics({"train/pose_loss": 2.0}, 2)
    server.start()
    live.end("FINISHED")
    (run,) = history.list_runs(tmp_path)
    assert (run.status, run.tags["keypipe.resumed"], run.tags["keypipe.box"]) == ("FINISHED", "true", name)
    assert [metric.step for metric in server.client().get_metric_history(run.id, "train/pose_loss")] == [1, 2]
    assert len(of(server, tmp_path)) == 1


@pytest.mark.parametrize("uri", ["./mlruns", "htp://127.0.0.1:5000", "sqlite:mlflow.db", "mysql://127.0.0.1:9/db"])
def test_a_wrong_address_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError, match=r"^MLFLOW_TRACKING_URI=") as raised:
        runs.start_training(tmp_path, make_record())
    assert len(str(raised.value).splitlines()) == 1
    assert not (tmp_path / OUTBOX).exists() or not list((tmp_path / OUTBOX).iterdir())


def test_a_deleted_experiment_starts_nothing(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "_START_SECONDS", 120.0)  # the server may be slow here
    client = server.client()
    client.delete_experiment(client.create_experiment(tmp_path.name))
    with pytest.raises(ConfigError, match="is deleted; restore it"):
        runs.start_training(tmp_path, make_record())
    assert not list((tmp_path / OUTBOX).iterdir())


def test_a_process_that_is_killed_leaves_no_run_running(server: MlflowServer, tmp_path: Path) -> None:
    """As under a plain ``dvc repro``, whose end nobody sees."""
    run_id = kill_a_training(tmp_path, "begin(root)")
    assert server.client().get_run(run_id).info.status == "RUNNING"
    (run,) = history.list_runs(tmp_path)
    assert (run.id, run.status, run.tags["keypipe.reason"]) == (run_id, "KILLED", "its process is gone")

    live = runs.start_training(tmp_path, make_record(), run_id)  # it goes on where it was
    assert live.run_id == run_id
    assert [run.status for run in history.list_runs(tmp_path)] == ["RUNNING"], "its process lives"
    live.end("FINISHED")
    (run,) = history.list_runs(tmp_path)
    assert (run.status, run.tags["keypipe.resumed"]) == ("FINISHED", "true")


def test_a_run_that_was_deleted_on_the_server_stops_nothing(
    server: MlflowServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = begin(tmp_path)
    server.client().delete_run(live.run_id)
    live.log_metrics({"train/pose_loss": 1.0}, 1)
    live.end("FINISHED")
    assert "MLflow refuses to record metrics of train ffffffff" in capsys.readouterr().out
    assert not list((tmp_path / OUTBOX).iterdir())


def test_an_artifact_that_cannot_be_stored_keeps_the_rest_from_nothing(server: MlflowServer, tmp_path: Path) -> None:
    live = begin(tmp_path)
    write_models(tmp_path, live.run_id)
    wait_until(lambda: not list((tmp_path / OUTBOX).glob("*/*.item")), "what it began with to be sent")
    artifacts = server.folder / "artifacts"
    artifacts.rename(server.folder / "elsewhere")
    artifacts.write_text("no folder")
    live.relax()
    live.log_files(tmp_path / MODELS, "models")
    live.log_metrics({"train/pose_loss": 1.0}, 1)
    live.end("FINISHED")
    run = server.client().get_run(live.run_id)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"train/pose_loss": 1.0})
    artifacts.unlink()
    (server.folder / "elsewhere").rename(artifacts)
    deliver_all(tmp_path)
    assert len(server.client().list_artifacts(live.run_id, "models")) == 2
    assert not list((tmp_path / OUTBOX).iterdir())


def test_a_training_that_the_server_does_not_know_is_written_anew(server: MlflowServer, tmp_path: Path) -> None:
    write_models(tmp_path, "of another server")
    parent = runs.find_run(tmp_path)
    (run,) = of(server, tmp_path)
    assert (run.info.run_id, run.data.tags["keypipe.restored"]) == (parent.run_id, "true")
    assert len(server.client().get_metric_history(parent.run_id, "train/pose_loss")) == 2
    assert runs.find_run(tmp_path).run_id == parent.run_id


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("./mlruns", "MLFLOW_TRACKING_URI=./mlruns: a folder; MLflow keeps runs in a database or on a server"),
        ("mlruns", "MLFLOW_TRACKING_URI=mlruns: a folder"),
        ("file:///data/mlruns", "MLFLOW_TRACKING_URI=file:///data/mlruns: a folder"),
        ("htp://host:5000", "neither a server nor a database that MLflow knows"),
        ("sqlit:///mlflow.db", "neither a server nor a database that MLflow knows"),
        ("localhost:5000", "neither a server nor a database that MLflow knows"),
        ("htps://me:secret@host", "MLFLOW_TRACKING_URI=htps://host: neither"),
        ("http://", "names no host"),
        ("sqlite:mlflow.db", "neither a server nor a database"),
        ("sqlite://mlflow.db", "SQLite takes three slashes"),
    ],
)
def test_an_address_that_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(ConfigError) as raised:
        tracking_uri(tmp_path)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("uri", ["postgresql+psycopg2://a:b@host/db", "mysql://a:b@host/db", "databricks", "https://h"])
def test_servers_and_databases_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri(tmp_path) == uri


def test_a_database_whose_driver_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql://a:secret@127.0.0.1:9/db")
    with pytest.raises(PoseError, match=r"mysql://127.0.0.1:9/db: needs a package that is not there"):
        history.list_runs(tmp_path)


@given(st.lists(st.text(max_size=300), max_size=4, unique=True))
@example(["schema.classes.</script><b onclick='x'>.keypoints", "schema.classes.a//b.keypoints", "../a", ".", "", "/a"])
@example(["a?", "a!", "x" * 251, "x" * 252, "x" * 249 + "/a"])
@example(["train.epochs", "schema.classes.奶牛.keypoints", "schema.classes.left/right.keypoints"])
def test_parameters_get_names_that_mlflow_takes_and_none_is_lost(keys: list[str]) -> None:
    from mlflow.utils.validation import _validate_param

    named = name_params({key: str(number) for number, key in enumerate(keys)})
    assert list(named.values()) == [str(number) for number in range(len(keys))]
    for key, value in named.items():
        _validate_param(key, value)
    if "train.epochs" in keys:
        assert list(named) == keys


def test_what_a_tree_that_goes_has_not_told_is_told_from_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a sweep, whose trees name the workspace's own database by its address."""
    root, tree = tmp_path / "farm", tmp_path / "farm/.keypipe/sweeps/rates/tree0"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, server in (("ended", tracking_uri(root)), ("killed", tracking_uri(root)), ("other", "http://other:1")):
        box = outbox.open_box(tree, outbox.RunInfo(server, "keypipe", name, name))
        box.add(outbox.Tags({"some": "tag"}))
        if name != "killed":
            box.add(outbox.Status("FINISHED", "", 1))
        box.close()
    take_over(root, tree)
    assert outbox.list_boxes(tree) == []
    boxes = {box.run.name: box for box in outbox.list_boxes(root)}
    own = "the workspace's own database"
    assert {name: box.run.server for name, box in boxes.items()} == {
        "ended": own,
        "killed": own,
        "other": "http://other:1",
    }
    assert all(box.run.ended for box in boxes.values())
    assert [type(item).__name__ for _, item in boxes["killed"].items()] == ["Tags", "Status", "Note"]
    assert "MLflow (the workspace's own database) was not told all of 2 runs" in "".join(outbox.describe_waiting(root))
