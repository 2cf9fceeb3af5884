from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from keypipe.batch.sources import Source, describe_files, find_sources, plan_outputs, source_name
from keypipe.errors import ConfigError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "a/x.jpg",
        "a/x.JPEG",
        "a/x.json",
        "b/x.jpg",
        "b/奶牛 [1].png",
        "b/.hidden.jpg",
        ".git/y.jpg",
        "clip.MP4",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("photos", ["a/x.JPEG", "a/x.jpg", "b/x.jpg", "b/奶牛 [1].png", "clip.MP4"]),
        ("photos/", ["a/x.JPEG", "a/x.jpg", "b/x.jpg", "b/奶牛 [1].png", "clip.MP4"]),
        ("photos/**/x.jpg", ["a/x.jpg", "b/x.jpg"]),
        ("photos/a/*", ["x.JPEG", "x.jpg"]),
        ("photos/*/x.jp*g", ["a/x.jpg", "b/x.jpg"]),
        ("photos/b/奶牛 [1].png", ["奶牛 [1].png"]),
        ("photos/a/x.json", ["x.json"]),  # named outright: reading it will tell
    ],
)
def test_what_is_found(photos: Path, source: str, found: list[str]) -> None:
    assert [item.relative.as_posix() for item in find_sources(source).files] == found


def test_folders_can_be_left_out(photos: Path) -> None:
    assert [str(item.relative) for item in find_sources("photos", exclude=[photos / "b", photos / "none"]).files] == [
        "a/x.JPEG",
        "a/x.jpg",
        "clip.MP4",
    ]


def test_links_to_folders_are_searched_and_pipes_are_not_waited_for(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/z.jpg").write_bytes(b"")
    (photos / "linked").symlink_to(tmp_path / "far")
    (photos / "linked/dead.jpg").symlink_to("nowhere")
    (photos / "round").symlink_to(photos)
    os.mkfifo(photos / "pipe.jpg")
    found = {item.relative.as_posix() for item in find_sources("photos").files}
    assert {"linked/z.jpg", "linked/dead.jpg"} <= found
    assert not any(name.startswith(("round", "pipe")) for name in found)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.jpg", "none.jpg: no such file or folder"),
        ("photos/**/*.bmp", "nothing that is an image or a video"),
        ("photos/a/*.json", "1 file (1 .json), none of them an image or a video"),
        ("photos/.git", ""),
    ],
)
def test_nothing_to_predict_on(photos: Path, source: str, message: str) -> None:
    if source == "photos/.git":  # a hidden folder that is named outright is meant
        assert len(find_sources(source).files) == 1
        return
    with pytest.raises(ConfigError) as caught:
        find_sources(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("photos", "photos"),
        ("photos/a/x.jpg", "x"),
        ("photos/**/*.jpg", "photos"),
        ("photos/a/*.jpg", "a"),
        ("*.jpg", "images"),
        ("photos/../photos/.", "photos"),
    ],
)
def test_names_of_sources(photos: Path, source: str, name: str) -> None:
    assert source_name(source) == name


def test_results_never_share_a_name() -> None:
    names = ["a/x.jpg", "a/x.png", "b/x.jpg", "a/X.JPG", "x.jpg.png", "x.jpg", "v.mp4", "v.jpg", "predictions.png"]
    outputs = plan_outputs([Source(Path(name), Path(name)) for name in names], taken=["predictions.json"])
    files = [path.as_posix() for output in outputs for path in (output.drawn, output.json)]
    assert len({name.casefold() for name in [*files, "predictions.json"]}) == 2 * len(names) + 1
    assert files[:4] == ["a/x.jpg", "a/x.json", "a/x.png.jpg", "a/x.png.json"]
    assert outputs[6].drawn == Path("v.mp4")
    assert outputs[7].json == Path("v.jpg.json")


def test_a_list_of_files(photos: Path, tmp_path: Path) -> None:
    lines = [
        "# those of Monday",
        "",
        "photos/b/x.jpg",
        str(photos.absolute() / "a/x.jpg"),
        "gone.jpg",
        "photos/b/x.jpg",
    ]
    (tmp_path / "monday.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    found = find_sources(str(tmp_path / "monday.txt")).files
    assert [item.path.name for item in found] == ["x.jpg", "x.jpg", "gone.jpg"]
    assert [item.relative.as_posix() for item in found][:2] == ["photos/b/x.jpg", "photos/a/x.jpg"]
    assert source_name(str(tmp_path / "monday.txt")) == "monday"
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="no file in this list"):
        find_sources(str(tmp_path / "empty.txt"))
    (tmp_path / "latin.txt").write_bytes("Kühe.jpg".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.txt: not UTF-8.*; save it as UTF-8, or UTF-16$"):
        find_sources(str(tmp_path / "latin.txt"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_a_list_in_the_encodings_of_windows(photos: Path, tmp_path: Path, encoding: str) -> None:
    """PowerShell's ``>`` writes UTF-16."""
    shutil.copy(photos / "b/x.jpg", photos / "b/牛 1.jpg")
    (tmp_path / "list.txt").write_bytes("photos/b/x.jpg\r\nphotos/b/牛 1.jpg\r\n".encode(encoding))
    assert [item.path for item in find_sources(str(tmp_path / "list.txt")).files] == [
        photos / "b/x.jpg",
        photos / "b/牛 1.jpg",
    ]


@pytest.mark.parametrize("content", ["photos/牛头.jpg\n".encode("gbk"), b"a.jpg\n\x00\x01\xff\n"])
def test_a_list_in_another_encoding_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=r"list\.txt: .*UTF-8.*; save it as UTF-8"):
        find_sources(str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("0", "camera0"),
        ("12", "camera12"),
        ("rtsp://user:secret@10.0.0.5:554/barn/main?x=1", "10.0.0.5_554_barn_main_x_1"),
        ("http://localhost:81/clip.avi", "localhost_81_clip.avi"),
    ],
)
def test_cameras_and_streams(source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = find_sources(source).files
    assert (found.stream, found.is_video, str(found), source_name(source)) == (source, True, source, name)
    (output,) = plan_outputs([found])
    assert (output.drawn.name, output.json.name) == (f"{name}.mp4", f"{name}.json")


def test_a_folder_with_a_number_for_a_name_is_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024/x.jpg").write_bytes(b"")
    assert [str(item) for item in find_sources("2024").files] == ["2024/x.jpg"]
    assert source_name("2024") == "2024"


def test_what_is_skipped_is_counted_and_named(photos: Path) -> None:
    for name in ("a/1.HEIC", "b/2.gif", "b/x.json", "b/y.json", "notes", ".hidden.heic"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(b"")
    skipped = find_sources("photos").skipped
    names = {path.relative_to("photos").as_posix() for path in skipped}
    assert {"a/1.HEIC", "b/2.gif", "b/x.json", "b/y.json", "notes"} <= names
    assert ".hidden.heic" not in names
    text = describe_files([path for path in skipped if path.suffix != ".txt"])
    assert "1.HEIC (HEIC), 2.gif (GIF)" in text
    assert "3 .json, 1 without a suffix" in text
