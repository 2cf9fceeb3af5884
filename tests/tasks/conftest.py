"""One training that the tests of all stages look at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workspace import dvc, make_workspace, run_stages


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage ran; not to be changed."""
    root = make_workspace(tmp_path_factory.mktemp("trained") / "奶牛 farm")
    assert dvc(root, "add", "--quiet", "data/raw").returncode == 0
    run_stages(root, "convert", "split", "train", "validate", "export")
    return root


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the trained workspace that a test may change."""
    root = tmp_path / "trained"
    shutil.copytree(trained_once, root, symlinks=True)
    return root


@pytest.fixture(scope="session")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with annotations and nothing more; not to be changed."""
    return make_workspace(tmp_path_factory.mktemp("drawn") / "workspace", n_images=12)


@pytest.fixture
def drawn(drawn_once: Path, tmp_path: Path) -> Path:
    """A copy of the workspace with annotations that a test may change."""
    root = tmp_path / "workspace"
    shutil.copytree(drawn_once, root, symlinks=True)
    return root


@pytest.fixture(scope="session")
def empty_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace without data; not to be changed."""
    return make_workspace(tmp_path_factory.mktemp("empty") / "workspace", n_images=0)


@pytest.fixture
def empty(empty_once: Path, tmp_path: Path) -> Path:
    """A copy of the workspace without data that a test may change."""
    root = tmp_path / "empty"
    shutil.copytree(empty_once, root, symlinks=True)
    return root


@pytest.fixture
def snapshot() -> Callable[[Path], dict[str, tuple[bytes, int]]]:
    """Return a function that tells content and time of every file below a folder."""

    def take(folder: Path) -> dict[str, tuple[bytes, int]]:
        return {
            path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return take
