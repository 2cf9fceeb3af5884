"""Small real workspaces: a clone's files, a git and a DVC repository, drawn animals, and short trainings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from keypipe.demo.scene import write_demo
from tasks.progress import Progress
from tests.imports import ROOT

CODE = ("keypipe", "tasks", "flows")
FILES = (
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".gitignore",
    ".gitattributes",
    "data/.gitignore",
    "data/groups.csv",
    "data/sigmas.yaml",
    "data/weights/.gitignore",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots/confusion_counts.json",
)

QUICK: dict[str, Any] = {
    "train.epochs": 2,
    "train.imgsz": 96,
    "train.batch": 8,
    "train.nbs": 8,
    "train.warmup_epochs": 0,
    "train.close_mosaic": 0,
    "export.conf": 0.05,
    "export.timing_seconds": 0.02,
}
"""Parameters of a training of a few seconds."""


def make_workspace(root: Path, n_images: int = 24, size_wh: tuple[int, int] = (160, 120), **params: Any) -> Path:
    """Make a workspace as a user's clone is after ``keypipe demo``, committed to git.

    Args:
        root: folder to make.
        n_images: images to draw; 0 draws none.
        size_wh: their size in pixels.
        params: values for ``params.yaml``, such as ``{"train.epochs": 1}``; over ``QUICK``.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    set_params(root, **(QUICK | params))
    (root / "local.yaml").write_text("threads: 1\ndevice: cpu\n")
    if n_images:
        write_demo(root / "data/raw", n_images, seed=1, size_wh=size_wh)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "start")
    return root


def set_params(root: Path, **params: Any) -> None:
    """Set values in a workspace's ``params.yaml``, keys with dots."""
    from ruamel.yaml import YAML

    yaml = YAML()
    path = root / "params.yaml"
    document = yaml.load(path)
    for name, value in params.items():
        *sections, key = name.split(".")
        node = document
        for section in sections:
            node = node[section]
        node[key] = value
    yaml.dump(document, path)


def keep_weights(root: Path, weights: Path, name: str) -> str:
    """Put weights where a training may start from them, under DVC, and return how ``params.yaml`` names them."""
    from tasks.versions.weights import version_weights

    place = root / "data/weights" / name
    shutil.copy2(weights, place)
    version_weights(root, place)
    return place.relative_to(root).as_posix()


def git(root: Path, *arguments: str) -> str:
    """Run git in a workspace and return what it prints."""
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which a workspace's programs run by themselves, on this interpreter."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "KEYPIPE_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    return kept | {"PATH": path, "DVC_NO_ANALYTICS": "true", "GIT_AUTHOR_NAME": "test"} | extra


def run_stage(root: Path, stage: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run a stage as its own program, whatever comes of it."""
    command = [sys.executable, "-m", f"tasks.{stage}"]
    return subprocess.run(command, cwd=root, env=environment(**extra), capture_output=True, text=True, check=False)


def run_stages(root: Path, *stages: str) -> None:
    """Run stages that must succeed."""
    for stage in stages:
        done = run_stage(root, stage)
        assert done.returncode == 0, f"{stage}: {done.stdout}\n{done.stderr}"


def dvc(root: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run DVC in a workspace."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, env=environment(**extra), capture_output=True, text=True, check=False)


def use(
    root: Path,
    folder: Path,
    progress: Progress | None = None,
    encoding: str | None = None,
    *,
    follow_links: bool = False,
) -> str:
    """Take a folder as ``keypipe use`` does, and return what it prints."""
    from tasks.starting.looking import Source
    from tasks.starting.start import describe, use_folder

    return describe(use_folder(root, Source(folder, encoding, follow_links), progress))
