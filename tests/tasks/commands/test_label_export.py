from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from keypipe.dataset.coco import parse_coco
from keypipe.errors import ConfigError, FaultsError
from tasks.commands.label_export import Target, export_labels
from tests.conftest import point, rectangle
from tests.workspace import set_params

Snapshot = Callable[[Path], dict[str, tuple[bytes, int]]]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_coco_is_one_file_and_images(drawn: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    before = snapshot(drawn / "data")
    told = export_labels(drawn, "coco", tmp_path / "out")
    assert snapshot(drawn / "data") == before
    file = parse_coco((tmp_path / "out/keypoints.json").read_bytes())
    assert len(file.images) == 12
    assert all((tmp_path / "out/images" / image.file_name).exists() for image in file.images)
    assert "12 images" in told
    assert "not in it:" in told
    export_labels(drawn, "coco", tmp_path / "alone.json")
    assert (tmp_path / "alone.json").read_bytes() == (tmp_path / "out/keypoints.json").read_bytes()
    assert sorted(path.name for path in tmp_path.glob("*") if path.name != "workspace") == ["alone.json", "out"]


def test_yolo_is_a_folder_to_train_on(drawn: Path, tmp_path: Path) -> None:
    export_labels(drawn, "yolo", tmp_path / "out", "link")
    data = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert (data["train"], data["val"], data["kpt_shape"]) == ("images/train", "images/train", [13, 3])
    assert (tmp_path / "out/classes.txt").read_text() == "cow\n"
    images = [path for path in (tmp_path / "out/images").rglob("*") if path.is_file()]
    assert len(images) == len(list((tmp_path / "out/labels").rglob("*.txt"))) == 12
    assert all(path.is_symlink() and path.resolve().is_relative_to(drawn) for path in images)


def test_labelme_is_normalised(drawn: Path, tmp_path: Path, write_labelme: Callable[..., Path]) -> None:
    set_params(drawn, **{"schema.aliases": {"heifer": "cow", "snout": "nose"}})
    shapes = [point("snout", 20, 20), rectangle("heifer", (90, 90, 5, 5)), point("grass", 1, 1)]
    write_labelme("own/1.jpg", shapes, folder=drawn / "data/raw")
    told = export_labels(drawn, "labelme", tmp_path / "out", "none")
    assert "shapes outside the schema (1)" in told
    assert "labels as they were written, instead of the names that they stand for (2)" in told
    document = json.loads((tmp_path / "out/own/1.json").read_text())
    assert [(shape["label"], shape["group_id"], shape["points"]) for shape in document["shapes"]] == [
        ("cow", 1, [[5.0, 5.0], [90.0, 90.0]]),
        ("nose", 1, [[20.0, 20.0]]),
    ]
    assert not (tmp_path / "out/own/1.jpg").exists()


def test_an_image_that_is_only_embedded_comes_out_as_a_file(
    drawn: Path, tmp_path: Path, write_labelme: Callable[..., Path]
) -> None:
    import base64

    path = write_labelme("own/1.jpg", [rectangle("cow", (5, 5, 90, 90))], folder=drawn / "data/raw")
    content = path.with_suffix(".jpg").read_bytes()
    document = json.loads(path.read_text()) | {"imageData": base64.b64encode(content).decode()}
    path.write_text(json.dumps(document))
    path.with_suffix(".jpg").unlink()
    export_labels(drawn, "labelme", tmp_path / "out", "link")
    assert (tmp_path / "out/own/1.jpg").read_bytes() == content
    assert len(names(tmp_path / "out")) == 26


def test_faults_stop_it_or_are_left_out_as_convert_does(drawn: Path, tmp_path: Path) -> None:
    source = sorted((drawn / "data/raw").rglob("*.json"))[0]
    source.write_text("{")
    with pytest.raises(FaultsError, match="quarantine"):
        export_labels(drawn, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    set_params(drawn, **{"convert.on_error": "quarantine"})
    told = export_labels(drawn, "coco", tmp_path / "out")
    assert "11 images" in told
    assert "left out for their faults: 1 files" in told


def test_nothing_is_overwritten(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_labels(drawn, "coco", tmp_path / "out", "none")  # an empty folder is fine
    for target in (tmp_path / "out", tmp_path / "out/keypoints.json"):
        with pytest.raises(ConfigError, match="is there already"):
            export_labels(drawn, "coco", target)


@pytest.mark.parametrize(
    ("kind", "phases"),
    [
        ("coco", ["reading annotations", "copying images"]),
        ("yolo", ["reading annotations", "writing labels", "copying images"]),
        ("labelme", ["reading annotations", "writing labels", "copying images"]),
    ],
)
def test_how_far_it_is_is_told(
    drawn: Path, tmp_path: Path, kind: Target, phases: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[str, int, int]] = []
    export_labels(drawn, kind, tmp_path / "out", progress=lambda *now: told.append(now))
    assert list(dict.fromkeys(what for what, _, _ in told)) == phases
    assert told[-1] == ("copying images", 12, 12)
    assert capsys.readouterr().out == ""  # convert's own lines are for convert
