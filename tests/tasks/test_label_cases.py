"""Folders as people have them, from `use` to what convert and the doctor make of them: all of them agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keypipe.errors import AnnotationError, DatasetError, FaultsError
from tasks import convert
from tasks.commands.doctor import examine
from tests.conftest import point, rectangle
from tests.workspace import set_params, use

Write = Callable[..., Path]
Shapes = list[dict[str, Any]]

BOX = (20.0, 10.0, 90.0, 90.0)
PLACES = {"nose": (30.0, 50.0), "left_ear": (45.0, 25.0), "right_ear": (45.0, 75.0), "tail": (85.0, 50.0)}


def cow(group: int | None = None) -> Shapes:
    """Return a cow as labelme saves it."""
    return [rectangle("cow", BOX, group), *(point(name, x, y, group) for name, (x, y) in PLACES.items())]


def use_and_convert(root: Path, folder: Path) -> dict[str, Any]:
    """Take a folder as a user does; return convert's report."""
    use(root, folder)
    convert.main(root)
    report: dict[str, Any] = json.loads((root / "reports/convert/report.json").read_text(encoding="utf-8"))
    return report


def count_labelled(report: dict[str, Any], class_name: str = "cow") -> dict[str, int]:
    """Return how often each keypoint is labelled."""
    return {name: states["visible"] + states["occluded"] for name, states in report["keypoints"][class_name].items()}


def test_names_with_blanks_are_drafted_as_convert_reads_them(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    for number in range(12):
        shapes = cow()
        shapes[0]["label"], shapes[1]["label"] = "cow ", "nose "
        write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "own")
    report = use_and_convert(drawn, tmp_path / "own")
    assert report["objects_by_class"] == {"cow": 12}
    assert count_labelled(report) == dict.fromkeys(PLACES, 12)
    assert report["read_by_alias"] == {"'cow ' -> cow": 12, "'nose ' -> nose": 12}


