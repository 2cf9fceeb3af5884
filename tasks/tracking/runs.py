"""Runs as they are recorded: one for a training, child runs for what is measured afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keypipe.errors import PoseError
from tasks.tracking import outbox
from tasks.tracking.client import (
    AwayError,
    answering,
    experiment_name,
    limited,
    open_client,
    server_name,
)
from tasks.tracking.figures import choose_headlines, describe_splits
from tasks.tracking.machine import own_process
from tasks.tracking.outbox import Box, RunInfo
from tasks.tracking.sending.courier import Courier
from tasks.tracking.sending.delivery import PACKAGES_FILE, QUICK_SECONDS, deliver_all, open_training
from tasks.tracking.tags import (
    BATCHES,
    BOX,
    FINGERPRINT,
    HEADLINE,
    KEPT,
    LEASE,
    MACHINE,
    PARENT,
    PROCESS,
    REASON,
    RESTORED,
    STAGE,
    START,
    START_KEYPOINTS,
    START_TEACHER,
    START_WEIGHTS,
    TRIAL,
)
from tasks.workspace.models import TrainingRecord, read_record
from tasks.workspace.places import OUTBOX
from tasks.workspace.program import say

__all__ = [
    "BATCHES",
    "BOX",
    "FINGERPRINT",
    "HEADLINE",
    "KEPT",
    "LEASE",
    "MACHINE",
    "PACKAGES_FILE",
    "PARENT",
    "PROCESS",
    "REASON",
    "RESTORED",
    "STAGE",
    "START",
    "START_KEYPOINTS",
    "START_TEACHER",
    "START_WEIGHTS",
    "TRIAL",
]

PARENT_VARIABLE, TRIAL_VARIABLE = "KEYPIPE_PARENT_RUN", "KEYPIPE_TRIAL"
"""Environment variables of a training that is a trial of a sweep: the sweep's MLflow run, and the trial's name."""


class Run:
    """A live run. What it records is written down first and then sent, so that nothing here ever fails of MLflow.

    Args:
        root: the workspace.
        box: of the run, held by this process.
    """

    def __init__(self, root: Path, box: Box) -> None:
        self._root = root
        self._box = box
        self._courier = Courier(root, box)

    @property
    def run_id(self) -> str:
        """The server's id of it; its box's name as long as the server has not been told of it."""
        return self._box.run.run_id or self._box.run.begun_as or self._box.name

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the training that it is, or belongs to."""
        return self._box.run.fingerprint

    @property
    def silence(self) -> str:
        """Why the server could not be told; empty while it can."""
        return self._courier.away

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log figures.

        A training that was there before takes the headline figures of what is measured of it; all of them stay with
        the child run that measured them.
        """
        if self._box.run.guest:
            metrics = choose_headlines(metrics)
        if metrics:
            splits = describe_splits(self._root, metrics)
            self._tell(outbox.Metrics(dict(metrics), step, outbox.now(), splits))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._tell(outbox.Tags(dict(tags)))

    def log_files(self, path: Path, to: str | None = None) -> None:
        """Log a file, or all that a folder holds, as artifacts."""
        self._tell(outbox.Files(to), path)

    def log_onnx_model(self, model: Path, height: int, width: int) -> None:
        """Log an ONNX file as an MLflow model; height and width of the network's input are pixels."""
        self._tell(outbox.OnnxModel(height, width), model)

    def go_on(self) -> None:
        """Say that the run of a killed process goes on, and is this process's."""
        self._box.add(outbox.Tags(_process_tags() | {"keypipe.resumed": "true"}))
        self._box.add(outbox.Status("RUNNING", "", outbox.now()))

    def end(self, status: str, reason: str = "") -> None:
        """End the run as FINISHED, FAILED or KILLED, saying why."""
        self._box.add(outbox.Status(status, reason, outbox.now()))
        self._box.add(outbox.Note())
        if not self._courier.finish():
            say(
                f"MLflow was not told all of this run ({self._courier.away}): the rest waits in {OUTBOX}, and the next"
                " keypipe command that reaches the server sends it"
            )
        self._box.close()

    def reach(self) -> None:
        """Have the server know the run."""
        self._courier.finish()

    def begin(self) -> None:
        """Have the server know a training that starts, if it answers at once, and send what comes beside it.

        Raises:
            PoseError: the server's address or the experiment is wrong.
        """
        try:
            self._courier.go_beside()
        except PoseError:
            self._box.discard()
            raise

    def relax(self) -> None:
        """Let the server have its time from now on: nothing waits any more."""
        self._courier.come_back()

    def _tell(self, item: outbox.Item, source: Path | None = None) -> None:
        guest = self._box.run.guest  # which has a box only as long as something waits
        if guest:
            self._box.hold()
        self._box.add(item, source)
        self._courier.deliver()
        if guest:
            self._box.close()


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
        run_id: the killed training's run, as ``Run.run_id`` gave it.

    Returns:
        The run. What it records is sent beside the training; while the server does not answer, it waits on the disk.

    Raises:
        PoseError: the server's address or the experiment is wrong.
    """
    outbox.end_abandoned(root)
    if run_id and _may_know(root, run_id):
        name = f"train {record.fingerprint[:8]}"
        waits = outbox.is_box_name(run_id)
        info = RunInfo(server_name(root), experiment_name(), record.fingerprint, name)
        info.tags = {**record.tags, FINGERPRINT: record.fingerprint, **_process_tags()}
        info.run_id, info.begun_as = ("", run_id) if waits else (run_id, "")
        run = Run(root, outbox.open_box(root, info))
        run.go_on()
    else:
        run = Run(root, open_training(root, record, _process_tags()))
    run.begin()
    return run


def _process_tags() -> dict[str, str]:
    given = {
        LEASE: os.environ.get("KEYPIPE_LEASE"),
        PARENT: os.environ.get(PARENT_VARIABLE),
        TRIAL: os.environ.get(TRIAL_VARIABLE),
    }
    return {PROCESS: own_process(), **{key: value for key, value in given.items() if value}}


def _may_know(root: Path, run_id: str) -> bool:
    """Tell whether the server knows a run; one that is away may."""
    if outbox.is_box_name(run_id):
        return True
    try:
        with answering(root), limited(QUICK_SECONDS, 0):
            return bool(open_client(root).get_run(run_id).info.lifecycle_stage == "active")
    except AwayError:
        return True
    except PoseError:  # it refuses: there is no such run
        return False


def find_run(root: Path) -> Run:
    """Find the MLflow run of the trained model, writing it anew where the server does not know it.

    What is recorded with it waits where the server is away.
    """
    deliver_all(root)
    record = read_record(root).record
    name = f"train {record.fingerprint[:8]}"
    info = RunInfo(server_name(root), experiment_name(), record.fingerprint, name, guest=True, ended=True)
    box = outbox.open_box(root, info)
    run = Run(root, box)
    run.reach()
    box.close()
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
    all_tags = {**_process_tags(), **(tags or {})}
    info = RunInfo(server_name(root), experiment_name(), parent.fingerprint, stage, stage=stage, tags=all_tags)
    run = Run(root, outbox.open_box(root, info))
    with ending(run):
        run.reach()
        yield run
