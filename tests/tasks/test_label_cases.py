"""Folders as people have them, from `use` to what convert and the doctor make of them: all of them agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import convert
from tasks.commands.adopt import adopt_folder
from tests.conftest import point, rectangle

Write = Callable[..., Path]
Shapes = list[dict[str, Any]]

BOX = (20.0, 10.0, 90.0, 90.0)
PLACES = {"nose": (30.0, 50.0), "left_ear": (45.0, 25.0), "right_ear": (45.0, 75.0), "tail": (85.0, 50.0)}


def cow(group: int | None = None) -> Shapes:
    """Return a cow as labelme saves it."""
    return [rectangle("cow", BOX, group), *(point(name, x, y, group) for name, (x, y) in PLACES.items())]


def use_and_convert(root: Path, folder: Path) -> dict[str, Any]:
    """Take a folder as a user does; return convert's report."""
    adopt_folder(root, folder)
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
