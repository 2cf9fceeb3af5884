from __future__ import annotations

import pytest

from keypipe.keypoints.names import find_look_alikes, normal_form, spelling_key


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nose ", "nose"),
        ("\tleft  ear\n", "left ear"),
        ("ｎｏｓｅ", "nose"),
        ("nez\u00a0", "nez"),
        ("\ufeffnose\u200b", "nose"),
        ("\ufeff nose \u200e ", "nose"),
        ("ore\u0301", "oré"),
        ("鼻子", "鼻子"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # seen in the middle of Persian words
        ("Nose", "Nose"),
        (" \u200b ", ""),
    ],
)
def test_normal_form(text: str, name: str) -> None:
    assert normal_form(text) == name == normal_form(name)


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ("Left Ear", "left_ear", True),
        ("left-ear", "leftear", True),
        ("ＮＯＳＥ", "nose", True),
        ("STRASSE", "straße", True),
        ("1", "-1", False),
        ("1-2", "12", False),
        ("1-2", "1_2", True),
        ("nose", "noses", False),
        ("a", "_a", False),
    ],
)
def test_spelling_key(first: str, second: str, alike: bool) -> None:
    assert (spelling_key(first) == spelling_key(second)) is alike


def test_find_look_alikes() -> None:
    assert find_look_alikes(["nose", "tail", "Nose", "NOSE", "nose"]) == [("nose", "Nose", "NOSE")]
