"""A stage's last good outputs: taken aside before it runs, and brought back when it fails or is killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.system.process import undisturbed
from tasks.versions.repository import bring_back_files
from tasks.versions.stages.finished import take_up
from tasks.versions.stages.state import restore_outputs, stage_outputs
from tasks.workspace.places import STATE
from tasks.workspace.scratch import remove, remove_abandoned

ASIDE = STATE / "aside"


@contextmanager
def last_good_outputs(root: Path, stage: str) -> Iterator[None]:
    """Bring a stage's last good outputs back when the block fails, in whatever way; those that it had finished stay."""
    take_aside(root, stage)
    try:
        yield
    except BaseException:
        with undisturbed():
            take_up_or_bring_back(root, stage)
        raise
    remove(root / ASIDE / stage)


def take_up_or_bring_back(root: Path, stage: str) -> str:
    """Keep what a run had finished that died before DVC took it; else put things back as they were before it.

    Returns:
        What was done, for a message; empty where nothing had to be.
    """
    bring_back_files(root)
    if not (root / ASIDE / stage).exists():
        return ""
    if take_up(root, stage):
        remove(root / ASIDE / stage)
        return "took up what a run had finished that was killed"
    bring_back(root, stage)
    return "brought the last good outputs back after a run that was killed"


def take_aside(root: Path, stage: str) -> None:
    """Copy the outputs that DVC's cache does not hold.

    A copy that is already there is of a run that died: older, and good.
    """
    folder = root / ASIDE / stage
    if folder.exists():
        return
    building = folder.with_name(f".{stage}")
    remove(building)
    building.mkdir(parents=True)
    for output in stage_outputs(root, stage):
        source = root / output.path
        if output.cached or not source.exists():
            continue
        target = building / output.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    building.rename(folder)


def bring_back(root: Path, stage: str) -> None:
    """Put a stage's outputs back as they were before the run that failed.

    Without an earlier run there is nothing to bring back: what the failed one wrote goes, except what DVC keeps
    through a rerun as well.
    """
    known = restore_outputs(root, stage)
    for output in stage_outputs(root, stage):
        path, copy = root / output.path, root / ASIDE / stage / output.path
        if copy.exists():
            remove(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            copy.rename(path)
        elif not output.persist and not (known and output.cached):
            remove(path)
    remove_abandoned(root)
    remove(root / ASIDE / stage)
