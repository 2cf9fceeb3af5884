"""An answer to ``keypipe run`` where nothing is to do: by DVC's word, before Prefect is imported.

It says "nothing to do" only where the training flow would find every stage cached and leave nothing else behind. In
every doubt it says nothing, and the flow decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.pipeline import lease
from flows.pipeline.known_training import read_known
from flows.pipeline.last_good import ASIDE
from flows.pipeline.run_result import LAST_RUN, RunResult, StageResult, flow_run_name, read_headline, time_now
from flows.pipeline.unchanged.afterwards import describe_untold
from flows.services.presence import UNSETTLED
from flows.system.locks import LockedError, held_lock
from flows.system.state_files import write_record
from keypipe.errors import PoseError
from tasks.tracking.outbox import list_boxes
from tasks.versions import git, snapshots
from tasks.versions.repository import COPIES
from tasks.versions.stages.unchanged import Unchanged, find_unchanged
from tasks.workspace.models import read_run_id


def find_nothing_to_do(root: Path, plan: Sequence[str]) -> tuple[RunResult, Unchanged] | None:
    """Return what a run comes to that has nothing to do, written down as the last run.

    Args:
        root: the workspace, checked.
        plan: the stages to go through.

    Returns:
        None where something is to do, where another process is at work, or where one that died has left something.
    """
    try:
        with held_lock(root / lease.LOCK):
            return _look(root, plan)
    except (LockedError, PoseError):  # whatever it is, the flow waits for it, or says it
        return None


def _look(root: Path, plan: Sequence[str]) -> tuple[RunResult, Unchanged] | None:
    if _has_left_something(root):
        return None
    found = find_unchanged(root, plan)
    if found is None:
        return None
    run = RunResult(flow_run_name(), "", "", raw_version=found.raw.md5)
    if "train" in plan:
        training = _find_training(root)
        if training is None:
            return None
        run.training = training
    run.stages = [StageResult(stage, "Cached", found.seconds[stage], read_headline(root, stage)) for stage in plan]
    run.unrecorded = describe_untold(root)
    run.finished = time_now()
    write_record(root / LAST_RUN, run)
    return run, found


def _has_left_something(root: Path) -> bool:
    """Tell whether an earlier run left what the next one sees to: a dead one's traces, or what was not recorded."""
    files = (path for place in (lease.WAITING, COPIES, UNSETTLED) for path in (root / place).rglob("*"))
    return (
        (root / lease.LEASE).exists()
        or any((root / ASIDE).glob("*"))
        or any(path.is_file() for path in files)
        or bool(list_boxes(root))
    )


def _find_training(root: Path) -> str | None:
    """Return the id of the training where MLflow is known to know it and its snapshot is whole; else None."""
    run_id = read_run_id(root)
    if not run_id:
        return ""
    training = read_known(root, run_id)
    if training is None or snapshots.is_off() or not git.is_repository(root):
        return training
    kept = snapshots.of_workspace(root)
    return training if kept is not None and kept.complete else None
