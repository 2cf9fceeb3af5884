from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from keypipe.coco import parse_coco
from tests.workspace import make_workspace, run_stage, run_stages, set_params


@pytest.fixture(scope="module")
def converted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("converted") / "workspace", n_images=40)
    run_stages(root, "convert")
    return root


@pytest.fixture
def converted(converted_once: Path, tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    shutil.copytree(converted_once, root, symlinks=True)
    return root


def split(root: Path) -> dict[str, str]:
    """Run split and return image -> side."""
    run_stages(root, "split")
    return read_manifest(root)


def read_manifest(root: Path) -> dict[str, str]:
    with (root / "data/dataset/manifest.csv").open(encoding="utf-8") as file:
        return {row["image"]: row["side"] for row in csv.DictReader(file) if row["present"] == "yes"}


def refuse(root: Path) -> str:
    done = run_stage(root, "split")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_dataset_is_laid_out_for_coco_tools_and_for_yolo(converted: Path) -> None:
    sides = split(converted)
    assert Counter(sides.values()) == {"train": 28, "val": 6, "test": 6}
    data = yaml.safe_load((converted / "data/dataset/data.yaml").read_text())
    assert data["kpt_shape"] == [13, 3]
    assert data["flip_idx"] == [0, 2, 1, 3, 4, 6, 5, 8, 7, 10, 9, 12, 11]
    assert data["names"] == {0: "cow"}
    assert data["kpt_oks_sigmas"] == [0.2] * 13
    assert (converted / "data/yolo/data.yaml").read_text() == (converted / "data/dataset/data.yaml").read_text()
    for side in ("train", "val", "test"):
        coco = parse_coco((converted / f"data/dataset/annotations/{side}.json").read_bytes())
        assert {image.file_name for image in coco.images} == {image for image, at in sides.items() if at == side}
        links = sorted(path for path in (converted / f"data/yolo/images/{side}").rglob("*.jpg"))
        labels = sorted(path for path in (converted / f"data/yolo/labels/{side}").rglob("*.txt"))
        assert [link.relative_to(converted / "data/yolo/images").with_suffix("") for link in links] == [
            label.relative_to(converted / "data/yolo/labels").with_suffix("") for label in labels
        ]
        assert all(link.is_symlink() and link.exists() for link in links)
        lines = sum(len(label.read_text().splitlines()) for label in labels)
        assert lines == len(coco.annotations)


def test_yolos_own_loader_takes_every_object(converted: Path) -> None:
    split(converted)
    from ultralytics.data.utils import verify_image_label

    held = 0
    for link in sorted((converted / "data/yolo/images").rglob("*.jpg")):
        label = Path(str(link).replace("/images/", "/labels/")).with_suffix(".txt")
        result = verify_image_label((str(link), str(label), "", True, 1, 13, 3, False))
        assert not result[-1], result[-1]
        held += len(result[1])
    coco = parse_coco((converted / "data/coco/keypoints.json").read_bytes())
    assert held == len(coco.annotations)


def test_images_keep_their_side_when_data_are_added_and_removed(converted: Path) -> None:
    before = split(converted)
    raw = converted / "data/raw"
    gone = sorted(before)[0]
    for path in (converted / "data" / gone, (converted / "data" / gone).with_suffix(".json")):
        path.unlink()
    source = sorted(raw.rglob("*.json"))[0]
    text = source.read_text()
    for index in range(10):
        image = raw / f"new/n{index}.jpg"
        image.parent.mkdir(exist_ok=True)
        image.write_bytes(source.with_suffix(".jpg").read_bytes() + bytes([index]) + b"\xff\xd9")
        image.with_suffix(".json").write_text(text.replace(source.with_suffix(".jpg").name, image.name))
    run_stages(converted, "convert")
    after = split(converted)
    assert {image: side for image, side in after.items() if image in before} == {
        image: side for image, side in before.items() if image != gone
    }
    assert len(after) == 49
    assert f"{gone}," in (converted / "data/dataset/manifest.csv").read_text()


def test_groups_by_folder_share_a_side(converted: Path) -> None:
    set_params(
        converted, **{"split.group_by": r"cow_(\d\d\d)", "split.train": 0.5, "split.val": 0.25, "split.test": 0.25}
    )
    sides = split(converted)
    groups: dict[str, set[str]] = {}
    for image, side in sides.items():
        groups.setdefault(image.rpartition("cow_")[2][:3], set()).add(side)
    assert all(len(found) == 1 for found in groups.values())


def test_two_ways_are_just_parameters(converted: Path) -> None:
    set_params(converted, **{"split.train": 0.9, "split.val": 0.1, "split.test": 0})
    assert Counter(split(converted).values()) == {"train": 36, "val": 4}
    data = yaml.safe_load((converted / "data/dataset/data.yaml").read_text())
    assert "test" not in data
    assert not (converted / "data/yolo/images/test").exists()


def test_the_same_bytes_again_and_from_a_fresh_view(converted: Path) -> None:
    split(converted)

    def view() -> dict[str, bytes]:
        yolo = converted / "data/yolo"
        return {path.relative_to(yolo).as_posix(): path.read_bytes() for path in yolo.rglob("*") if path.is_file()}

    first = view()
    shutil.rmtree(converted / "data/yolo")
    split(converted)
    assert view() == first


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"split.train": 0.9}, "must add up to 1, got train 0.9, val 0.15, test 0.15 = 1.2"),
        ({"split.group_by": "("}, "not a regular expression"),
        ({"split.group_by": "^other/"}, "does not match"),
        ({"split.ratio": 0.5}, "split.ratio: unknown parameter"),
        ({"train.loss_sigma": 0}, "train.loss_sigma: expected one number above 0"),
        ({"seed": "x"}, "seed: expected a whole number"),
    ],
)
def test_bad_parameters(converted: Path, params: dict[str, Any], message: str) -> None:
    set_params(converted, **params)
    assert message in refuse(converted)
    assert not (converted / "data/dataset/manifest.csv").exists()


def test_too_few_images(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "few", n_images=2)
    run_stages(root, "convert")
    assert "too few images to split" in refuse(root)


def test_before_convert_it_says_what_to_run(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "none", n_images=0)
    assert "run the convert stage first" in refuse(root)


def test_a_manifest_that_contradicts_itself_is_refused_and_stays(converted: Path) -> None:
    split(converted)
    path = converted / "data/dataset/manifest.csv"
    lines = path.read_text().splitlines()
    other = "train" if ",train," not in lines[1] else "val"
    doubled = "\n".join(
        [
            *lines,
            lines[1].replace(",train,", f",{other},").replace(",val,", f",{other},").replace(",test,", f",{other},"),
        ]
    )
    path.write_text(doubled + "\n")
    assert "delete one of the two lines" in refuse(converted)
    assert path.read_text() == doubled + "\n"
