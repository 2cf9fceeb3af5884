"""What sweeps need of the trainings and of DVC's cache, for whoever cleans up."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from flows.sweeping.study import find_best, folder_of, held, is_at_work, list_names, load_study
from flows.sweeping.trial import release_tree
from tasks.versions import git

REFS = "refs/keypipe-sweeps"
"""Where git keeps the files that a sweep's trials are made of."""


def needed_trials(root: Path, fingerprints: Mapping[str, str]) -> dict[str, list[str]]:
    """Return which trainings sweeps need: the best of each, and all of one that is at work.

    Args:
        root: the workspace.
        fingerprints: of trainings, by MLflow run.

    Returns:
        Reasons such as ``best of sweep rates``, by fingerprint.
    """
    found: dict[str, list[str]] = {}
    for name in list_names(root):
        trials = load_study(root, name).list_trials()
        best, at_work = find_best(trials), is_at_work(root, name)
        for trial in trials:
            if trial.run in fingerprints and (trial is best or at_work):
                why = f"best of sweep {name}" if trial is best else f"sweep {name} is at work"
                found.setdefault(fingerprints[trial.run], []).append(why)
    return found


def sweep_commits(root: Path) -> list[str]:
    """Return the commits of the files that sweeps go on from."""
    return (git.ask(root, "for-each-ref", "--format=%(objectname)", REFS) or "").split()


def forget(root: Path, name: str) -> None:
    """Remove what a sweep is gone on with; its trainings stay, as other trainings do.

    Raises:
        PoseError: there is no such sweep, or it is at work.
    """
    load_study(root, name)
    with held(root, name):
        for place in folder_of(root, name).glob("tree*"):
            release_tree(root, place)
        git.ask(root, "update-ref", "-d", f"{REFS}/{name}")
    shutil.rmtree(folder_of(root, name))
