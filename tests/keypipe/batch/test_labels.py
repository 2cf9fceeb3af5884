from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.batch import command as predict_command
from keypipe.batch import labels
from keypipe.batch.labels import LabelTarget
from keypipe.batch.prediction import Summary, predict
from keypipe.errors import ConfigError
from keypipe.inference.predictor import Thresholds
from tests.keypipe.batch.test_prediction import COW, SCHEMA, tree, write_video
from tests.onnx_files import metadata_of, raw_output, write_constant_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_constant_model(tmp_path / "model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for index, name in enumerate(("a/x.jpg", "b/x.jpg", "b/奶牛.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 64), (40 * index, 80, 120)).save(path)
    return tmp_path / "photos"


def to_labelme(source: Path, model: Path, folder: Path, conf: float = 0.25) -> Summary:
    output = folder.parent / f"out-{len(list(folder.parent.iterdir()))}"
    return predict(str(source), model, output, thresholds=Thresholds(conf=conf), labels=LabelTarget(folder))


def test_a_folder_of_its_own_holds_images_and_labels_that_convert_reads(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    before = tree(photos)
    summary = to_labelme(photos, model, tmp_path / "new")
    assert "3 labelme files in" in str(summary)
    assert tree(photos) == before
    assert sorted(tree(tmp_path / "new")) == [
        "a/x.jpg",
        "a/x.json",
        "b/x.jpg",
        "b/x.json",
        "b/奶牛.json",
        "b/奶牛.png",
    ]
    folder = read_folder(tmp_path / "new", SCHEMA, LabelmeOptions(machine="take"))
    assert not folder.faults
    assert [file.image and file.image.instances[0].box_xyxy for file in folder.files] == [(44.0, 22.0, 84.0, 42.0)] * 3
    assert [file.machine for file in read_folder(tmp_path / "new", SCHEMA, LabelmeOptions()).files] == [4, 4, 4]


def test_labelme_itself_loads_it(photos: Path, model: Path, tmp_path: Path, labelme_files: labels.Path) -> None:
    to_labelme(photos, model, tmp_path / "new")
    loaded = labelme_files.load(tmp_path / "new/b/奶牛.json")  # type: ignore[attr-defined]
    assert [shape["label"] for shape in loaded.shapes] == ["奶牛", "nose", "left_ear", "right_ear"]
    assert loaded.image_path == "奶牛.png"


def test_beside_the_images_nothing_is_copied(photos: Path, model: Path) -> None:
    before = tree(photos)
    to_labelme(photos, model, photos)
    assert sorted(set(tree(photos)) - set(before)) == ["a/x.json", "b/x.json", "b/奶牛.json"]


def test_a_newer_model_replaces_the_older_ones_word_and_never_a_persons(
    photos: Path, model: Path, tmp_path: Path
) -> None:
    to_labelme(photos, model, photos)
    drawn = {"shapes": [], "imagePath": "x.jpg", "imageData": None}  # a person has deleted all: nothing is there
    (photos / "a/x.json").write_text(json.dumps(drawn))
    moved = json.loads((photos / "b/x.json").read_text())
    moved["shapes"][2]["points"] = [[1, 1]]
    (photos / "b/x.json").write_text(json.dumps(moved))
    persons = {name: (photos / name).read_bytes() for name in ("a/x.json", "b/x.json")}
    newer = raw_output(SCHEMA, [("奶牛", 0.8, [20.0, 20.0, 8.0, 8.0], {"nose": (20, 20, 0.9)})])
    write_constant_model(model, newer, metadata_of(SCHEMA))
    summary = to_labelme(photos, model, photos)
    assert summary.labels is not None
    assert (summary.labels.written, sorted(summary.labels.kept)) == (1, ["a/x.json", "b/x.json"])
    assert {name: (photos / name).read_bytes() for name in persons} == persons
    assert json.loads((photos / "b/奶牛.json").read_text())["shapes"][0]["score"] == 0.8


@pytest.mark.parametrize("content", [b"not json", b"{}", b'{"shapes": [{"label": "x", "points": [[1, 2]]}]}'])
def test_what_cannot_be_read_and_what_carries_no_flag_is_kept(
    content: bytes, photos: Path, model: Path, tmp_path: Path
) -> None:
    (photos / "a/x.json").write_bytes(content)
    summary = to_labelme(photos, model, photos)
    assert summary.labels is not None
    assert summary.labels.kept == ["a/x.json"]
    assert (photos / "a/x.json").read_bytes() == content


def test_who_saves_at_the_same_moment_wins(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_bytes(b"a person's")
    assert not labels.write_over(target, b"a model's", None)
    assert not labels.write_over(target, b"a model's", b"what was there before")
    assert target.read_bytes() == b"a person's"
    assert labels.write_over(target, b"a model's", b"a person's")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_where_nothing_is_found_no_file_says_so(photos: Path, model: Path, tmp_path: Path) -> None:
    summary = to_labelme(photos, model, tmp_path / "new", conf=0.95)
    assert not (tmp_path / "new").exists()
    assert "nothing found on 3 images" in str(summary)


def test_two_images_of_one_name_are_told(photos: Path, model: Path) -> None:
    Image.new("RGB", (128, 64)).save(photos / "a/x.png")
    summary = to_labelme(photos / "a", model, photos / "a")
    assert [(Path(fault.file).name, fault.kind) for fault in summary.faults] == [("x.png", "unreadable")]
    assert "x.jpg" in summary.faults[0].found


def test_another_image_of_that_name_stays(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "new/a").mkdir(parents=True)
    (tmp_path / "new/a/x.jpg").write_bytes(b"another one")
    summary = to_labelme(photos, model, tmp_path / "new")
    assert "another image has this name there" in summary.faults[0].found
    assert (tmp_path / "new/a/x.jpg").read_bytes() == b"another one"
    assert not (tmp_path / "new/a/x.json").exists()


def test_videos_and_a_file_in_place_of_the_folder(model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "film.avi")
    assert "keypipe label VIDEO" in str(to_labelme(video, model, tmp_path / "new"))
    with pytest.raises(ConfigError, match="this is a file"):
        to_labelme(video, model, video)


def test_the_command_of_the_package_alone(photos: Path, model: Path, tmp_path: Path) -> None:
    arguments = [str(photos / "a"), "--model", str(model), "--output", str(tmp_path / "out")]
    assert predict_command.main([*arguments, "--to-labelme", str(tmp_path / "new")]) == 0
    assert json.loads((tmp_path / "new/x.json").read_text())["flags"] == {"confirmed": False}
