"""A workspace that an earlier version made, with the current code merged in: nothing is trained anew."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.imports import ROOT
from tests.workspace import QUICK, environment, git, set_params

EARLIER = "4f2f3e59ceeb29584ee5d41af8edcc74f1eda125"
"""Commit of the version before modules were laid into packages; its stages depend on single files."""


def keypipe(root: Path, *arguments: str, code: int = 0) -> str:
    """Run a workspace's own keypipe and return what it prints."""
    command = [sys.executable, "-m", "keypipe", *arguments]
    done = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def status(root: Path) -> dict[str, dict[str, str]]:
    return {stage["stage"]: stage for stage in json.loads(keypipe(root, "status", "--json"))["stages"]}


def merge_current_code(root: Path) -> None:
    """Merge the working tree of this project into a workspace, as a pull from upstream would."""
    git(root, "checkout", "--quiet", "-b", "upstream", EARLIER)
    git(root, "rm", "--quiet", "-r", ".")
    names = [name for name in git(ROOT, "ls-files", "-z").split("\0") if name and (ROOT / name).exists()]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, root / name)
    git(root, "add", "--force", "--all", "--", *names)
    git(root, "commit", "--quiet", "--message", "a new version")
    git(root, "checkout", "--quiet", "main")
    git(root, "merge", "--quiet", "--message", "keypipe upgraded", "upstream")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the earlier version has run, with its results committed and the current code merged."""
    if subprocess.run(["git", "cat-file", "-e", EARLIER], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip(f"needs the history of the project back to {EARLIER}: git fetch --unshallow")
    root = tmp_path_factory.mktemp("earlier") / "workspace"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
    git(root, "checkout", "--quiet", "-B", "main", EARLIER)
    (root / "local.yaml").write_text("threads: 1\ndevice: cpu\n")
    keypipe(root, "demo", "--images", "24")
    keypipe(root, "run", *(f"--set={name}={value}" for name, value in QUICK.items()))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "first results")
    merge_current_code(root)
    return root


@pytest.fixture
def upgraded(earlier: Path, tmp_path: Path) -> Path:
    """A copy of the upgraded workspace that a test may change."""
    root = tmp_path / "workspace"
    shutil.copytree(earlier, root, symlinks=True)
    return root


def outputs(root: Path) -> dict[str, Any]:
    lock = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in ("train", "validate", "export") for out in lock[stage]["outs"]}


@pytest.mark.timeout(1800)
def test_a_new_version_trains_nothing_anew(upgraded: Path) -> None:
    root = upgraded
    before, run_id = outputs(root), json.loads((root / "models/train.json").read_text())["run_id"]
    for stage in status(root).values():
        assert "only keypipe's own code changed" in stage["detail"] or stage["state"] == "up to date", stage
    detail = status(root)["train"]["detail"]
    assert "`keypipe accept`" in detail
    assert "dvc.yaml" in detail  # data/weights, which the earlier version did not know, is new and empty
    assert "data/weights" not in (root / "dvc.lock").read_text()
    said = keypipe(root, "accept")
    assert "train" in said
    assert outputs(root) == before
    assert "data/weights" in (root / "dvc.lock").read_text()
    assert {stage["state"] for stage in status(root).values()} == {"up to date"}

    keypipe(root, "run")
    last = json.loads((root / ".keypipe/last-run.json").read_text())
    assert [stage["state"] for stage in last["stages"]] == ["Cached"] * 5
    accepted = yaml.safe_load((root / "accepted.yaml").read_text())
    assert [entry["stage"] for entry in accepted] == ["train", "validate", "export"]
    code = (
        "import sys; from pathlib import Path; from tasks.tracking.history import list_runs;"
        "print(*[run.tags.get('keypipe.accepted.train', '') for run in list_runs(Path.cwd()) if run.id == sys.argv[1]])"
    )
    command = [sys.executable, "-c", code, run_id]
    tag = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=True).stdout
    assert tag.split() == [accepted[0]["after"]]

    assert run_id[:8] in keypipe(root, "compare", "latest", "workspace")
    assert f"run {run_id[:8]} is reproduced" in keypipe(root, "reproduce", "latest")


@pytest.mark.timeout(1800)
def test_what_is_more_than_code_is_refused(upgraded: Path) -> None:
    root = upgraded
    lock = (root / "dvc.lock").read_bytes()
    set_params(root, **{"train.epochs": 3})
    said = keypipe(root, "accept", code=2)
    assert "train: not only keypipe's own code changed, but params.yaml train" in said
    assert "nothing was taken" in said
    assert (root / "dvc.lock").read_bytes() == lock
    assert not (root / "accepted.yaml").exists()
    set_params(root, **{"train.epochs": QUICK["train.epochs"]})

    (picture := next((root / "data/raw").rglob("*.jpg"))).write_bytes(picture.read_bytes() + b"\0")
    assert "data/raw" in keypipe(root, "accept", "train", code=2)
    assert (root / "dvc.lock").read_bytes() == lock
    assert "no such stage" in keypipe(root, "accept", "tidy", code=2)
    assert "killed" not in keypipe(root, "status")


@pytest.mark.timeout(1800)
def test_code_that_learns_otherwise_is_not_taken(upgraded: Path) -> None:
    root = upgraded
    learns = root / "tasks/engine/training/job.py"
    learns.write_text(learns.read_text().replace("LEARNS = 1", "LEARNS = 2"))
    said = keypipe(root, "accept", code=2)
    assert "learns otherwise (version 2; this model was trained by version 1)" in said
    assert not (root / "accepted.yaml").exists()
