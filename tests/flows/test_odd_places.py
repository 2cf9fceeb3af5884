"""Workspaces in folders with odd names, of other users, and those that are none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imports import ROOT
from tests.workspace import environment, git, make_workspace

ODD = [
    "a blank", "an apostrophe's", 'a "quote"', "#1", "50% off", "this&that", "every*", "[brackets]", "$HOME", "one;two",
    "1+1", "a=b", "one, two", "10:30", "{braces}", "back`tick", "奶牛", "new\nline",
]  # fmt: skip
MANY = 'farm\'s [1] "50%" #2 $x; a=1,b 奶牛'

ONE_EPOCH = {"train.epochs": 1, "train.imgsz": 64}


def keypipe(root: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run keypipe's command line in a folder."""
    command = [sys.executable, "-P", "-m", "keypipe", *arguments]
    env = environment(PYTHONPATH=str(ROOT), **extra)
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def run_to_the_end(root: Path) -> None:
    make_workspace(root, 12, **ONE_EPOCH)
    done = keypipe(root, "run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((root / "exports").glob("*.onnx"))
    again = keypipe(root, "run")
    assert again.stdout.count("Cached") == 5, again.stdout + again.stderr


@pytest.mark.timeout(600)
def test_a_run_ends_well_in_a_folder_with_many_odd_characters(tmp_path: Path) -> None:
    run_to_the_end(tmp_path / MANY)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ODD)
def test_a_run_ends_well_in_an_odd_folder(tmp_path: Path, name: str) -> None:
    run_to_the_end(tmp_path / name)


def test_a_question_mark_is_refused_before_anything_starts(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "what?", 3)
    for arguments in (["run"], ["use", str(root / "data/raw")], ["demo"]):
        refuses(keypipe(root, *arguments), "must not have a question mark in it")
    assert not (root / "dvc.lock").exists()


def refuses(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_downloaded_copy_is_refused_before_anything_is_moved(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "keypipe-main", 3)
    shutil.copytree(root / "data/raw", tmp_path / "own")
    shutil.rmtree(root / ".git")
    before = sorted(root.rglob("*.json"))
    for arguments in (["use", str(tmp_path / "own")], ["run"]):
        refuses(keypipe(root, *arguments), "`git init` in this folder makes it one")
    assert sorted(root.rglob("*.json")) == before
    git(root, "init", "--quiet")
    assert keypipe(root, "use", str(tmp_path / "own")).returncode == 0


OTHER = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"]
PACKAGES = Path(pytest.__file__).parents[1]


class OtherUser:
    """A user whom the system does not know, with an interpreter that he can start."""

    def __init__(self, home: Path, python: str) -> None:
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin/python").symlink_to(python)
        self.home = home
        self._python = python

    def run(self, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a module in a folder."""
        paths = {"PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.home)}
        code = {"PYTHONPATH": f"{ROOT}{os.pathsep}{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"}
        env = environment(**paths, **code)
        for name in ("USER", "LOGNAME", "USERNAME", "LNAME", "PREFECT_HOME"):
            env.pop(name, None)
        command = [*OTHER, self._python, "-P", "-m", *arguments]
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)

    def keypipe(self, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run keypipe's command line in a folder."""
        return self.run(root, "keypipe", *arguments)


@pytest.fixture
def other() -> Iterator[OtherUser]:
    """Another user with a home; a skip where none can be had, or none who can read the code and its packages."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs to be root, and setpriv, to be another user")
    probe = "import dvc, subprocess, sys; subprocess.check_call([sys.executable, '-c', ''])"
    same = shutil.which(f"python3.{sys.version_info.minor}", path=os.defpath)
    for python in filter(None, (sys.executable, same)):
        command = [*OTHER, python, "-P", "-c", probe]
        env = environment(PYTHONPATH=f"{ROOT}{os.pathsep}{PACKAGES}")
        if subprocess.run(command, env=env, capture_output=True, check=False, cwd="/").returncode == 0:
            break
    else:
        pytest.skip("needs an interpreter, code and packages that other users can read")
    # Not below pytest's folder: every other session of pytest that starts closes that to other users again.
    with tempfile.TemporaryDirectory(prefix="keypipe-other-", ignore_cleanup_errors=True) as home:
        Path(home).chmod(0o777)
        yield OtherUser(Path(home), python)


def give(path: Path, user: int) -> None:
    for inner in (path, *path.rglob("*")):
        os.chown(inner, user, user, follow_symlinks=False)


def test_another_users_workspace_is_refused_before_anything_is_moved(other: OtherUser) -> None:
    root = make_workspace(other.home / "w", 3)
    for arguments in (["run"], ["use", str(root / "data/raw")]):
        refuses(other.keypipe(root, *arguments), "no permission to write (user 54321, owner 0)")
    assert not (root / "dvc.lock").exists()


def test_a_repository_of_another_user_is_called_that(other: OtherUser) -> None:
    root = make_workspace(other.home / "w", 3)
    give(root, 54321)
    os.chown(root / ".git", 0, 0)
    for arguments in (["run"], ["use", str(root / "data/raw")]):
        refuses(other.keypipe(root, *arguments), "git config --global --add safe.directory")


def test_a_user_without_an_entry_in_the_system_can_use_dvc(other: OtherUser) -> None:
    root = make_workspace(other.home / "w", 6)
    give(root, 54321)
    done = other.run(root, "tasks.convert")
    assert done.returncode == 0, done.stdout + done.stderr
    done = other.keypipe(root, "status")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "convert" in done.stdout


@pytest.mark.timeout(600)
def test_a_user_without_an_entry_in_the_system_runs_stages(other: OtherUser) -> None:
    root = make_workspace(other.home / "w", 6)
    give(root, 54321)
    if other.run(root, "redis.asyncio").stderr.count("async_timeout"):
        pytest.skip("the other user's interpreter needs async_timeout")
    done = other.keypipe(root, "run", "--until", "split")
    assert done.returncode == 0, done.stdout + done.stderr
