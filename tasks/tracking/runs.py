"""The only importer of MLflow: one run for a training, child runs for what is measured afterwards."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import msgspec
import psutil

from keypipe.errors import ConfigError, PoseError
from tasks.workspace.program import say

EXPERIMENT = "keypipe"
DATABASE = Path("mlflow.db")  # where `mlflow ui` looks by itself
ARTIFACTS = Path("mlartifacts")
PACKAGES = ("keypipe", "ultralytics", "torch", "torchvision", "numpy", "opencv-python-headless", "onnx", "onnxruntime",
            "prefect", "dvc", "mlflow", "labelme", "scikit-learn", "faster-coco-eval")  # fmt: skip

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

_NO_METRIC_NAME = str.maketrans({"(": "_", ")": "", "%": "_", "=": "_"})


class TrainingRecord(msgspec.Struct):
    """What a training run is made of; enough to write it anew on a server that does not know it.

    Attributes:
        fingerprint: DVC's fingerprint of the train stage.
        params: flat parameters, such as ``train.epochs``.
        tags: what identifies data, code and machine.
        raw_version: DVC hash of ``data/raw``.
        counts: images and objects by side, such as ``train images``.
        epochs: metrics of each epoch, by their MLflow names.
    """

    fingerprint: str
    params: dict[str, str]
    tags: dict[str, str]
    raw_version: str
    counts: dict[str, int]
    epochs: list[dict[str, float]] = []


def tracking_uri(root: Path) -> str:
    """Return the tracking server: ``MLFLOW_TRACKING_URI``, else SQLite in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / DATABASE).resolve()}"


