"""The commands of README and of some pages are run as they stand, by a shell, in a newcomer's workspace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from keypipe.demo.scene import write_demo
from tests.imports import ROOT
from tests.second_opinion import shake
from tests.workspace import environment, git, make_workspace, set_params

BLOCK = re.compile(r"(?:<!-- (?P<mark>skip|slow): (?P<reason>[^>]+) -->\n)?```sh\n(?P<code>.*?)```", re.DOTALL)


class Block(NamedTuple):
    code: str
    mark: str | None
    reason: str | None


PAGES = (ROOT / "README.md", ROOT / "docs/troubleshooting.md", ROOT / "docs/tutorial.md")


def blocks(page: Path) -> Iterator[Block]:
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield Block(match["code"].strip(), match["mark"], match["reason"])


def as_parameter(block: Block) -> Any:
    marks = [pytest.mark.slow] if block.mark == "slow" else []
    return pytest.param(block.code, marks=marks, id=block.code.splitlines()[0])


RUN = [as_parameter(block) for page in PAGES for block in blocks(page) if block.mark != "skip"]


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after a short run, with the environment in ``.venv`` and annotations in the home folder."""
    home = tmp_path_factory.mktemp("home")
    root = make_workspace(home / "keypipe", **{"export.conf": 0.25})
    (root / "tools").mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "tools/find_python.sh", "tools/install.py"):
        shutil.copy2(ROOT / name, root / name)
    (root / ".venv").symlink_to(ROOT / ".venv")
    write_demo(home / "my-annotations", 24, seed=3, size_wh=(160, 120))
    shutil.copytree(home / "my-annotations", home / "second-opinion")
    shake(home / "second-opinion", 1.0, seed=0)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "as cloned")
    done = shell(root, "keypipe run")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def shell(root: Path, code: str) -> subprocess.CompletedProcess[str]:
    env = environment(HOME=str(root.parent)) | {"PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", code]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="needs the environment of `make install`")
@pytest.mark.parametrize("code", RUN)
def test_a_command_works(newcomer: Path, code: str) -> None:
    set_params(newcomer, **{"train.epochs": 2})
    done = shell(newcomer, code)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_that_is_not_run_says_why(page: Path) -> None:
    found = list(blocks(page))
    assert len(found) >= 7
    assert all(block.reason for block in found if block.mark)
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```sh$", text, re.MULTILINE)) == len(found)
