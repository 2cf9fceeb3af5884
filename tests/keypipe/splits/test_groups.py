from __future__ import annotations

import pytest

from keypipe.errors import DatasetError
from keypipe.splits.groups import find_group, find_version_group, look_up_groups, parse_groups


def test_find_group() -> None:
    assert find_group("raw/cam1/a.jpg", r"^([^/]+)/") == "cam1"
    assert find_group("raw/cam1/a.jpg", r"cam\d") == "cam1"
    assert find_group("derived/cam1/a.jpg", None) == ""
    assert find_group("raw/herd/cam1/a.jpg", "folder") == "herd/cam1"
    assert find_group("raw/a.jpg", "folder") == ""
    with pytest.raises(DatasetError, match="does not match other"):
        find_group("raw/other/a.jpg", r"cam\d")


def test_groups_from_a_table() -> None:
    table = parse_groups("\ufeffimage,animal,day\na.jpg,17,mon\nsub\\b.json,17,tue\nc.jpg,,tue\n", "animal")
    files = [(f"raw/{name}.jpg", f"{name}.json") for name in ("a", "sub/b", "c", "d")]
    assert look_up_groups(files[:3], table) == ["17", "17", ""]
    with pytest.raises(DatasetError, match=r"1 images have no line, such as d.jpg"):
        look_up_groups(files, table)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_spreadsheets_put_other_marks_between_values(mark: str) -> None:
    text = f"\ufeffimage{mark}group\r\na.jpg{mark}one, two\r\n" if mark != "," else 'image,group\na.jpg,"one, two"\n'
    assert parse_groups(text, "group") == {"a.jpg": "one, two"}


def test_groups_have_the_normal_form_of_labels() -> None:
    table = parse_groups("image,g\na,C\nb,C \nc,\uff23\nd, C\ufeff\ne, \nf,c\na,C \ng,day  1\n", "g")
    assert table == {"a": "C", "b": "C", "c": "C", "d": "C", "e": "", "f": "c", "g": "day 1"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,day\na,1\n", "no column animal; there are image, day"),
        ("", "no column image and animal"),
        ("image,animal\na,1\na,2\n", "line 3: a is in '2', and in '1' above"),
    ],
)
def test_a_table_that_says_nothing(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_groups(text, "animal")


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("raw/cows/train/IMG_1_jpg.rf.0123456789abcdef0123456789abcdef.jpg", "cows/IMG_1_jpg"),
        ("raw/cows/valid/IMG_1_jpg.rf.fedcba9876543210fedcba9876543210.png", "cows/IMG_1_jpg"),
        ("derived/cows/IMG_1_jpg.rf.Zk8QpXaB2c.jpg", "cows/IMG_1_jpg"),
        ("raw/IMG_1.rf.0123456789abcdef.jpg", "IMG_1"),
        ("raw/a.rf.b.rf.0123456789abcdef.jpg", "a.rf.b"),
        ("raw/cows/IMG_1.jpg", ""),
        ("raw/cows/.rf.0123456789abcdef.jpg", ""),
        ("raw/a.rf.x/IMG_1.jpg", ""),
    ],
)
def test_versions_of_one_picture_have_a_group(path: str, group: str) -> None:
    assert find_version_group(path) == group


@pytest.mark.parametrize("text", ["", "image\n1.jpg\n", 'image,g\n"' + "x" * 200_000, "image|g\n1.jpg|a\n"])
def test_what_is_no_table_of_groups_is_refused(text: str) -> None:
    with pytest.raises(DatasetError, match=r"^groups: "):
        parse_groups(text, "g")


def test_a_row_that_is_too_short_has_no_group() -> None:
    assert parse_groups("image,g\n1.jpg\n\n2.jpg,a,x\n", "g") == {"1.jpg": "", "2.jpg": "a"}
