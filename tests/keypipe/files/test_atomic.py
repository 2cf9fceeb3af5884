from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.files.atomic import replacing_file, write_text


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


def test_a_text_keeps_its_line_ends_and_the_permissions_of_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "new/params.yaml"
    write_text(path, "a: 牛\r\n")
    assert path.read_bytes() == "a: 牛\r\n".encode()
    path.chmod(0o640)
    write_text(path, "b\n")
    assert path.read_bytes() == b"b\n"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_text_goes_where_a_link_points(tmp_path: Path) -> None:
    shared = tmp_path / "shared.yaml"
    shared.write_text("old")
    (tmp_path / "params.yaml").symlink_to(shared)
    write_text(tmp_path / "params.yaml", "new")
    assert (tmp_path / "params.yaml").is_symlink()
    assert shared.read_text() == "new"
