from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.files.atomic import replacing_file


def test_a_file_is_replaced_when_its_successor_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/a.mp4"
    for text in ("first", "second"):
        with replacing_file(path) as temporary:
            assert (temporary.parent, temporary.suffix) == (path.parent, ".mp4")
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["a.mp4"]


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def write_half() -> None:
        with replacing_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.json": "old"}
