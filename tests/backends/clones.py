"""Clones of one workspace, as on several machines that share git, DVC's remote, MLflow and Prefect."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.imports import ROOT
from tests.workspace import git, make_workspace
from tools.backends.stack import Backends

PROGRAM = "import sys; from pathlib import Path; from flows.cli import main; main(Path(sys.argv.pop(1)))"
SNAPSHOTS = "refs/keypipe/*"


class Clone:
    """A clone, and what is run in it, on the servers.

    Attributes:
        root: its folder; all have the same name, after which the registered model is called.
    """

    def __init__(self, root: Path, backends: Backends) -> None:
        self.root, self.backends = root, backends
        (root / "local.yaml").write_text("threads: 1\ndevice: cpu\n")
        git(root, "config", "user.name", root.parent.name)
        git(root, "config", "user.email", f"{root.parent.name}@example.org")

    def environment(self) -> dict[str, str]:
        """Return the whole environment of what runs in it."""
        found = self.backends.client_environment(self.root)
        return found | {"PATH": f"{Path(sys.executable).parent}:{found['PATH']}"}

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command, expect an exit code, and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-P", *command],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{command[-3:]}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def keypipe(self, *arguments: str, code: int = 0) -> str:
        """Run ``keypipe``."""
        return self.run("-c", PROGRAM, str(self.root), *arguments, code=code)

    def dvc(self, *arguments: str) -> str:
        """Run DVC."""
        return self.run("-m", "dvc", *arguments)

    def json(self, *arguments: str) -> Any:
        """Run a command of ``keypipe`` that reports, and return what it says."""
        text = self.keypipe(*arguments, "--json")
        return json.loads(text[text.index("{") :])

    def publish(self, message: str) -> None:
        """Commit and push all there is: data, code and snapshots."""
        self.dvc("push")
        git(self.root, "add", "--all")
        git(self.root, "commit", "--quiet", "--message", message)
        git(self.root, "push", "--quiet", "--set-upstream", "origin", "HEAD", f"{SNAPSHOTS}:{SNAPSHOTS}")


def make_first(folder: Path, origin: Path, backends: Backends, **params: Any) -> Clone:
    """Make a workspace of the real code with its remotes, of git and of DVC; nothing has run."""
    root = make_workspace(folder / "cows", **params)
    git(folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(origin))
    git(root, "branch", "--move", "main")
    git(root, "remote", "add", "origin", str(origin))
    shutil.copy2(ROOT / "prefect.yaml", root)
    clone = Clone(root, backends)
    clone.dvc("remote", "add", "--default", "store", "s3://dvc/cows")
    clone.dvc("remote", "modify", "store", "endpointurl", backends.storage.url)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "remotes")
    return clone


def make_clone(folder: Path, origin: Path, backends: Backends) -> Clone:
    """Clone it elsewhere, with the snapshots of trainings."""
    folder.mkdir()
    git(folder, "clone", "--quiet", str(origin), "cows")
    clone = Clone(folder / "cows", backends)
    git(clone.root, "fetch", "--quiet", "origin", f"{SNAPSHOTS}:{SNAPSHOTS}")
    return clone
