from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from keypipe.dataset.coco import format_coco, to_coco
from keypipe.dataset.coco_stream import CocoLines
from keypipe.dataset.view import lay_out, refresh
from keypipe.dataset.yolo import to_view
from keypipe.errors import DatasetError
from keypipe.keypoints.instances import AnnotatedImage, Instance, Keypoint
from keypipe.keypoints.skeleton import parse_schema

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}}})
TEXTS = {"data.yaml": "x", "classes.txt": "cow\n"}
Splits = dict[str, list[AnnotatedImage]]


def cow(x: float) -> Instance:
    return Instance("cow", (0, 0, 50, 50), {"nose": Keypoint(x, 1)})


def image(path: str, *instances: Instance, md5: str = "") -> AnnotatedImage:
    return AnnotatedImage(path, (100, 100), md5 or path, instances, "a.json")


def dataset() -> Splits:
    return {
        "train": [image("raw/a/1.jpg", cow(1)), image("raw/b/1.jpg"), image("raw/b/1.png", cow(2), cow(3))],
        "val": [image("derived/images/2.jpg", cow(4))],
    }


class Workspace:
    """A dataset and its YOLO folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.yolo = root / "data/yolo"
        self.memory = root / "cache/view"

    def refresh(self, splits: Splits, texts: dict[str, str] | None = None) -> bool:
        lines: dict[str, CocoLines] = {}
        for split, images in splits.items():
            for one in images:
                (self.root / "data" / one.path).parent.mkdir(parents=True, exist_ok=True)
                (self.root / "data" / one.path).write_text(one.path)
            (self.root / f"{split}.json").write_bytes(format_coco(to_coco(images, SCHEMA)))
            lines[split] = CocoLines(self.root / f"{split}.json")
        done = refresh(self.yolo, lay_out(lines, SCHEMA), lines, SCHEMA, texts or TEXTS, self.memory)
        self.check(splits, texts or TEXTS)
        return done

    def check(self, splits: Splits, texts: dict[str, str]) -> None:
        """Check that the folder holds what ``to_view`` says, and what Ultralytics keeps, and nothing else."""
        view = to_view(splits, SCHEMA, "")
        files = {path.relative_to(self.yolo).as_posix(): path for path in self.yolo.rglob("*") if not path.is_dir()}
        ours = {name for name, path in files.items() if path.suffix not in {".cache", ".npy"}}
        assert ours == view.links.keys() | view.texts.keys() | texts.keys()
        for name, target in view.links.items():
            assert files[name].is_symlink()
            assert not files[name].readlink().is_absolute()
            assert files[name].read_text() == target
        for name, text in (view.texts | texts).items():
            assert files[name].read_text() == text

    def inodes(self) -> dict[str, tuple[int, int]]:
        """Return what tells whether a link or a label file was written anew."""
        files = {p.relative_to(self.yolo).as_posix(): p.lstat() for p in self.yolo.rglob("*") if not p.is_dir()}
        return {name: (status.st_ino, status.st_mtime_ns) for name, status in files.items()}

    def settle(self) -> None:
        """Let what was just written have been written a while ago."""
        later = max(path.lstat().st_ctime_ns for path in self.yolo.rglob("*")) + 10**9
        os.utime(self.memory, ns=(later, later))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def made(workspace: Workspace) -> Workspace:
    assert workspace.refresh(dataset())
    workspace.settle()
    return workspace


def test_the_folder_holds_links_and_labels_and_nothing_happens_twice(workspace: Workspace) -> None:
    assert workspace.refresh(dataset())
    assert (workspace.yolo / "images/train/b/1_png.png").is_symlink()
    assert (workspace.yolo / "labels/train/a/1.txt").read_text().startswith("0 0.250000 0.250000")
    workspace.settle()
    before = workspace.inodes()
    assert not workspace.refresh(dataset())
    assert workspace.inodes() == before


def test_images_that_come_go_and_change_splits(made: Workspace) -> None:
    before = made.inodes()
    splits = dataset()
    splits["train"].insert(0, image("raw/a/0.jpg", cow(9)))  # the ids of all others change
    assert made.refresh(splits)
    after = made.inodes()
    assert {name for name in after if name not in before} == {"images/train/a/0.jpg", "labels/train/a/0.txt"}
    assert before.items() <= after.items()
    splits["val"].append(splits["train"].pop(2))
    del splits["train"][1]
    made.refresh(splits)
    assert not (made.yolo / "labels/train/a/1.txt").exists()
    assert not (made.yolo / "labels/train/b/1.txt").is_symlink()
    made.refresh({"train": splits["train"][:1], "val": splits["val"][:1]})
    assert not (made.yolo / "images/train/b").exists()  # no empty folder is left


@pytest.mark.parametrize("same_size", [True, False])
def test_an_edited_label_is_put_right(made: Workspace, *, same_size: bool) -> None:
    label = made.yolo / "labels/train/a/1.txt"
    text = label.read_text()
    label.write_text(text.replace("0.25", "0.35") if same_size else "")
    assert made.refresh(dataset())
    assert label.read_text() == text


def test_an_edit_right_after_writing_that_no_time_tells_of_is_put_right(workspace: Workspace) -> None:
    workspace.refresh(dataset())
    label = workspace.yolo / "labels/train/a/1.txt"
    first = sign(label)
    label.write_text(label.read_text().replace("0.25", "0.35"))
    rows = workspace.memory.read_bytes()
    assert rows.count(first) == 1
    workspace.memory.write_bytes(rows.replace(first, sign(label)))  # as if the clock had not moved on in between
    assert workspace.refresh(dataset())


def sign(path: Path) -> bytes:
    status = path.stat()
    return struct.pack("qqq", status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def test_what_is_lost_or_replaced_is_mended(made: Workspace) -> None:
    (made.yolo / "labels/train/a/1.txt").unlink()
    link = made.yolo / "images/val/images_/2.jpg"
    link.unlink()
    link.symlink_to("elsewhere")
    (made.yolo / "images/train/a/1.jpg").unlink()
    (made.yolo / "images/train/a/1.jpg").write_text("raw/a/1.jpg")  # a copy is no link
    elsewhere = made.root / "elsewhere.txt"
    elsewhere.write_text("mine")
    (made.yolo / "labels/train/b/1_png.txt").unlink()
    (made.yolo / "labels/train/b/1_png.txt").symlink_to(elsewhere)
    (made.yolo / "data.yaml").write_text("y")
    assert made.refresh(dataset())
    assert elsewhere.read_text() == "mine"


def test_label_caches_stay_as_long_as_nothing_changes(made: Workspace) -> None:
    kept = [made.yolo / "labels/train.cache", made.yolo / "images/train/a/1.npy"]
    for path in kept:
        path.write_bytes(b"by Ultralytics")
    assert not made.refresh(dataset())
    assert all(path.exists() for path in kept)
    splits = dataset()
    splits["train"][0] = image("raw/a/1.jpg", cow(1), md5="edited")  # the same labels, and other pixels
    assert made.refresh(splits)
    assert not any(path.exists() for path in kept)


def test_what_does_not_belong_there_is_removed(made: Workspace) -> None:
    (made.yolo / "labels/train/a/9.txt").write_text("0 0 0 0 0")
    assert made.refresh(dataset())


@pytest.mark.parametrize("content", [None, b"", b"x" * 33, b"x" * 96])
def test_without_its_memory_or_with_a_damaged_one_everything_is_compared(
    made: Workspace, content: bytes | None
) -> None:
    made.memory.unlink()
    if content is not None:
        made.memory.write_bytes(content)
    (made.yolo / "labels/train/a/1.txt").write_text("0 edited")
    before = made.inodes()
    assert made.refresh(dataset())
    assert {name for name, inode in made.inodes().items() if before[name] != inode} == {"labels/train/a/1.txt"}


def test_other_code_or_another_schema_trusts_nothing(made: Workspace) -> None:
    other = parse_schema({"classes": {"cow": {"keypoints": ["tail", "nose"]}}})
    lines = {split: CocoLines(made.root / f"{split}.json") for split in dataset()}
    assert refresh(made.yolo, lay_out(lines, other), lines, other, TEXTS, made.memory)
    assert (made.yolo / "labels/train/a/1.txt").read_text().split()[5:8] == ["0.000000"] * 3


def test_a_large_view_is_written_by_two_processes(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keypipe.dataset.view._FILES_PER_PROCESS", 2)
    assert workspace.refresh(dataset())
    workspace.settle()
    assert not workspace.refresh(dataset())


def test_a_folder_elsewhere_is_left_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine")
    workspace.yolo.parent.mkdir(parents=True)
    workspace.yolo.symlink_to(elsewhere)
    with pytest.raises(DatasetError, match="is a link"):
        workspace.refresh(dataset())
    assert [path.name for path in elsewhere.iterdir()] == ["thesis.txt"]


def test_what_a_link_leads_to_is_not_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.refresh(dataset())
    mine = tmp_path / "mine.yaml"
    mine.write_text("mine")
    (workspace.yolo / "data.yaml").unlink()
    (workspace.yolo / "data.yaml").symlink_to(mine)
    assert workspace.refresh(dataset())
    assert mine.read_text() == "mine"
