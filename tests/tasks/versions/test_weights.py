"""What a training starts from: kept by DVC in one place, refused elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from keypipe.errors import ConfigError
from tasks.check import check_files
from tasks.versions.snapshots import write_tree
from tasks.versions.store import checkout, unused_objects
from tasks.versions.weights import check_kept, find_unkept, hash_file, list_versioned, read_versioned, version_weights
from tests.flows.toy import dvc
from tests.workspace import git, make_workspace, set_params

NAME = "data/weights/x.pt"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("made") / "workspace", n_images=0)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A workspace with a file of weights that nothing keeps yet."""
    shutil.copytree(made, tmp_path / "workspace", symlinks=True)
    (tmp_path / "workspace" / NAME).write_bytes(b"weights")
    return tmp_path / "workspace"


def test_dvc_keeps_weights_and_git_keeps_what_names_them(root: Path) -> None:
    ignored = (root / "data/weights/.gitignore").read_bytes()
    version_weights(root, root / NAME)
    assert read_versioned(root / NAME) == hash_file(root / NAME)
    assert list_versioned(root) == [f"{NAME}.dvc"]
    assert git(root, "status", "--short").split() == ["??", f"{NAME}.dvc"]
    assert (root / "data/weights/.gitignore").read_bytes() == ignored
    assert dvc(root, "status", f"{NAME}.dvc").strip() == "Data and pipelines are up to date."
    (root / NAME).unlink()
    assert checkout(root, *list_versioned(root)) == []
    assert (root / NAME).read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["yolov8n-pose.pt", "yolov8n-pose.yaml", NAME, "data/weights/mine.yaml"])
def test_published_names_and_what_is_kept_are_taken(root: Path, name: str) -> None:
    version_weights(root, root / NAME)
    (root / "data/weights/mine.yaml").write_text("nc: 1\n")
    assert find_unkept(root, {"model": name, "distill_model": name}) == []
    assert find_unkept(root, {"model": name, "distill_model": None}) == []


def test_a_link_into_dvcs_cache_is_kept(root: Path) -> None:
    dvc(root, "config", "cache.type", "symlink")
    version_weights(root, root / NAME)
    (root / NAME).unlink()
    checkout(root, f"{NAME}.dvc")
    assert (root / NAME).is_symlink()
    assert find_unkept(root, {"model": NAME}) == []


@pytest.mark.parametrize("place", ["x.pt", "models/x.pt", "../x.pt", "mine.yaml", "x?.pt"])
def test_a_file_elsewhere_is_refused_with_what_to_do(root: Path, place: str) -> None:
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_bytes(b"weights")
    for name in (place, str(root / place)):
        (line,) = find_unkept(root, {"model": name, "epochs": 3})
        shown = "'x?.pt'" if "?" in place else place
        assert line == (
            f"params.yaml: train.model: {name}: lies outside data/weights, where DVC keeps it;"
            f" `keypipe weights {shown}` copies it there"
        )


def test_a_model_yaml_elsewhere_is_found_by_its_name_with_a_scale(root: Path) -> None:
    (root / "mine8.yaml").write_text("nc: 1\n")
    (line,) = find_unkept(root, {"model": "mine8n.yaml"})
    assert "`keypipe weights mine8.yaml`" in line


def test_what_is_in_the_place_and_not_kept_is_refused(root: Path) -> None:
    assert "DVC does not keep it yet; `keypipe weights data/weights/x.pt`" in find_unkept(root, {"model": NAME})[0]
    version_weights(root, root / NAME)
    (root / NAME).write_bytes(b"others")
    said = find_unkept(root, {"distill_model": NAME})[0]
    assert said.startswith(f"params.yaml: train.distill_model: {NAME}: not the file that DVC keeps")
    dvc(root, "add", NAME)
    assert find_unkept(root, {"model": NAME}) == []
    (root / NAME).unlink()
    assert f"not there; `dvc pull {NAME}.dvc`" in find_unkept(root, {"model": NAME})[0]
    assert "not there; `keypipe weights FILE`" in find_unkept(root, {"model": "data/weights/y.pt"})[0]


def test_all_of_it_is_said_at_once(root: Path) -> None:
    (root / "t.pt").write_bytes(b"teacher")
    with pytest.raises(ConfigError) as caught:
        check_kept(root, {"model": NAME, "distill_model": "t.pt"})
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["train.model", "train.distill_model"]


def test_a_run_is_refused_before_it_starts_but_not_for_a_training_that_is_there(root: Path) -> None:
    """A training of an earlier version, which took any file, needs nothing of it any more."""
    (root / "old.pt").write_bytes(b"weights")
    set_params(root, **{"train.model": "old.pt"})
    with pytest.raises(ConfigError, match=r"`keypipe weights old\.pt`"):
        check_files(root)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train:\n    cmd: python -m tasks.train\n"
        "    params:\n      params.yaml:\n        train: {model: old.pt}\n"
    )
    check_files(root)
    with pytest.raises(ConfigError, match=r"`keypipe weights old\.pt`"):
        check_kept(root, {"model": "old.pt"})


def test_a_place_that_is_gone_is_named(root: Path) -> None:
    shutil.rmtree(root / "data/weights")
    with pytest.raises(ConfigError, match=r"data/weights: not there, .* `git checkout data/weights`"):
        check_files(root)
    git(root, "checkout", "data/weights")
    check_files(root)


def test_pruning_keeps_the_weights_that_a_snapshot_names(root: Path) -> None:
    version_weights(root, root / NAME)
    tree = write_tree(root)
    assert tree.skipped == ()
    commit = git(root, "commit-tree", tree.name, "-m", "a snapshot").strip()
    (root / NAME).unlink()
    (root / f"{NAME}.dvc").unlink()
    assert unused_objects(root, [], remove=False).objects == 1
    assert unused_objects(root, [commit], remove=True).objects == 0
    git(root, "checkout", commit, "--", f"{NAME}.dvc")
    assert checkout(root, f"{NAME}.dvc") == []
    assert (root / NAME).read_bytes() == b"weights"
