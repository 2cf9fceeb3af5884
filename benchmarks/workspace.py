"""A workspace for a benchmark: the project's code, generated annotations, git and DVC."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.imports import ROOT
from tests.workspace import CODE, FILES


def make_workspace(root: Path, schema: dict[str, Any]) -> Path:
    """Make a workspace without data."""
    for name in CODE:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    yaml = YAML()
    document = yaml.load(root / "params.yaml")
    document["schema"] = schema
    yaml.dump(document, root / "params.yaml")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "start"]):
        identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
        subprocess.run(["git", *identity, *command], cwd=root, check=True)
    return root


def environment() -> dict[str, str]:
    """Return the environment for the workspace's programs, with this interpreter first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "true"}


def stage(name: str) -> list[str]:
    """Return the command of a stage program."""
    return [sys.executable, "-m", f"tasks.{name}"]


def set_aside(root: Path, aside: Path) -> None:
    """Move what the stages have made out of a workspace, so that they start from nothing.

    It is moved and not deleted: an ext4 without a journal is many times slower at making files for some minutes after
    thousands were deleted, since it does not use their inodes again so soon.
    """
    folder = aside / f"{time.monotonic_ns()}"
    for name in ("data/coco", "data/derived", "data/dataset", "data/yolo", "reports", ".keypipe"):
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).rename(folder / name)