def test_slips_of_spelling_are_one_keypoint(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    spellings = ["nose ", "nose ", "nose ", "nose ", "Nose", "Nose", "ｎｏｓｅ", *["nose"] * 5]
    for number, spelling in enumerate(spellings):
        shapes = cow()
        shapes[1]["label"] = spelling
        write_labelme(f"{number}.jpg", shapes, folder=tmp_path / "own")
    report = use_and_convert(drawn, tmp_path / "own")
    assert count_labelled(report) == dict.fromkeys(PLACES, 12)
    assert report["finding_counts"]["warning"] == {"other-spelling": 3}


def write_cows(write: Write, folder: Path, change: Callable[[int, Shapes], object], group: int | None = None) -> Path:
    """Write twelve files with a cow each, changed by its number."""
    for number in range(12):
        shapes = cow(group)
        change(number, shapes)
        write(f"{number}.jpg", shapes, folder=folder)
    return folder


def faults_of(root: Path, folder: Path) -> list[tuple[str, int | None, str]]:
    """Take a folder as a user does; return convert's faults."""
    with pytest.raises(FaultsError) as caught:
        use_and_convert(root, folder)
    return [(fault.file, fault.shape, fault.kind) for fault in caught.value.faults]


def test_difficult_keypoints_are_occluded(
    drawn: Path, tmp_path: Path, write_labelme: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    def hide(number: int, shapes: Shapes) -> None:
        for index, shape in enumerate(shapes):
            shape["difficult"] = number % 2 == 0 and index in {0, 4}

    folder = write_cows(write_labelme, tmp_path / "own", hide)
    report = use_and_convert(drawn, folder)
    assert report["keypoints"]["cow"]["tail"] == {"visible": 6, "occluded": 6, "not_labelled": 0}
    assert report["occluded_by_difficult"] == 6
    assert "convert: 6 keypoints with X-AnyLabeling's mark difficult taken for occluded" in capsys.readouterr().out
    set_params(drawn, **{"convert.difficult": "ignore"})
    report = use_and_convert(drawn, folder)
    assert report["keypoints"]["cow"]["tail"]["occluded"] == report["occluded_by_difficult"] == 0
    assert "difficult" not in capsys.readouterr().out


def outline(shapes: Shapes) -> None:
    """Draw the cow's outline instead of its rectangle."""
    left, top, right, bottom = BOX
    shapes[0] |= {"shape_type": "polygon", "points": [[left, 50], [50, top], [right, 50], [50, bottom]]}


def test_outlines_are_no_boxes_unless_parameters_say_so(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    folder = write_cows(write_labelme, tmp_path / "own", lambda _, shapes: outline(shapes))
    assert "convert: box_from outline" in use(drawn, folder)
    assert "box_from: outline  # 48 points in a polygon or mask and in no rectangle" in read_text(drawn)
    report = use_and_convert(drawn, folder)
    assert (report["objects"], count_labelled(report)) == (12, dict.fromkeys(PLACES, 12))
    coco = json.loads((drawn / "data/coco/keypoints.json").read_text())
    assert coco["annotations"][0]["bbox"] == [20, 10, 70, 80]
    set_params(drawn, **{"convert.box_from": "rectangle"})
    with pytest.raises(FaultsError, match=r"0\.json"):
        convert.main(drawn)


def test_a_folder_is_not_trained_on_by_half(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    folder = write_cows(write_labelme, tmp_path / "own", lambda number, shapes: number < 6 and outline(shapes))
    assert use_and_convert(drawn, folder)["objects"] == 12
    set_params(drawn, **{"convert.box_from": "rectangle"})
    with pytest.raises(FaultsError) as caught:
        convert.main(drawn)
    assert {fault.kind for fault in caught.value.faults} == {"outline-without-box"}
    set_params(drawn, **{"convert.on_error": "quarantine"})
    with pytest.raises(DatasetError, match="in 6 of 12 files of data/raw"):
        convert.main(drawn)


def read_text(root: Path) -> str:
    return (root / "params.yaml").read_text()


def test_circles_are_no_keypoints_unless_asked_for(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    def draw_circle(number: int, shapes: Shapes) -> None:
        if number < 2:
            x, y = PLACES["nose"]
            shapes[1] |= {"shape_type": "circle", "points": [[x, y], [x + 3, y + 4]]}
        if number == 2:
            shapes.append(point("nose", 0, 0) | {"shape_type": "circle", "points": [[30, 50], [33, 54]]})

    folder = write_cows(write_labelme, tmp_path / "own", draw_circle)
    assert faults_of(drawn, folder) == [("0.json", 1, "circle-for-keypoint"), ("1.json", 1, "circle-for-keypoint")]
    set_params(drawn, **{"convert.keypoint_from": "circle"})
    assert faults_of(drawn, folder) == [("2.json", 5, "repeated-keypoint")]


@pytest.mark.parametrize("group", ["1", 1.0, " 1 ", None])
def test_a_group_written_otherwise_is_the_same(
    drawn: Path, tmp_path: Path, write_labelme: Write, group: float | str | None
) -> None:
    folder = write_cows(write_labelme, tmp_path / "own", lambda _, shapes: shapes[0].update(group_id=group), 1)
    report = use_and_convert(drawn, folder)
    assert count_labelled(report) == dict.fromkeys(PLACES, 12)


def test_a_point_whose_group_has_no_box_joins_no_other_animal(
    drawn: Path, tmp_path: Path, write_labelme: Write
) -> None:
    def lose_a_box(number: int, shapes: Shapes) -> None:
        if number == 3:
            del shapes[4]  # its own tail is cut off
            shapes.append(point("tail", *PLACES["tail"], 2))

    folder = write_cows(write_labelme, tmp_path / "own", lose_a_box, 1)
    with pytest.raises(FaultsError, match=r"'tail' is of group 2, which has no box; the box around it is of group 1"):
        use_and_convert(drawn, folder)


def test_points_of_one_name_are_one_message(drawn: Path, tmp_path: Path, write_labelme: Write) -> None:
    def rename(_number: int, shapes: Shapes) -> None:
        for shape in shapes[1:]:
            shape["label"] = "point"

    folder = write_cows(write_labelme, tmp_path / "own", rename)
    with pytest.raises(AnnotationError, match=r"all points of a 'cow' are called 'point': a keypoint needs a name of"):
        use(drawn, folder)
    shutil.rmtree(drawn / "data/raw")
    shutil.copytree(folder, drawn / "data/raw")
    set_params(drawn, **{"schema.classes": {"cow": {"keypoints": ["point"]}}})
    with pytest.raises(DatasetError, match=r"36 points stand in an object beside another one called 'point'"):
        convert.main(drawn)
    examined = examine(drawn)
    (one,) = [found for found in examined.findings if found.severity == "error"]
    assert (one.kind, one.file, examined.stops) == ("one-name", "", 1)
    assert one.message.startswith("36 points stand in an object beside another one called 'point'")
    assert "needs a name of its own" in one.fix
