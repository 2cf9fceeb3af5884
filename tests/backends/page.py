"""The commands of docs/backends.md, and a shell that runs them as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.imports import ROOT

PAGE = ROOT / "docs/backends.md"
BLOCK = re.compile(r"<!-- (follow|skip): ([^>]+) -->\n```sh\n(.*?)```", re.DOTALL)
PROGRAMS = {"python": "", "mlflow": "-P -m mlflow", "prefect": "-P -m prefect", "keypipe": "-m keypipe"}


def commands(name: str) -> str:
    """Return the commands of the page that a test follows by this name."""
    (code,) = [code for kind, found, code in blocks() if (kind, found) == ("follow", name)]
    return code


def blocks() -> list[tuple[str, str, str]]:
    """Return every block of the page: whether it is followed, its name or the reason why not, and its commands."""
    return [(kind, name, code) for kind, name, code in BLOCK.findall(PAGE.read_text(encoding="utf-8"))]


class Shell:
    """Runs commands in a folder, on this interpreter's programs.

    Attributes:
        environment: all of it.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        programs = folder.parent / "programs"
        programs.mkdir(exist_ok=True)
        for name, arguments in PROGRAMS.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
            path.chmod(0o755)
        path = os.pathsep.join([str(programs), environment.get("PATH", os.defpath)])
        self.environment = {**environment, "PATH": path, "PYTHONPATH": str(folder)}

    def run(self, code: str, expect: int = 0) -> str:
        """Run them, expect an exit code, and return what they print."""
        command = ["bash", "-euo", "pipefail", "-c", code]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == expect, f"{code}: {done.returncode}\n{done.stdout}"
        return done.stdout
