"""SIGKILL before every change to files that a command makes: nothing is lost, and the next try ends like the first."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from flows.starting.guided import Wishes, init_main
from keypipe.demo.scene import write_demo
from keypipe.errors import DatasetError
from tasks import convert, split
from tasks.commands.label_import import ImportOptions, import_labels
from tasks.starting.looking import Source
from tasks.starting.start import use_folder
from tasks.versions.raw import check_raw
from tasks.workspace.scratch import remove_abandoned
from tests.faults.kills import SAMPLE, killed_at_steps, run_whole
from tests.workspace import make_workspace


@pytest.fixture(scope="module")
def before_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which data lie, were converted and split, and are about to be replaced by others."""
    folder = tmp_path_factory.mktemp("kills")
    root = make_workspace(folder / "workspace", n_images=12)
    write_demo(folder / "own", 6, seed=7, size_wh=(160, 120))
    write_yolo(folder / "yolo")
    convert.main(root)
    split.main(root)
    return folder


def write_yolo(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for number, image in enumerate(write_demo(folder / "drawn", 3, seed=9, size_wh=(160, 120))):
        image.rename(folder / f"images/{number}.jpg")
        row = "0 0.5 0.5 0.4 0.4 0.5 0.5 2"
        (folder / f"images/{number}.txt").write_text(f"{row}\n")
    shutil.rmtree(folder / "drawn")
    (folder / "data.yaml").write_text("names: [cow]\nkpt_shape: [1, 3]\n")


def hash_folder(folder: Path) -> str:
    """Return what lies below a folder or in a file, by names and bytes; "" if it is not there."""
    if not folder.exists():
        return ""
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def use(folder: Path) -> None:
    use_folder(folder / "workspace", Source(folder / "own"))


def init(folder: Path) -> None:
    wishes = Wishes(yes=True, timed=False, offline=True)
    assert init_main(folder / "workspace", Source(folder / "own"), wishes, lambda _: nullcontext()) == 0


def take_in(folder: Path) -> None:
    import_labels(folder / "workspace", "yolo", folder / "yolo", ImportOptions(name="yolo", keypoints=("nose",)))


def convert_others(folder: Path) -> None:
    convert.main(folder / "workspace")


def split_anew(folder: Path) -> None:
    split.main(folder / "workspace")


WHOLE: dict[str, tuple[str, ...]] = {
    "use": ("data/raw", "params.yaml"),
    "init": ("data/raw", "params.yaml"),
    "import": ("data/raw/yolo", "params.yaml"),
    "convert": ("data/coco/keypoints.json", "reports/convert", "data/derived"),
    "split": ("data/dataset/annotations", "data/dataset/manifest.csv", "data/dataset/data.yaml", "reports/split"),
}
"""What each writes: at any moment it is what it was, what it will be, or (outputs of a stage, which DVC keeps) away."""
WORK: dict[str, Callable[[Path], None]] = {
    "use": use,
    "init": init,
    "import": take_in,
    "convert": convert_others,
    "split": split_anew,
}


def prepare(folder: Path, command: str) -> None:
    """Give the stages something to do: other data than those that their outputs follow from."""
    raw = folder / "workspace/data/raw"
    if command in ("convert", "split"):
        for path in sorted(raw.rglob("*.json"))[:2]:
            path.unlink()
    if command == "split":
        convert.main(folder / "workspace")


def state(folder: Path, command: str) -> dict[str, str]:
    return {name: hash_folder(folder / "workspace" / name) for name in WHOLE[command]}


@pytest.mark.parametrize("command", WORK)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["sample", "every step"])
def test_a_command_that_is_killed_at_any_step_loses_nothing(
    before_once: Path, tmp_path: Path, command: str, every: bool
) -> None:
    template = tmp_path / "template"
    shutil.copytree(before_once, template, symlinks=True)
    prepare(template, command)
    before, work = state(template, command), WORK[command]
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(template, undisturbed, symlinks=True)
    run_whole(lambda: work(undisturbed))
    after = state(undisturbed, command)
    assert before != after
    for step, steps, place in killed_at_steps(template, tmp_path / "killed", work, sample=None if every else SAMPLE):
        assert steps >= SAMPLE, steps
        check_nothing_is_half_written(place, command, before, after, step)
        remove_abandoned(place / "workspace")
        again(place, command)
        assert state(place, command) == after, f"step {step} of {steps}: the next try ended otherwise"


def check_nothing_is_half_written(place: Path, command: str, before: Any, after: Any, step: int) -> None:
    now = state(place, command)
    for name, content in now.items():
        allowed = {before[name], after[name]}
        if command in ("convert", "split") or name == "data/raw":
            allowed.add("")
        assert content in allowed, f"step {step}: {name} is half-written"
    if command in ("use", "init"):
        raws = [place / "workspace/data/raw", *(place / "workspace/.keypipe/replaced").glob("*/data/raw")]
        assert before["data/raw"] in map(hash_folder, raws), f"step {step}: the data before are lost"
        if not now["data/raw"]:
            with pytest.raises(DatasetError, match=r"lie in \.keypipe/replaced/.*/data/raw"):
                check_raw(place / "workspace")


def again(place: Path, command: str) -> None:
    """Try again, as a person would."""
    if command == "import" and (place / "workspace/data/raw/yolo").exists():
        return  # it had ended, and says so: the folder is there already
    WORK[command](place)
