"""Situations from public reports, drawn by their own programs where those lie beside the project, and what is right."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keypipe.annotations.folder import Folder
from keypipe.errors import PoseError
from tasks.commands.label_import import ImportOptions, import_labels
from tasks.convert import ConvertParams, read_raw
from tasks.workspace.params import load_schema, read_params
from tests.conftest import SHARED_DATA
from tests.workspace import use

CASES = Path(os.environ.get("KEYPIPE_SHARED_CASES", SHARED_DATA.parent / "cases"))

Draw = Callable[[str], Path]


@pytest.fixture(scope="session")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """Return a function that draws a case, by the number its name begins with; skips where the programs are not."""

    def make(number: str) -> Path:
        program = next(CASES.glob(f"{number}-*/make.py"), None)
        if program is None:
            pytest.skip(
                f"needs the programs that draw reported cases in {CASES}; KEYPIPE_SHARED_CASES names the folder"
            )
        folder = tmp_path_factory.mktemp(f"case{number}")
        subprocess.run([sys.executable, program, folder], check=True)
        return folder

    return make


@pytest.fixture
def fresh_workspaces(empty_once: Path, tmp_path: Path) -> Callable[[], Path]:
    """Return a function that makes one more workspace without data."""
    numbers = itertools.count()
    return lambda: Path(shutil.copytree(empty_once, tmp_path / f"fresh{next(numbers)}", symlinks=True))


def read(root: Path, **params: Any) -> Folder:
    return read_raw(ConvertParams(**params), load_schema(read_params(root)), root)


def count(folder: Folder) -> Counter[Any]:
    """Return how many objects have which class and keypoints, and how many keypoints which visibility."""
    objects = [item for file in folder.files if file.image for item in file.image.instances]
    found: Counter[Any] = Counter((item.class_name, *sorted(item.keypoints)) for item in objects)
    found.update(point.visibility for item in objects for point in item.keypoints.values())
    return found


COW = ("cow", "left_ear", "nose", "right_ear", "tail")


@pytest.mark.parametrize("number", ["01", "02"])
def test_blanks_case_and_width_make_no_other_name(draw: Draw, empty: Path, number: str) -> None:
    told = use(empty, draw(number) / "in")
    assert "cow: nose, left_ear, right_ear, tail" in told
    assert "'nose' is what these labels are taken for: 'nose ' (" in told
    folder = read(empty)
    assert not folder.faults
    assert count(folder) == {COW: 12, 2: 48}


def test_difficult_keypoints_are_occluded(draw: Draw, empty: Path) -> None:
    use(empty, draw("04") / "in")
    assert count(read(empty)) == {COW: 12, 1: 6, 2: 42}


def test_outlines_are_taken_where_parameters_say_so_which_use_writes(draw: Draw, empty: Path) -> None:
    case = draw("05")
    assert "convert: box_from outline" in use(empty, case / "in")
    use(empty, case / "mixed")
    folder = read(empty)
    assert len(folder.faults) == 6
    assert all("the polygon 'cow' outlines an object that has no rectangle" in str(fault) for fault in folder.faults)
    folder = read(empty, box_from="outline")
    assert not folder.faults
    assert count(folder) == {COW: 12, 2: 48}


def test_groups(draw: Draw, empty: Path) -> None:
    use(empty, draw("07") / "in")
    folder = read(empty)
    faults = [str(fault) for fault in folder.faults]
    assert [fault for fault in faults if "im001.json shape 5: 'nose' is of group 2, which has no box" in fault]
    assert [fault for fault in faults if "im004.json shape 5: group 1 holds 2 boxes" in fault]
    assert not [fault for fault in faults if "delete" in fault]
    assert {fault.split(".json")[0] for fault in faults} == {"im001", "im004", "im007", "im010"}
    assert count(folder) == {COW: 8, 2: 32}


def test_image_formats_are_told_from_files_that_are_not_there(draw: Draw, empty: Path) -> None:
    use(empty, draw("08") / "in")
    folder = read(empty)
    assert count(folder) == {COW: 10, 2: 40}
    assert [re.search(r"its format, (\w+), is not read", str(fault)) is not None for fault in folder.faults] == [
        True
    ] * 2


def test_a_point_never_joins_another_groups_box(draw: Draw, empty: Path) -> None:
    use(empty, draw("09") / "in")
    folder = read(empty)
    assert sorted(str(fault).split(":")[0] for fault in folder.faults) == [f"im00{i}.json shape 4" for i in range(3)]
    assert count(folder) == {COW: 9, 2: 36}


def test_deep_pixels(draw: Draw, empty: Path) -> None:
    assert "depth scale" in use(empty, draw("10") / "in")
    faults = [str(fault) for fault in read(empty).faults]
    assert len(faults) == 3
    assert all("32-bit floating point" in fault and "convert.depth: scale" in fault for fault in faults)
    folder = read(empty, depth="scale")
    assert not folder.faults
    assert count(folder)[COW] == 32


def test_images_beside_the_folder_of_their_json(draw: Draw, empty: Path) -> None:
    case = draw("13") / "in"
    with pytest.raises(PoseError) as refused:
        use(empty, case / "jsons")
    assert str(case / "images") in str(refused.value)
    use(empty, case)
    folder = read(empty)
    assert not folder.faults
    assert count(folder) == {COW: 12, 2: 48}


def take(root: Path, kind: Any, source: Path, **options: Any) -> str:
    return import_labels(root, kind, source, ImportOptions(name="taken", write_schema=True, **options))


def test_cvats_coco(draw: Draw, empty: Path, fresh_workspaces: Callable[[], Path]) -> None:
    case = draw("15")
    assert "10 images, 15 objects, 46 keypoints (5 occluded); classes cow, gate" in take(empty, "coco", case / "clean")
    folder = read(empty)
    assert not folder.faults
    assert count(folder)["gate", "post_l", "post_r"] == 5
    told = take(fresh_workspaces(), "coco", case / "zero")
    assert "boxes of no area drawn anew from the points, with a margin of 0.1" in told
    told = take(fresh_workspaces(), "coco", case / "neg")
    assert "'left_ear' at (-3, 38) lies outside the image of 160x120 px" in told


def test_roboflows_splits_and_versions(draw: Draw, empty: Path, fresh_workspaces: Callable[[], Path]) -> None:
    case = draw("17") / "cows.v3i.yolov8"
    assert "the source's splits, train 42, val 4, test 2: --keep-splits keeps them" in take(empty, "yolo", case)
    assert count(read(empty)) == {("cow", "1", "2", "3", "4"): 48, 2: 192}
    kept = fresh_workspaces()
    take(kept, "yolo", case, keep_splits=True)
    rows = (kept / "data/dataset/manifest.csv").read_text()
    assert Counter(re.findall(r",(train|val|test)\b", rows)) == {"train": 42, "val": 4, "test": 2}


TAKEN = {
    "a": {("cow", "nose", "tail", "withers"): 3, ("gate", "hinge", "latch", "top"): 3, 2: 18},
    "a2": {("cow", "nose", "tail", "withers"): 3, ("gate", "hinge", "latch"): 3, 2: 15},
    "e": {("0", "1", "2", "3"): 3, ("1", "1", "2", "3"): 3, 2: 18},
    "f": {("cow", "1", "2", "3"): 3, ("gate", "1", "2", "3"): 3, 2: 18},
    "j": {("cow", "1", "3"): 6, 2: 12},
}
REFUSED = {
    "b": r"6 rows with 12,.* \(fits kpt_shape \[4, 3\]\)",
    "c": r"6 rows with 6,.* \(fits kpt_shape \[3, 2\]\)",
    "d": r"kpt_shape \[3, 3\] and a score at the end",
    "g": "data.yaml: not UTF-8; its first label is '数据'",
    "g2": "classes.txt: not UTF-8; its first label is '牛'",
    "h": r"6 rows with 9,.* \(fits kpt_shape \[3, 3\]\)",
    "i": "labels of a detector",
    "k": r"a0\.txt: its rows are broken over 3 lines",
}


def test_yolo_folders(draw: Draw, fresh_workspaces: Callable[[], Path]) -> None:
    case = draw("18")
    assert {folder.name for folder in case.iterdir()} == TAKEN.keys() | REFUSED.keys()
    for name, counts in TAKEN.items():
        root = fresh_workspaces()
        take(root, "yolo", case / name)
        folder = read(root)
        assert not folder.faults, name
        assert count(folder) == counts, name
    for name, message in REFUSED.items():
        root = fresh_workspaces()
        with pytest.raises(PoseError, match=message):
            take(root, "yolo", case / name)
        assert not (root / "data/raw").exists() or not list((root / "data/raw").rglob("*.json")), name


def test_other_tools_files_are_called_by_their_tool(
    draw: Draw, empty: Path, fresh_workspaces: Callable[[], Path]
) -> None:
    case = draw("19") / "d"
    take(empty, "coco", case / "ls/result.json")
    assert count(read(empty)) == {("default", *COW[1:]): 6, 2: 24}
    for kind, place, message in (
        ("coco", "cvat/annotations.xml", "CVAT's own XML: export it from CVAT as `COCO Keypoints 1.0`"),
        ("coco", "ls/project.json", "Label Studio's own JSON: export it from Label Studio as `COCO`"),
        ("coco", "lm", "labelme's own files, .* `keypipe init FOLDER` takes them"),
    ):
        with pytest.raises(PoseError, match=message):
            take(fresh_workspaces(), kind, case / place)
