"""Two clones at once on one DVC cache, and on one registry and one remote; kills inside of what DVC writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.flows.toy import REPOSITORY, Api, Toy, dvc, wait_until
from tests.patience import PATIENCE

MODEL = "models/best.pt"

KILLS = """\
import fcntl, json, os, pathlib, signal, sys

changes = ("os.rename", "os.remove", "os.link", "os.mkdir", "shutil.copyfile", "os.chmod")

def hook(event, arguments):
    word = os.environ.get("TOY_KILL_AT", "")
    if not word or (event not in changes and not (event == "open" and "w" in str(arguments[1]))):
        return
    if not any(word in os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))):
        return
    count = pathlib.Path(os.environ["TOY_STEPS"])
    file = os.open(count, os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)  # stages have processes of their own
    left = int(os.read(file, 20)) - 1
    os.pwrite(file, b"%-20d" % left, 0)
    os.close(file)
    if left == 0:
        lease = pathlib.Path(".keypipe/lease.json")
        if lease.exists():
            os.kill(json.loads(lease.read_text())["pid"], signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""
"""Ends a run, and the process of it that is at work, before the so many-th change to files of some name."""


def kill_at(folder: Path, word: str, step: int) -> dict[str, str]:
    """Return an environment in which a run is killed before a step; 0: it counts backwards, and kills nothing."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(KILLS)
    (folder / "steps").write_text(f"{step:<20}")
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    return {"PYTHONPATH": path, "TOY_KILL_AT": word, "TOY_STEPS": str(folder / "steps")}


def check_cache(cache: Path, *, killed: bool = False) -> int:
    """Check that every object is what its name says, and return how many there are.

    Args:
        cache: or a remote.
        killed: whoever wrote into it. DVC may have begun an object then, and not yet protected it: it hashes what is
            not protected before it trusts it.
    """
    count = 0
    for path in (cache / "files/md5").rglob("*"):
        name = path.parent.name + path.name.removesuffix(".dir")
        if not path.is_file() or len(name) != 32 or (killed and path.stat().st_mode & 0o222):
            continue
        count += 1
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        assert md5 == name, f"{path} lies under a wrong name"
    return count


def copy(toy: Toy, root: Path, api: Api) -> Toy:
    return Toy(Path(shutil.copytree(toy.root, root, symlinks=True)), api)


def check_all_is_done(toy: Toy) -> None:
    assert "up to date" in dvc(toy.root, "status")
    for name in (MODEL, "metrics/validate.json", "exports/best.onnx"):
        assert "calf" in toy.text(name)
    assert not list((toy.root / ".keypipe/being-written").rglob("*.*"))


@pytest.mark.parametrize(
    "steps",
    [[3], pytest.param(range(1, 41), marks=[pytest.mark.faults, pytest.mark.timeout(7200)])],
    ids=["sample", "every"],
)
def test_a_kill_at_any_step_of_what_dvc_writes_into_its_cache_loses_nothing(
    ran: Toy, tmp_path: Path, api: Api, steps: list[int]
) -> None:
    ran.edit(label="calf")
    killed = 0
    for step in steps:
        toy = copy(ran, tmp_path / f"step{step}", api)
        environment = kill_at(tmp_path / f"hook{step}", ".dvc/cache", step)
        process = toy.start("run", **environment)
        output, _ = process.communicate(timeout=PATIENCE)
        if process.returncode == 0:
            check_all_is_done(toy)
            break  # there are no more steps
        assert process.returncode == -signal.SIGKILL, output
        killed += 1
        wait_until(lambda toy=toy: not toy.processes(), "its processes to be gone")
        check_cache(toy.root / ".dvc/cache", killed=True)
        toy.keypipe("run")
        check_all_is_done(toy)
        check_cache(toy.root / ".dvc/cache")
        shutil.rmtree(toy.root)
    assert killed


@pytest.mark.faults
def test_two_clones_on_one_cache_at_once_of_which_one_is_killed(ran: Toy, tmp_path: Path, api: Api) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(ran.root / ".dvc/cache", cache)
    shutil.rmtree(ran.root / ".dvc/cache")
    dvc(ran.root, "config", "--local", "cache.dir", str(cache))
    ran.edit(label="calf")
    other = copy(ran, tmp_path / "other", api)
    first, second = (toy.start("run", TOY_SLEEP_TRAIN="5") for toy in (ran, other))
    for toy in (ran, other):
        wait_until((toy.root / ".keypipe/asleep-train").exists, "train to be at work")
    second.kill()
    outputs = [process.communicate(timeout=PATIENCE)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, -signal.SIGKILL], outputs
    wait_until(lambda: not other.processes(), "its processes to be gone")
    other.keypipe("run")
    for toy in (ran, other):
        check_all_is_done(toy)
    assert ran.text("dvc.lock") == other.text("dvc.lock")
    assert check_cache(cache)
    # What one has made, the other takes from the cache.
    for toy in (ran, other):
        toy.edit(label="heifer")
    ran.keypipe("run")
    other.ran()
    other.keypipe("run")
    last = json.loads(other.text(".keypipe/last-run.json"))
    assert {stage["state"] for stage in last["stages"]} <= {"Restored", "Cached", "Ran"}
    assert other.text(MODEL) == ran.text(MODEL)


@pytest.mark.faults
def test_two_clones_on_one_cache_that_write_the_same_at_once(ran: Toy, tmp_path: Path, api: Api) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(ran.root / ".dvc/cache", cache)
    shutil.rmtree(ran.root / ".dvc/cache")
    dvc(ran.root, "config", "--local", "cache.dir", str(cache))
    toys = [ran, *(copy(ran, tmp_path / f"other{n}", api) for n in range(2))]
    for label in ("calf", "heifer", "calf"):
        for toy in toys:
            toy.edit(label=label)
        runs = [toy.start("run") for toy in toys]
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in runs]
        assert [process.returncode for process in runs] == [0, 0, 0], outputs
    for toy in toys:
        check_all_is_done(toy)
    assert check_cache(cache)
