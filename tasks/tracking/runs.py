"""Runs as they are recorded: one for a training, child runs for what is measured afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tasks.tracking.client import experiment_id, open_client, tracking_uri
from tasks.tracking.machine import own_process, package_versions
from tasks.workspace.models import TrainingRecord, read_record
from tasks.workspace.places import MODELS
from tasks.workspace.program import say

PACKAGES_FILE = "packages.json"

FINGERPRINT = "keypipe.fingerprint"
PROCESS = "keypipe.process"
LEASE = "keypipe.lease"
REASON = "keypipe.reason"
RESTORED = "keypipe.restored"
MACHINE = "keypipe.machine"
KEPT = "keypipe.kept"
STAGE = "keypipe.stage"
HEADLINE = "keypipe.headline"
PARENT = "mlflow.parentRunId"


class Run:
    """A live run; figures that a server did not take are sent again with the next ones."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._unsent: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log figures; a server that fails for a moment costs a warning, not the training."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException
        from mlflow.utils.time import get_current_time_millis

        self._unsent.append((step, dict(metrics)))
        now = get_current_time_millis()
        batch = [Metric(name, value, now, at) for at, figures in self._unsent for name, value in figures.items()]
        try:
            for start in range(0, len(batch), 1000):
                self.client.log_batch(self.run_id, metrics=batch[start : start + 1000])
            self._unsent.clear()
        except MlflowException as error:
            say(f"warning: MLflow did not take the figures, they are sent again later ({str(error).splitlines()[0]})")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, value)

    def log_files(self, path: Path, to: str | None = None) -> None:
        """Log a file, or all that a folder holds, as artifacts."""
        if path.is_dir():
            self.client.log_artifacts(self.run_id, str(path), to)
        else:
            self.client.log_artifact(self.run_id, str(path), to)

    def end(self, status: str, reason: str = "") -> None:
        """End the run as FINISHED, FAILED or KILLED, saying why."""
        if reason:
            self.client.set_tag(self.run_id, REASON, reason[:4900])
        self.client.set_terminated(self.run_id, status)


@contextmanager
def ending(run: Run) -> Iterator[Run]:
    """End a run with the block: FINISHED, FAILED with the reason, or KILLED when the process is told to stop."""
    try:
        yield run
    except (KeyboardInterrupt, SystemExit):
        run.end("KILLED", "stopped")
        raise
    except BaseException as error:
        run.end("FAILED", str(error) or type(error).__name__)
        raise
    run.end("FINISHED")


def start_training(root: Path, record: TrainingRecord, run_id: str | None = None) -> Run:
    """Open the run of a training, or go on with the one of a killed training.

    Args:
        root: the workspace.
        record: what identifies the training.
        run_id: the killed training's run.

    Raises:
        PoseError: the tracking server does not answer.
    """
    client = open_client(root)
    experiment = experiment_id(client, root)
    if run_id and _knows(client, run_id):
        client.update_run(run_id, status="RUNNING")
        run = Run(client, run_id)
        run.set_tags(_process_tags() | {"keypipe.resumed": "true"})
        return run
    return _create(client, experiment, record)


def _create(client: Any, experiment: str, record: TrainingRecord) -> Run:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    tags = {**record.tags, FINGERPRINT: record.fingerprint, **_process_tags()}
    name = f"train {record.fingerprint[:8]}"
    run = Run(client, client.create_run(experiment, tags=tags, run_name=name).info.run_id)
    params = [Param(key, value[:5900]) for key, value in record.params.items()]
    for start in range(0, len(params), 100):
        client.log_batch(run.run_id, params=params[start : start + 100])
    dataset = Dataset(
        name="data/raw",
        digest=record.raw_version[:36] or "unversioned",
        source_type="local",
        source=msgspec.json.encode({"uri": "data/raw.dvc", "dvc_md5": record.raw_version}).decode(),
        profile=msgspec.json.encode(record.counts).decode(),
    )
    client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    client.log_dict(run.run_id, package_versions(), PACKAGES_FILE)
    return run


def _process_tags() -> dict[str, str]:
    lease = os.environ.get("KEYPIPE_LEASE")
    return {PROCESS: own_process(), **({LEASE: lease} if lease else {})}


def _knows(client: Any, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "active")
    except MlflowException:
        return False


def find_training(root: Path, fingerprint: str) -> Run | None:
    """Find the newest finished run of a training by its fingerprint."""
    client = open_client(root)
    found = client.search_runs(
        [experiment_id(client, root)],
        filter_string=f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return Run(client, found[0].info.run_id) if found else None


def ensure_training(root: Path, record: TrainingRecord, models: Path) -> tuple[Run, bool]:
    """Find the run of a training; a server that does not know it gets it written anew, marked as restored.

    Args:
        root: the workspace.
        record: what the training left behind.
        models: its folder, for the artifacts.

    Returns:
        The run, and whether it had to be written.
    """
    found = find_training(root, record.fingerprint)
    if found:
        return found, False
    client = open_client(root)
    run = _create(client, experiment_id(client, root), record)
    with ending(run):
        run.set_tags({RESTORED: "true"})
        for number, metrics in enumerate(record.epochs, start=1):
            run.log_metrics(metrics, number)
        run.log_files(models, "models")
    return run, True


def find_run(root: Path) -> Run:
    """Find the MLflow run of the trained model, writing it anew where the server does not know it."""
    run, restored = ensure_training(root, read_record(root).record, root / MODELS)
    if restored:
        say(f"MLflow at {tracking_uri(root)} did not know this training: restored as run {run.run_id}")
    return run


@contextmanager
def child_run(root: Path, parent: Run, stage: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Open a child run of a training for the length of a block; its failure is not the training's.

    Args:
        root: the workspace.
        parent: the training's run.
        stage: name of the stage.
        tags: further tags.
    """
    client = open_client(root)
    experiment = client.get_run(parent.run_id).info.experiment_id
    all_tags = {PARENT: parent.run_id, STAGE: stage, **_process_tags(), **(tags or {})}
    run = Run(client, client.create_run(experiment, tags=all_tags, run_name=stage).info.run_id)
    with ending(run):
        yield run


def log_onnx_model(root: Path, run: Run, model: Path, height: int, width: int) -> None:
    """Log an ONNX file as an MLflow model with its signature.

    Args:
        root: the workspace.
        run: the run that gets it.
        model: the file.
        height: of the network's input, pixels.
        width: of the network's input, pixels.
    """
    open_client(root)
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    graph = onnx.load(str(model))
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 3, height, width), graph.graph.input[0].name)])
    shape = [dim.dim_value or -1 for dim in graph.graph.output[0].type.tensor_type.shape.dim]
    outputs = Schema([TensorSpec(np.dtype("float32"), (-1, *shape[1:]), graph.graph.output[0].name)])
    with mlflow.start_run(run_id=run.run_id):
        mlflow.onnx.log_model(
            graph, name="model", signature=ModelSignature(inputs, outputs), pip_requirements=["onnxruntime"]
        )
    # start_run() ended the run when its block did; it goes on until our own block ends.
    run.client.update_run(run.run_id, status="RUNNING")
