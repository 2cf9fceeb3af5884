"""What a run has to do, and what is plainly wrong before it starts; needs no Prefect.

What the check of the parameters needs, the models of all stages, takes longer to import than a run takes in which
nothing changed. So it is done once for the same files and the same code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flows.system.state_files import read_record, write_record
from keypipe.errors import ConfigError
from tasks.tracking.client import tracking_uri
from tasks.versions.raw import check_raw
from tasks.versions.repository import check_repository
from tasks.versions.stages.state import stage_names
from tasks.workspace.places import GROUPS, LOCAL_FILE, PARAMS_FILE, SIGMAS, STATE, WEIGHTS

CHECKED = STATE / "checked.json"
FILES = (PARAMS_FILE, LOCAL_FILE, "dvc.yaml", GROUPS, SIGMAS, WEIGHTS / ".gitignore")
"""What the check reads, or asks for."""

_CODE = Path(__file__).parents[2]


class Checked(msgspec.Struct):
    """The last check that found nothing wrong.

    Attributes:
        digest: of all that it depends on.
        stages: those of ``dvc.yaml``, in the order in which they run.
    """

    digest: str
    stages: list[str]


def plan_stages(names: list[str], until: str | None = None, force: Sequence[str] = ()) -> list[str]:
    """Return the stages to go through, in order.

    Args:
        names: all stages, in the order in which they run.
        until: the last one; default: all.
        force: stages to run even when nothing changed.

    Raises:
        ConfigError: ``until`` or ``force`` names no stage of the plan.
    """
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
        PoseError: parameters, stage names, the raw folder or the tracking server's address are wrong, or a file is
            absent.
    """
    check_repository(root)
    tracking_uri(root)
    digest = _digest(root)
    checked = read_record(root / CHECKED, Checked)
    if checked is None or checked.digest != digest:
        from tasks.check import check_files, check_workspace

        check_workspace(root)
        check_files(root)
        checked = Checked(digest, stage_names(root))
        write_record(root / CHECKED, checked)
    plan = plan_stages(checked.stages, until, force)
    check_raw(root)
    return plan


def _digest(root: Path) -> str:
    """Return the sha256 of the files that are checked and of the code that checks them."""
    code = sorted(path for package in ("keypipe", "tasks") for path in (_CODE / package).rglob("*.py"))
    digest = hashlib.sha256()
    for path in [*(root / name for name in FILES), *code]:
        content = path.read_bytes() if path.exists() else None
        digest.update(f"{path} {None if content is None else len(content)}\n".encode())
        digest.update(content or b"")
    return digest.hexdigest()
