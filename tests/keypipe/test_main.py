"""The console script, in folders that are no workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keypipe.__main__ import find_workspace
from tests.imports import ROOT


def test_the_workspace_is_found_from_its_folders() -> None:
    assert find_workspace(ROOT) == find_workspace(ROOT / "docs" / "images") == ROOT


@pytest.mark.parametrize("arguments", [["run"], ["--help"], []])
def test_outside_a_workspace_one_line_says_so(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "keypipe", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "clone" in done.stderr
    assert "`keypipe predict` and `keypipe serve` work anywhere" in done.stderr
