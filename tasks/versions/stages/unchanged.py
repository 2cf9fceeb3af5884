"""Whether there is nothing to do, found out in one look."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tasks.versions.raw import RawVersion, kept_version
from tasks.versions.repository import opened, waiting
from tasks.versions.stages.state import find_version, load_stages


class Unchanged(NamedTuple):
    """A workspace in which nothing is to do.

    Attributes:
        raw: the raw data.
        fingerprints: of each stage.
        seconds: how long it took to look at each.
    """

    raw: RawVersion
    fingerprints: dict[str, str]
    seconds: dict[str, float]


def find_unchanged(root: Path, stages: Sequence[str]) -> Unchanged | None:
    """Ask DVC whether the raw data are its last version, and whether these stages are up to date.

    DVC is asked what the run asks that brings the stages up to date, but for all of them at one time.

    Returns:
        None as soon as something is to do.

    Raises:
        PoseError: DVC is busy, or refuses what it finds.
    """
    with opened(root) as repo, waiting(repo):
        raw = kept_version(repo, root)
        if raw is None:
            return None
        fingerprints: dict[str, str] = {}
        seconds: dict[str, float] = {}
        loaded = load_stages(repo, root)
        for stage in stages:
            started = time.monotonic()
            found = find_version(loaded[stage], raw)
            if not found.clean or found.fingerprint is None:
                return None
            fingerprints[stage] = found.fingerprint
            seconds[stage] = time.monotonic() - started
    return Unchanged(raw, fingerprints, seconds)
