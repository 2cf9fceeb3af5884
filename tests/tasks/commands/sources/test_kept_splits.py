"""``import --keep-splits``: the source's splits become the manifest's, and the stage split keeps them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from flows.cli import cli
from keypipe.errors import ConfigError
from keypipe.splits.manifest import read_manifest
from tasks.commands.label_import import ImportOptions, import_labels
from tests.workspace import run_stages, set_params

ROW = "0 0.5 0.5 0.4 0.2 0.4 0.45 2 0.5 0.5 1\n"
COUNTS = {"train": 6, "valid": 3, "test": 2}


def draw(path: Path, seed: int) -> None:
    """Draw an image that looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), np.uint8)
    Image.fromarray(coarse).resize((100, 80), Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as Roboflow exports it."""
    folder = tmp_path / "farm"
    seed = 0
    for split, count in COUNTS.items():
        for number in range(count):
            draw(folder / split / f"images/{split}{number}.jpg", seed := seed + 1)
            (folder / split / "labels").mkdir(exist_ok=True)
            (folder / split / f"labels/{split}{number}.txt").write_text(ROW)
    texts = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (folder / "data.yaml").write_text(f"{texts}kpt_shape: [2, 3]\nnames: [cow]\nkpt_names: {{0: [nose, tail]}}\n")
    return folder


def splits(root: Path) -> dict[str, str]:
    return {Path(line.image).stem: line.split for line in read_manifest(root / "data/dataset/manifest.csv").lines}


@pytest.mark.parametrize("option", ["--keep-splits", "--keep-sides"])
def test_the_splits_of_the_source_are_kept_through_the_stage(empty: Path, source: Path, option: str) -> None:
    arguments = ["import", "yolo", str(source), "--write-schema", option]
    told = CliRunner().invoke(cli, arguments, obj=empty, catch_exceptions=False).output
    assert "splits kept, in data/dataset/manifest.csv: train 6, val 3, test 2" in told
    wanted = {f"{split}{number}": split.replace("valid", "val") for split, n in COUNTS.items() for number in range(n)}
    assert splits(empty) == wanted
    run_stages(empty, "convert", "split")
    assert splits(empty) == wanted
    lines = read_manifest(empty / "data/dataset/manifest.csv").lines
    assert {line.state for line in lines} == {"used"}
    assert all(line.phash for line in lines)  # the stage has seen them


def test_without_the_option_it_is_said_that_they_are_not_kept(empty: Path, source: Path) -> None:
    told = import_labels(empty, "yolo", source)
    assert "the source's splits, train 6, val 3, test 2: --keep-splits keeps them" in told
    assert not (empty / "data/dataset/manifest.csv").exists()


def test_an_image_that_is_mended_keeps_its_split(empty: Path, source: Path) -> None:
    """Convert writes it anew, so that its bytes are not those of the source."""
    with (source / "test/images/test0.jpg").open("ab") as file:
        file.write(b"\0" * 100)
    import_labels(empty, "yolo", source, ImportOptions(write_schema=True, keep_splits=True))
    run_stages(empty, "convert", "split")
    derived = [line for line in read_manifest(empty / "data/dataset/manifest.csv").lines if "derived" in line.image]
    assert [(line.image, line.split, line.state) for line in derived] == [
        ("derived/farm/test/test0.jpg", "test", "used")
    ]
    assert Counter(splits(empty).values()) == {"train": 6, "val": 3, "test": 2}


def test_images_that_have_a_split_keep_it_and_copies_go_to_the_one_that_measures(empty: Path, source: Path) -> None:
    import_labels(empty, "yolo", source, ImportOptions(name="first", write_schema=True, keep_splits=True))
    shutil.move(source / "train/images/train0.jpg", source / "valid/images/train0.jpg")
    shutil.move(source / "train/labels/train0.txt", source / "valid/labels/train0.txt")
    shutil.copy(source / "train/images/train1.jpg", source / "test/images/copy.jpg")
    shutil.copy(source / "train/labels/train1.txt", source / "test/labels/copy.txt")
    again = import_labels(empty, "yolo", source, ImportOptions(name="again", keep_splits=True))
    assert "2 of these images are in another split already, and stay there" in again
    assert len(read_manifest(empty / "data/dataset/manifest.csv").lines) == 11
    shutil.rmtree(empty / "data/dataset")
    fresh = import_labels(empty, "yolo", source, ImportOptions(name="fresh", keep_splits=True))
    assert "1 images are on two splits of the source; the one that measures keeps them" in fresh
    assert splits(empty)["train1"] == splits(empty)["copy"] == "test"
    assert splits(empty)["train0"] == "val"


def test_a_split_that_the_source_lacks_is_said(empty: Path, source: Path) -> None:
    shutil.rmtree(source / "test")
    told = import_labels(empty, "yolo", source, ImportOptions(write_schema=True, keep_splits=True))
    assert "no image for test: set split.test to 0" in told
    set_params(empty, **{"split.train": 0.8, "split.val": 0.2, "split.test": 0.0})
    run_stages(empty, "convert", "split")
    assert Counter(splits(empty).values()) == {"train": 6, "val": 3}


def test_a_source_without_splits_has_none_to_keep(empty: Path, source: Path) -> None:
    options = ImportOptions(keep_splits=True)
    (source / "data.yaml").write_text("train: gone\nkpt_shape: [2, 3]\nnames: [cow]\n")
    for split in COUNTS:
        (source / split).rename(source / f"part_{split}")
    with pytest.raises(ConfigError, match=r"neither data\.yaml nor the names of folders"):
        import_labels(empty, "yolo", source, options)
    assert not (empty / "data/raw/farm").exists()


def test_versions_of_one_picture_are_a_group_in_the_manifest(empty: Path, source: Path) -> None:
    """Roboflow's augmented versions, here of each picture of the training images, drawn as unlike as can be."""
    for number in range(COUNTS["train"]):
        for version in range(3):
            stem = f"IMG_{number}_jpg.rf.{number:016x}{version:016x}"
            draw(source / f"train/images/{stem}.jpg", 100 + 10 * number + version)
            (source / f"train/labels/{stem}.txt").write_text(ROW)
    import_labels(empty, "yolo", source, ImportOptions(write_schema=True))
    run_stages(empty, "convert", "split")
    lines = read_manifest(empty / "data/dataset/manifest.csv").lines
    for number in range(COUNTS["train"]):
        versions = [line for line in lines if f"IMG_{number}_jpg" in line.image]
        assert len(versions) == 3
        assert {line.group for line in versions} == {f"farm/IMG_{number}_jpg"}
        assert len({line.split for line in versions}) == 1
