"""``keypipe gc``: one policy over all that the past leaves behind, the section ``retention`` of ``params.yaml``.

Trainings with all that they need (retention.py), Prefect's runs, the log of predictions, and results of ``keypipe
reproduce``. The champion, what waits for a person's word, what a rollback leads to, and what is kept by name always
stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from flows.history import prefect_runs, retention
from flows.history.prefect_runs import OldRuns
from flows.history.reproduction import RESULTS
from flows.history.retention import DAY_SECONDS, Pruned, Say, format_bytes
from flows.pipeline import lease
from flows.services import server
from keypipe.drift.log import drop, find_too_much
from keypipe.errors import PoseError
from tasks.drift.settings import read_log_settings
from tasks.registry.settings import RetentionParams, read_retention
from tasks.workspace import scratch


class Heap(msgspec.Struct, frozen=True):
    """Files of one kind.

    Attributes:
        files: how many.
        size_bytes: of all of them.
    """

    files: int = 0
    size_bytes: int = 0


class Cleaned(msgspec.Struct, frozen=True):
    """What a cleaning removed, or would remove.

    Attributes:
        removed: False: nothing was removed yet.
        policy: what stays, as the section has it.
        trainings: with what they alone need; None where that cannot be told.
        prefect: runs that ended long ago; None where they cannot be read, or not all of them be removed.
        log: of predictions.
        reproduced: results of ``keypipe reproduce``.
        size_bytes: of everything whose size is known.
        skipped: what could not be looked at, and why.
    """

    removed: bool
    policy: Mapping[str, float]
    trainings: Pruned | None
    prefect: OldRuns | None
    log: Heap
    reproduced: Heap
    size_bytes: int
    skipped: tuple[str, ...] = ()


def read_policy(root: Path, keep: int | None = None) -> RetentionParams:
    """Return the workspace's policy.

    Args:
        root: the workspace.
        keep: so many of the newest finished trainings stay, however young others are; None: as params.yaml says.
    """
    policy = read_retention(root)
    return policy if keep is None else policy.model_copy(update={"trainings": keep, "days": 0.0})


def clean(root: Path, policy: RetentionParams, *, remove: bool, say: Say) -> Cleaned:
    """Find what the policy lets go of, and remove it.

    Args:
        root: the workspace.
        policy: what stays.
        remove: remove it; otherwise only find it.
        say: gets progress.

    Raises:
        PoseError: a branch or a snapshot cannot be read, or another run is going on.
    """
    server.configure(root)
    if not remove:
        return _clean(root, policy, remove=False, say=say)
    with lease.hold(root, lease.new_lease(flow_run_name="keypipe gc"), say):
        return _clean(root, policy, remove=True, say=say)


def _clean(root: Path, policy: RetentionParams, *, remove: bool, say: Say) -> Cleaned:
    skipped: list[str] = []
    trainings = prefect = None
    try:
        retention.check(root)
    except PoseError as error:
        skipped.append(f"trainings: {error}")
    else:
        trainings = retention.prune(root, policy, remove=remove, say=say)
    try:
        old = prefect_runs.find_old_runs(root, policy.prefect_days)
        if remove:
            prefect_runs.remove_runs(root, old, say)
        prefect = old
    except PoseError as error:
        skipped.append(f"Prefect: {error}")
    log, reproduced = _clean_log(root, remove=remove), _clean_reproduced(root, policy.reproduced_days, remove=remove)
    sizes = [log.size_bytes, reproduced.size_bytes]
    sizes += [trainings.size_bytes] if trainings else []
    sizes += [prefect.size_bytes or 0] if prefect else []
    return Cleaned(remove, policy.model_dump(), trainings, prefect, log, reproduced, sum(sizes), tuple(skipped))


def _clean_log(root: Path, *, remove: bool) -> Heap:
    """Hold the log to its own limits also where nothing writes into it any more."""
    settings = read_log_settings(root, wanted=True)
    files = find_too_much(settings) if settings is not None else {}
    if remove:
        drop(files)
    return Heap(len(files), sum(files.values()))


def _clean_reproduced(root: Path, days: float, *, remove: bool) -> Heap:
    oldest = time.time() - days * DAY_SECONDS
    folders = [path for path in (root / RESULTS).glob("*") if path.stat().st_mtime < oldest]
    sizes = [file.lstat().st_size for folder in folders for file in folder.rglob("*") if not file.is_dir()]
    if remove:
        for folder in folders:
            scratch.remove(folder)
    return Heap(len(sizes), sum(sizes))


def show(cleaned: Cleaned, say: Say) -> None:
    """Print what a cleaning removed, or would remove."""
    if cleaned.trainings is not None:
        retention.show_verdicts(cleaned.trainings)
    for line in describe(cleaned):
        say(line)


def describe(cleaned: Cleaned) -> Iterator[str]:
    """Yield what a cleaning removed, or would remove, a line each."""
    did = "removed" if cleaned.removed else "would remove"
    if cleaned.trainings is not None:
        yield from retention.describe_pruned(cleaned.trainings, removed=cleaned.removed)
    if (old := cleaned.prefect) is not None:
        size = "" if old.size_bytes is None else f", {format_bytes(old.size_bytes)}"
        days = f"that ended more than {cleaned.policy['prefect_days']:g} days ago"
        yield f"{did} {len(old.ids)} runs from Prefect ({old.server}) {days}{size}"
    for heap, name in ((cleaned.log, "files of the log of predictions"), (cleaned.reproduced, "reproduced files")):
        if heap.files:
            yield f"{did} {heap.files} {name}, {format_bytes(heap.size_bytes)}"
    yield from (f"left alone: {line}" for line in cleaned.skipped)
    yield f"{did} {format_bytes(cleaned.size_bytes)} in all"
    if not cleaned.removed:
        yield "nothing was removed; --yes does it"
