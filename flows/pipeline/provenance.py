"""What a run leaves beside its results: the training in MLflow, and a snapshot of the files it was made of."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger

from flows.pipeline.known_training import read_known, write_known
from flows.pipeline.run_result import RunResult
from tasks.tracking.outbox import count_waiting, is_box_name
from tasks.versions import git, snapshots
from tasks.versions.stages import lockfile
from tasks.workspace.models import read_run_id
from tasks.workspace.places import LOCK


def record_training(root: Path) -> str:
    """Have the tracking server know the training, also one that DVC's cache has brought here from elsewhere.

    MLflow takes seconds to import, so a local database that has confirmed the run once is not asked again.

    Returns:
        Id of the training's MLflow run; "" if there is no run.
    """
    run_id = read_run_id(root)
    if not run_id:
        return ""
    if known_as := read_known(root, run_id):
        return known_as
    from tasks.tracking.runs import find_run

    found = find_run(root)
    if found.silence:  # the model is there; a tracking server that is not must not undo that
        get_run_logger().warning("the training could not be looked for in MLflow: %s", found.silence)
        return run_id
    write_known(root, run_id, found.run_id)
    if is_box_name(run_id):
        snapshots.rename(root, run_id, found.run_id)
    return found.run_id


def deliver_records(root: Path) -> None:
    """Send MLflow what earlier runs could not, if there is anything; MLflow takes seconds to import."""
    if not count_waiting(root):
        return
    from tasks.tracking.sending.delivery import deliver_all

    deliver_all(root, get_run_logger().info)


def read_files(root: Path) -> snapshots.Tree | None:
    """Write down the files that the run starts from; people go on editing while it runs."""
    if snapshots.is_off() or not git.is_repository(root):
        return None
    try:
        return snapshots.write_tree(root)
    except git.GitError as error:
        get_run_logger().warning("no snapshot is kept of this run: %s", error)
        return None


def keep_snapshot(root: Path, run: RunResult, files: snapshots.Tree | None) -> None:
    """Keep what came of the run under the ref of its training; a training itself has kept what it started from."""
    if files is None or not run.training:
        return
    states = {result.stage: result.state for result in run.stages}
    before = snapshots.of_workspace(root)
    if before is not None and before.complete and "Ran" not in states.values():
        return
    try:
        if before is None or (states["train"] != "Ran" and "Ran" in states.values()):
            lock = (root / LOCK).read_text(encoding="utf-8")
            kept = snapshots.renew(root, run.training, lockfile.locked_fingerprint(lock, "train") or "", files)
        else:
            kept = snapshots.settle(root)
    except git.GitError as error:
        get_run_logger().warning("no snapshot is kept of this run: %s", error)
        return
    if kept is not None and kept != before:
        _tag_training(root, kept)


def _tag_training(root: Path, kept: snapshots.Snapshot) -> None:
    from tasks.tracking.history import try_tag_run

    log = get_run_logger()
    log.info("snapshot %s: %s/%s", kept.commit[:12], snapshots.REFS, kept.run_id)
    if why := try_tag_run(root, kept.run_id, {snapshots.TAG: kept.commit}):
        log.warning("the snapshot could not be named in MLflow: %s", why)
