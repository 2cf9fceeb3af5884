"""What a run has to do, and what is plainly wrong before it starts; needs no Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keypipe.errors import ConfigError
from tasks import versions


def plan_stages(root: Path, until: str | None = None, force: Sequence[str] = ()) -> list[str]:
    """Return the stages to go through, in order.

    Args:
        root: the workspace.
        until: the last one; default: all.
        force: stages to run even when nothing changed.

    Raises:
        ConfigError: ``until`` or ``force`` names no stage of the plan.
    """
    names = versions.stage_names(root)
    for name in [*([until] if until else []), *force]:
        if name not in names:
            raise ConfigError(f"{name}: no such stage; there are {', '.join(names)}")
    plan = names[: names.index(until) + 1] if until else names
    for name in force:
        if name not in plan:
            raise ConfigError(f"--force {name}: comes after --until {until}")
    return plan


def check_start(root: Path, until: str | None = None, force: Sequence[str] = ()) -> list[str]:
    """Check all that can be checked without running anything, and return the stages to go through.

    Raises:
        PoseError: parameters, stage names or the raw folder are wrong, or a file is absent.
    """
    from tasks.check import check_files, check_workspace

    check_workspace(root)
    check_files(root)
    plan = plan_stages(root, until, force)
    versions.check_raw(root)
    return plan
