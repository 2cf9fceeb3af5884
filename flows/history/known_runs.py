"""Trainings as MLflow and git know them together, and how people name them on the command line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError
from tasks.tracking import history
from tasks.tracking import runs as tracking
from tasks.tracking.tags import DATA
from tasks.versions import git, snapshots

LATEST = "latest"
WORKSPACE = "workspace"
MIN_PREFIX = 4


class Child(msgspec.Struct, frozen=True):
    """What was measured or exported of a training.

    Attributes:
        id: of the MLflow run.
        stage: ``validate`` or ``export``.
        status: as MLflow has it.
        started: seconds since the epoch.
    """

    id: str
    stage: str
    status: str
    started: float


class Run(msgspec.Struct, frozen=True):
    """A training.

    Attributes:
        id: of the MLflow run.
        status: as MLflow has it.
        started: seconds since the epoch.
        fingerprint: DVC's fingerprint of the train stage.
        headline: its one figure.
        kept: a person said that it stays.
        machine: what it ran on.
        children: what was measured and exported of it, newest first.
        snapshot: the files it was made of, where they were kept.
        data: DVC's name for the raw data.
        trial: the sweep and the number of the trial that it is, such as ``rates/3``; "" for others.
    """

    id: str
    status: str
    started: float
    fingerprint: str
    headline: str = ""
    kept: bool = False
    machine: str = ""
    children: tuple[Child, ...] = ()
    snapshot: snapshots.Snapshot | None = None
    data: str = ""
    trial: str = ""

    @property
    def name(self) -> str:
        """The start of its id, enough to name it."""
        return self.id[:8]

    @property
    def when(self) -> str:
        """When it began, local time."""
        return datetime.fromtimestamp(self.started).strftime("%Y-%m-%d %H:%M")


def list_runs(root: Path) -> list[Run]:
    """Return the trainings that MLflow knows, newest first."""
    tracked = history.list_runs(root)
    kept = {snapshot.run_id: snapshot for snapshot in snapshots.list_snapshots(root)}
    for run in tracked:
        if (begun_as := run.tags.get(tracking.BOX, "")) in kept:  # the server was away when it began, and gave no id
            snapshots.rename(root, begun_as, run.id)
            kept[run.id] = msgspec.structs.replace(kept[begun_as], run_id=run.id)
    children: dict[str, list[Child]] = {}
    for run in tracked:
        if tracking.PARENT in run.tags:
            child = Child(run.id, run.tags.get(tracking.STAGE, ""), run.status, run.started)
            children.setdefault(run.tags[tracking.PARENT], []).append(child)
    return [
        Run(
            run.id,
            run.status,
            run.started,
            run.tags[tracking.FINGERPRINT],
            run.tags.get(tracking.HEADLINE, ""),
            run.tags.get(tracking.KEPT) == "true",
            run.tags.get(tracking.MACHINE, ""),
            tuple(children.get(run.id, ())),
            kept.get(run.id),
            run.tags.get(DATA, ""),
            run.tags.get(tracking.TRIAL, ""),
        )
        for run in tracked
        if tracking.FINGERPRINT in run.tags
    ]


def find_run(runs: list[Run], name: str) -> Run:
    """Return the training that a name on the command line means.

    Args:
        runs: as ``list_runs`` gives them.
        name: the start of its id, or ``latest`` for the newest that finished and is no trial of a sweep.

    Raises:
        ConfigError: no training, or more than one, is meant.
    """
    if name == LATEST:
        finished = [run for run in runs if run.status == "FINISHED" and not run.trial]
        if not finished:
            raise ConfigError("latest: no training has finished yet; start one with `keypipe run`")
        return finished[0]
    found = [run for run in runs if run.id.startswith(name.lower())] if len(name) >= MIN_PREFIX else []
    # What MLflow shows as well are the runs of single stages; their training is meant.
    found += [run for run in runs if any(child.id == name for child in run.children)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name}: begins the ids of {', '.join(run.name for run in found)}; give more of it")
    known = ", ".join(run.name for run in runs[:5]) or "none yet"
    raise ConfigError(
        f"{name}: no training's id begins so (the newest: {known}; at least {MIN_PREFIX} characters;"
        " `keypipe runs` lists all)"
    )


def find_snapshot(root: Path, run: Run) -> snapshots.Snapshot:
    """Return the snapshot of a training with what came of it.

    Raises:
        ConfigError: none was kept, or the training did not end.
    """
    settled = snapshots.settle(root) if git.is_repository(root) else None
    found = settled if settled is not None and settled.run_id == run.id else run.snapshot
    if found is None:
        raise ConfigError(f"run {run.name} has no snapshot: it was made outside git, or before snapshots were kept")
    if not found.complete:
        raise ConfigError(
            f"run {run.name} is {run.status.lower()} and left no results; its files as it found them:"
            f" git worktree add --detach FOLDER {found.commit[:12]}"
        )
    return found
