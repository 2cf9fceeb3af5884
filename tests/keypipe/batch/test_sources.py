from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.batch.sources import Source, find_sources, plan_outputs, source_name
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
    assert [item.relative.as_posix() for item in find_sources(source)] == found


def test_folders_can_be_left_out(photos: Path) -> None:
    assert [str(item.relative) for item in find_sources("photos", exclude=[photos / "b", photos / "none"])] == [
        "a/x.JPEG",
        "a/x.jpg",
        "clip.MP4",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.jpg", "none.jpg: no such file or folder"),
        ("photos/**/*.bmp", "nothing that is an image or a video"),
        ("photos/a/*.json", "1 files, none of them an image or a video"),
        ("photos/.git", ""),
    ],
)
def test_nothing_to_predict_on(photos: Path, source: str, message: str) -> None:
    if source == "photos/.git":  # a hidden folder that is named outright is meant
        assert len(find_sources(source)) == 1
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