def _client(root: Path) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # A fresh SQLite file is filled by hundreds of migrations, each of them announced.
    import logging

    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    import mlflow

    uri = tracking_uri(root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
    return mlflow.MlflowClient(tracking_uri=uri)


def _experiment_id(client: Any, root: Path) -> str:
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    try:
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise ConfigError(
                    f"the MLflow experiment {name!r} is deleted; restore it, or set MLFLOW_EXPERIMENT_NAME"
                )
            return str(found.experiment_id)
        local = urlparse(tracking_uri(root)).scheme == "sqlite"
        location = (root / ARTIFACTS).resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        raise PoseError(
            f"the MLflow server {tracking_uri(root)} does not answer ({str(error).splitlines()[0]});"
            " start it, correct MLFLOW_TRACKING_URI, or unset it to record in the workspace"
        ) from error


def metric_name(name: str) -> str:
    """Return the MLflow name of one of Ultralytics' figures.

    ``metrics/mAP50(P)`` -> ``val_ultralytics/pose_mAP50``; losses and learning rates keep theirs.
    """
    kinds = {"(B)": "box", "(P)": "pose"}
    if name.startswith("metrics/"):
        bare = name.removeprefix("metrics/")
        kind = kinds.get(bare[-3:])
        return f"val_ultralytics/{kind}_{bare[:-3]}" if kind else f"val_ultralytics/{bare}"
    return name.translate(_NO_METRIC_NAME)


def own_process() -> str:
    """Return ``host:pid:start time`` of this process, which no later process shares."""
    return f"{platform.node()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def process_is_dead(identity: str) -> bool:
    """Tell whether a process is gone; one of another host is never known to be.

    Args:
        identity: as ``own_process`` gives it.
    """
    host, pid, started = identity.rsplit(":", 2) if identity.count(":") >= 2 else ("", "", "")
    if host != platform.node():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True


def machine_type() -> str:
    """Return what of a machine may change the bits of a result: system, processor, cores and GPUs."""
    processors = _values(Path("/proc/cpuinfo"), "model name") or [platform.processor() or platform.machine()]
    places = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    gpus = [f"{GPU} {name}" for place in places for name in _values(place, "Model")]
    return ", ".join([platform.system(), platform.machine(), processors[0], f"{os.cpu_count()} cores", *gpus])


def _values(path: Path, key: str) -> list[str]:
    """Return what stands behind ``key:`` in a file of the system; nothing where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key]


GPU = "GPU"
"""Word before a GPU's name in ``machine_type``."""


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape a result."""
    found: dict[str, str] = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


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


@contextlib.contextmanager
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
    client = _client(root)
    experiment = _experiment_id(client, root)
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
    client = _client(root)
    found = client.search_runs(
        [_experiment_id(client, root)],
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
    client = _client(root)
    run = _create(client, _experiment_id(client, root), record)
    with ending(run):
        run.set_tags({RESTORED: "true"})
        for number, metrics in enumerate(record.epochs, start=1):
            run.log_metrics(metrics, number)
        run.log_files(models, "models")
    return run, True


@contextlib.contextmanager
def child_run(root: Path, parent: Run, stage: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
    """Open a child run of a training for the length of a block; its failure is not the training's.

    Args:
        root: the workspace.
        parent: the training's run.
        stage: name of the stage.
        tags: further tags.
    """
    client = _client(root)
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
    _client(root)
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


class TrackedRun(msgspec.Struct, frozen=True):
    """A run as the tracking server knows it.

    Attributes:
        id: its id.
        name: such as ``train 1a2b3c4d``.
        status: RUNNING, FINISHED, FAILED, KILLED or SCHEDULED.
        started: seconds since the epoch.
        tags: all of them.
        params: the parameters, flat.
    """

    id: str
    name: str
    status: str
    started: float
    tags: Mapping[str, str]
    params: Mapping[str, str]


def list_runs(root: Path) -> list[TrackedRun]:
    """Return every run of the experiment, trainings and their children, newest first."""
    if _is_untouched(root):
        return []
    client = _client(root)
    experiment = _experiment_id(client, root)
    runs = _all_pages(
        lambda token: client.search_runs([experiment], order_by=["attributes.start_time DESC"], page_token=token)
    )
    return [
        TrackedRun(
            run.info.run_id,
            run.info.run_name or "",
            run.info.status,
            (run.info.start_time or 0) / 1000,
            run.data.tags,
            run.data.params,
        )
        for run in runs
    ]


def _is_untouched(root: Path) -> bool:
    """Tell whether the workspace's own database does not exist yet; asking MLflow would make one."""
    return tracking_uri(root).startswith("sqlite") and not (root / DATABASE).exists()


def _all_pages(ask: Callable[[str | None], Any]) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found


def registered_models(root: Path) -> dict[str, list[str]]:
    """Return the registered model versions that came of each run, such as ``{run_id: ["cow v3"]}``."""
    if _is_untouched(root):
        return {}
    client = _client(root)
    found: dict[str, list[str]] = {}
    for version_ in _all_pages(lambda token: client.search_model_versions(page_token=token)):
        run_id = version_.run_id
        if not run_id and version_.model_id:
            run_id = client.get_logged_model(version_.model_id).source_run_id
        if run_id:
            found.setdefault(run_id, []).append(f"{version_.name} v{version_.version}")
    return found


def read_packages(root: Path, run_id: str) -> dict[str, str]:
    """Return the versions of the packages that a training was made with; nothing where its artifact is gone."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        try:
            path = _client(root).download_artifacts(run_id, PACKAGES_FILE, folder)
        except (MlflowException, OSError):
            return {}
        return msgspec.json.decode(Path(path).read_bytes(), type=dict[str, str])


def tag_run(root: Path, run_id: str, tags: Mapping[str, str | None]) -> None:
    """Set tags of a run; None takes one away."""
    client = _client(root)
    for key, value in tags.items():
        if value is not None:
            client.set_tag(run_id, key, value)
        elif key in client.get_run(run_id).data.tags:
            client.delete_tag(run_id, key)


def artifact_bytes(root: Path, run_id: str) -> int:
    """Return the size of a run's artifacts and of the models that it logged, in bytes."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client = _client(root)
    places = [client.get_run(run_id).info.artifact_uri, *(m.artifact_location for m in _logged_models(client, run_id))]
    return sum(_artifact_bytes(get_artifact_repository(place)) for place in places)


def _artifact_bytes(repository: Any, path: str | None = None) -> int:
    return sum(
        _artifact_bytes(repository, file.path) if file.is_dir else int(file.file_size or 0)
        for file in repository.list_artifacts(path)
    )


def _logged_models(client: Any, run_id: str) -> list[Any]:
    experiment = client.get_run(run_id).info.experiment_id
    filter_string = f"source_run_id = '{run_id}'"
    return _all_pages(
        lambda token: client.search_logged_models([experiment], filter_string=filter_string, page_token=token)
    )


def remove_run(root: Path, run_id: str) -> bool:
    """Remove a run with its artifacts and the models that it logged.

    Does for one run what ``mlflow gc`` does; that command would also purge every experiment and model that the user
    has deleted and may want to restore.

    Returns:
        False where the server does not let go of the run's record for good: it is marked as deleted there, and its
        administrator's ``mlflow gc`` removes it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking._tracking_service.utils import _get_store

    client = _client(root)
    store = _get_store(tracking_uri(root))
    purges = hasattr(store, "_hard_delete_run") and hasattr(store, "_hard_delete_logged_model")
    for model in _logged_models(client, run_id):
        get_artifact_repository(model.artifact_location).delete_artifacts()
        client.delete_logged_model(model.model_id)
        if purges:
            store._hard_delete_logged_model(model.model_id)
    get_artifact_repository(client.get_run(run_id).info.artifact_uri).delete_artifacts()
    client.delete_run(run_id)
    if purges:
        store._hard_delete_run(run_id)
    return purges


def end_dead_runs(root: Path, lease: str | None = None) -> list[str]:
    """End the runs that processes left RUNNING when they died.

    Args:
        root: the workspace.
        lease: only the runs of this lease; None: all runs whose process is known to be gone.

    Returns:
        Ids of the runs that were ended.
    """
    if _is_untouched(root):
        return []
    client = _client(root)
    ended: list[str] = []
    for run in client.search_runs([_experiment_id(client, root)], filter_string="attributes.status = 'RUNNING'"):
        tags = run.data.tags
        dead = tags.get(LEASE) == lease if lease else process_is_dead(tags.get(PROCESS, ""))
        if dead:
            Run(client, run.info.run_id).end("KILLED", "its process is gone")
            ended.append(run.info.run_id)
    return ended
