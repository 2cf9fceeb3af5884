from __future__ import annotations

import os
from pathlib import Path

import pytest

from keypipe.files.listing import list_files, look_through


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that may lie in one."""
    folder = tmp_path / "folder"
    for name in ("b.json", "sub/a.json", "sub/.hidden", ".git/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/c.json").write_text("x")
    (tmp_path / "outside/dead.txt").symlink_to("nowhere")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "file.json").symlink_to(tmp_path / "outside/c.json")
    (folder / "dead.json").symlink_to(tmp_path / "gone.json")
    (folder / "sub/up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    return folder


def test_files_are_listed_and_everything_else_is_called_what_it_is(folder: Path) -> None:
    files, others = look_through(folder)
    assert files == list_files(folder) == ["b.json", "file.json", "sub/a.json"]
    outside = folder.parent / "outside"
    assert others == {
        "dead.json": f"a link to nothing ({folder.parent / 'gone.json'})",
        "linked": f"a link to a folder ({outside}), into which nothing looks",
        "sub/up": "a link to a folder (..), into which nothing looks",
        "pipe": "neither a file nor a folder",
    }


def test_links_to_folders_can_be_followed_but_not_in_circles(folder: Path) -> None:
    (folder.parent / "outside/back").symlink_to(folder)
    (folder / "sub/again").symlink_to("../sub")
    (folder / "one").symlink_to("other")
    (folder / "other").symlink_to("one")
    files, others = look_through(folder, follow=True)
    assert files == ["b.json", "file.json", "linked/c.json", "sub/a.json"]
    assert {name: what.partition(" (")[0] for name, what in others.items()} == {
        "dead.json": "a link to nothing",
        "linked/back": "a link to a folder around it",
        "linked/dead.txt": "a link to nothing",
        "sub/again": "a link to a folder around it",
        "sub/up": "a link to a folder around it",
        "one": "a link to nothing",
        "other": "a link to nothing",
        "pipe": "neither a file nor a folder",
    }


@pytest.mark.parametrize("follow", [False, True])
def test_links_out_of_the_folder_are_no_files_where_nothing_may_leave_it(folder: Path, follow: bool) -> None:
    (folder / "inside.json").symlink_to("sub/a.json")
    (folder / "near").symlink_to("sub")
    (folder.parent / "folder-beside").mkdir()
    (folder / "beside").symlink_to("../folder-beside")
    files, others = look_through(folder, follow=follow, leave=False)
    assert files == ["b.json", "inside.json", *(["near/a.json"] if follow else []), "sub/a.json"]
    outside = folder.parent / "outside"
    assert others["file.json"] == f"a link to a file outside ({outside / 'c.json'})"
    assert others["linked"].startswith("a link to a folder outside (" if follow else "a link to a folder (")
    assert others["beside"].startswith("a link to a folder outside (" if follow else "a link to a folder (")
    assert others["sub/up"].startswith("a link to a folder around it" if follow else "a link to a folder (")


def test_a_folder_that_is_a_link_itself_is_looked_through(folder: Path) -> None:
    (folder.parent / "other-name").symlink_to(folder)
    assert list_files(folder.parent / "other-name", leave=False) == ["b.json", "sub/a.json"]


def test_below_what_is_no_folder_lies_nothing(folder: Path) -> None:
    assert look_through(folder / "nowhere") == look_through(folder / "b.json") == ([], {})


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "b.json").chmod(0)
    (folder / "sub").chmod(0)
    try:
        files, others = look_through(folder)
    finally:
        (folder / "sub").chmod(0o755)
    assert files == ["file.json"]
    assert others["b.json"] == "a file without permission to read it"
    assert others["sub"] == "a folder without permission to look into it"
