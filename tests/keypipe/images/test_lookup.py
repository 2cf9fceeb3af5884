from __future__ import annotations

import unicodedata

import pytest

from keypipe.images.lookup import ImageFolder


def find(names: list[str], source: str, image_path: str | None, *, elsewhere: bool = True) -> tuple[str | None, str]:
    found = ImageFolder(names).find(source, image_path, elsewhere=elsewhere)
    return found.name, found.how


@pytest.mark.parametrize(
    ("names", "source", "image_path", "expected"),
    [
        (["a/x.jpg", "b/x.jpg"], "b/x.json", "x.jpg", ("b/x.jpg", "")),
        (["photos/x.jpg", "y.jpg"], "labels/y.json", "..\\photos\\x.jpg", ("photos/x.jpg", "")),
        (["x.jpg"], "x.json", "C:\\other\\place\\y.jpg", ("x.jpg", "")),
        (["x.JPG"], "x.json", None, ("x.JPG", "")),
        (["x.jfif"], "x.json", "x.jfif", ("x.jfif", "")),
        (["x.photo"], "x.json", "x.photo", ("x.photo", "")),  # its bytes will tell
    ],
)
def test_the_file_that_is_named_else_the_one_beside_it(
    names: list[str], source: str, image_path: str | None, expected: tuple[str | None, str]
) -> None:
    assert find(names, source, image_path) == expected


@pytest.mark.parametrize(
    ("names", "source", "image_path", "expected"),
    [
        (["images/x.jpg"], "labels/x.json", "../images/X.JPG", ("images/x.jpg", "letter case")),
        (["X.Jpeg"], "x.json", "gone.png", ("X.Jpeg", "letter case")),
        (
            [unicodedata.normalize("NFD", "bilder/Kühe.jpg")],
            "labels/1.json",
            unicodedata.normalize("NFC", "../bilder/Kühe.jpg"),
            (unicodedata.normalize("NFD", "bilder/Kühe.jpg"), "letter case"),
        ),
        (["images/x.jpg"], "jsons/x.json", "D:\\data\\cows\\images\\x.jpg", ("images/x.jpg", "place")),
        (["images/a/x.png", "images/b/x.png"], "labels/b/x.json", "x.png", ("images/b/x.png", "place")),
        (["a/x.png", "b/x.png"], "b/labels/x.json", None, ("b/x.png", "place")),
        (["images/b/x.png", "images/a/x.png"], "b/x.json", "stale.png", ("images/b/x.png", "place")),
        (["day1/cam2/1.jpg", "day2/cam2/1.jpg"], "all/1.json", "/mnt/p/day2/cam2/1.jpg", ("day2/cam2/1.jpg", "place")),
        (["p/q/x.jpg"], "labels/deep/er/x.json", "x.jpg", ("p/q/x.jpg", "name")),
        (["p/IMG_5.jpg"], "labels/ann_5.json", "D:\\gone\\IMG_5.jpg", ("p/IMG_5.jpg", "name")),
    ],
)
def test_an_image_elsewhere_that_nothing_else_could_be_is_taken_and_said(
    names: list[str], source: str, image_path: str | None, expected: tuple[str | None, str]
) -> None:
    assert find(names, source, image_path) == expected
    if expected[1] != "letter case":
        assert find(names, source, image_path, elsewhere=False) == (None, "")


@pytest.mark.parametrize(
    ("names", "source", "image_path", "candidates"),
    [
        (["x.jpg", "x.png"], "x.json", None, ("x.jpg", "x.png")),
        (["a/x.jpg", "b/x.jpg"], "labels/all/one/x.json", "x.jpg", ("a/x.jpg", "b/x.jpg")),
        (["images/y/x.png", "masks/y/x.png"], "labels/y/x.json", "x.png", ("images/y/x.png", "masks/y/x.png")),
        (  # two folders differ: no mirror
            ["images/farm1/day3/1.png", "images/farm2/day2/1.png"],
            "labels/farm1/day2/1.json",
            "1.png",
            ("images/farm1/day3/1.png", "images/farm2/day2/1.png"),
        ),
        (["p/IMG_5.jpg", "q/ann_5.jpg"], "labels/ann_5.json", "D:\\IMG_5.jpg", ("p/IMG_5.jpg", "q/ann_5.jpg")),
        (["images/X.jpg", "images/x.JPG"], "labels/l.json", "../images/x.jpg", ("images/X.jpg", "images/x.JPG")),
    ],
)
def test_several_that_could_be_meant_are_none(
    names: list[str], source: str, image_path: str | None, candidates: tuple[str, ...]
) -> None:
    found = ImageFolder(names).find(source, image_path)
    assert (found.name, found.candidates) == (None, candidates)


def test_a_file_of_a_format_that_is_not_read_is_found_where_there_is_no_other() -> None:
    assert find(["x.HEIC"], "x.json", "x.jpg") == ("x.HEIC", "")
    assert find(["x.HEIC"], "x.json", "x.heic")[0] == "x.HEIC"
    assert find(["photos/x.heic"], "labels/x.json", None) == ("photos/x.heic", "")
    assert find(["x.HEIC", "x.jpg"], "x.json", "x.HEIC") == ("x.jpg", "")
    assert find(["y.heic", "notes.txt"], "x.json", "x.jpg") == (None, "")


def test_why_there_is_none() -> None:
    folder = ImageFolder(["other.jpg"])
    assert folder.find("x.json", "x.jpg").refused == "imagePath 'x.jpg' is not there"
    assert folder.find("x.json", "../x.jpg").refused == "imagePath '../x.jpg' leaves the raw folder"
    assert "leaves the raw folder" in folder.find("x.json", "D:\\x.jpg").refused
    assert folder.find("x.json", None).refused == "the JSON names no image"
