"""One trial: a training in a working tree of its own, watched while it goes on, and ended where it is left behind."""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flows.pipeline.stages.process import raise_failure, run_stage_process
from flows.sweeping.space import Value
from flows.system.process import program_environment
from keypipe.errors import ModelError, PoseError
from tasks.commands.writing.set_params import set_params
from tasks.engine.door.training import Batch
from tasks.tracking.client import tracking_uri
from tasks.tracking.runs import PARENT_VARIABLE, TRIAL_VARIABLE
from tasks.tracking.sending.delivery import take_over
from tasks.train import describe_batches
from tasks.versions.stages.state import all_outputs, stage_names
from tasks.versions.store import checkout
from tasks.versions.trees import add_tree, remove_tree, tree_commit
from tasks.versions.weights import list_versioned
from tasks.workspace.documents import format_value
from tasks.workspace.models import read_record
from tasks.workspace.places import LOCAL_FILE, PARAMS_FILE, RAW_FILE, TRAINING

STAGE = "train"
_EPOCH_LINE = "epoch "


class Stopped(Exception):  # noqa: N818 - no error: the sweep ends
    """The sweep ends, and its trainings with it; they go on when it does."""


class Pruned(Exception):  # noqa: N818 - no error: the trial has lost
    """The trial is worse than half of the others were at the same epoch."""


class Trained(msgspec.Struct, frozen=True):
    """What came of a training that went to its end.

    Attributes:
        figure: the sweep's figure, of the best epoch.
        epochs: how many were trained.
        run: MLflow run of the training.
        cached: nothing was trained, since DVC has a training with the same parameters.
        note: what was not as the trial's values say; "" where all was.
    """

    figure: float
    epochs: int
    run: str
    cached: bool
    note: str = ""


class _Progress(msgspec.Struct):
    """What a training keeps of its epochs while it goes on: ``tasks.train.Progress``, as far as it is needed."""

    run_id: str = ""
    epochs: list[dict[str, float]] = []


def prepare_tree(root: Path, place: Path, commit: str, threads: int | None, say: Callable[[str], None]) -> Path:
    """Make the working tree of a worker, with the data that trainings read; one of the same commit stays.

    Args:
        root: the workspace.
        place: where it is to lie.
        commit: of the sweep's files.
        threads: CPU threads of a training; None: as ``local.yaml`` says.
        say: gets progress.

    Returns:
        The workspace's folder in it.

    Raises:
        PoseError: the data are neither in DVC's cache nor in its remote.
    """
    if tree_commit(place) != commit:
        say(f"{place.relative_to(root)}: files of {commit[:12]}")
        tree = add_tree(root, place, commit)
    else:
        from tasks.versions import git

        tree = place / git.prefix(root)
    before = stage_names(tree)
    before = before[: before.index(STAGE)]
    outputs = all_outputs(tree)
    paths = [output.path for stage in before for output in outputs[stage] if output.cached]
    missing = checkout(tree, RAW_FILE.as_posix(), *list_versioned(tree), *paths)
    if missing:
        raise PoseError(
            f"the sweep's data are in neither DVC's cache nor its remote: {', '.join(missing)}; start another sweep"
        )
    if threads is not None:
        _set_threads(tree / LOCAL_FILE, threads)
    return tree


def _set_threads(path: Path, threads: int) -> None:
    from tasks.commands.writing.params_text import assign
    from tasks.workspace.documents import decode_yaml, parse_document

    text = decode_yaml(path.read_bytes(), LOCAL_FILE) if path.exists() else ""
    if "threads" not in parse_document(text.encode(), LOCAL_FILE):
        path.write_text(assign(text, ["threads"], threads), encoding="utf-8")


def release_tree(root: Path, place: Path) -> None:
    """Remove a worker's tree; what MLflow was not told of its trainings waits in the workspace from now on."""
    if (place / ".git").exists():
        from tasks.versions import git

        take_over(root, place / git.prefix(root))
    remove_tree(root, place)


def run_trial(
    root: Path,
    tree: Path,
    params: str,
    values: Mapping[str, Value],
    trial: Any,
    figure: str,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    stopping: threading.Event,
) -> Trained:
    """Train with some values, and return what came of it.

    Args:
        root: the workspace, whose MLflow records the training.
        tree: the worker's.
        params: text of ``params.yaml`` that all trials begin with.
        values: of this trial, by key.
        trial: Optuna's, which is told every epoch's figure.
        figure: MLflow's name of the figure, such as ``val_epoch/oks_AP``.
        environment: further variables of the training.
        say: gets a line for each epoch.
        stopping: set when the sweep is to end.

    Raises:
        Pruned: it was left behind.
        Stopped: the sweep ends.
        PoseError: the training failed on its input, or its loss diverged.
    """
    (tree / PARAMS_FILE).write_text(params, encoding="utf-8")
    set_params(tree, [f"{key}={format_value(value)}" for key, value in values.items()])
    watch = _Watch(tree, trial, figure, stopping)

    def tell(line: str) -> None:
        if line.startswith((_EPOCH_LINE, "warning: ")):
            say(line)

    outcome = run_stage_process(tree, STAGE, {**trial_environment(root), **environment}, tell, poll=watch.look)
    if stopping.is_set():  # a training that ends with its sweep has failed of nothing
        raise Stopped
    raise_failure(tree, STAGE, outcome)
    record = read_record(tree)
    watch.report(record.record.epochs)
    if not record.record.epochs:
        raise ModelError("the training has no epoch")
    if not math.isfinite(record.best_value):
        raise ModelError(f"{record.best_by} is {record.best_value}, which nothing can be compared with")
    sizes = describe_batches([Batch(*one) for one in record.batches])
    note = f"memory did not hold train.batch: it was trained with a batch of {sizes}" if sizes else ""
    return Trained(record.best_value, len(record.record.epochs), record.run_id, outcome.did != "ran", note)


def trial_environment(root: Path) -> dict[str, str]:
    """Return the environment of a training that is recorded where the workspace's are."""
    dropped = {"KEYPIPE_LEASE", PARENT_VARIABLE, TRIAL_VARIABLE}
    kept = {key: value for key, value in program_environment().items() if key not in dropped}
    return kept | {"MLFLOW_TRACKING_URI": tracking_uri(root)}


class _Watch:
    """Follows the epochs of a training by what it keeps on the disk."""

    def __init__(self, tree: Path, trial: Any, figure: str, stopping: threading.Event) -> None:
        self._tree, self._trial, self._figure, self._stopping = tree, trial, figure, stopping
        self._told = 0  # one that goes on is a new trial of Optuna's, and is told all its epochs

    def look(self) -> None:
        """Tell Optuna of new epochs.

        Raises:
            Pruned: it was left behind.
            Stopped: the sweep ends.
        """
        if self._stopping.is_set():
            raise Stopped
        progress = read_progress(self._tree)
        if progress is None:
            return
        if self.report(progress.epochs) and self._trial.should_prune():
            raise Pruned

    def report(self, epochs: Sequence[Mapping[str, float]]) -> bool:
        """Report epochs that are new, each as the best figure so far; returns whether there were any."""
        new = epochs[self._told :]
        for number, _ in enumerate(new, start=self._told + 1):
            best = max(epoch.get(self._figure, 0.0) for epoch in epochs[:number])
            self._trial.report(best, number)
        self._told = max(self._told, len(epochs))
        return bool(new)


def read_progress(tree: Path) -> _Progress | None:
    """Return what the training in a tree keeps of its epochs; None before the first."""
    for path in (tree / TRAINING).glob("*/state.json"):
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Progress)
        except (OSError, msgspec.MsgspecError):  # it is being replaced, or goes
            return None
    return None


def forget_training(tree: Path) -> None:
    """Remove what a training that was left behind would go on from."""
    shutil.rmtree(tree / TRAINING, ignore_errors=True)


def threads_for(workers: int) -> int | None:
    """Return the CPU threads of each of several trainings; None for one, which has all."""
    return max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None
