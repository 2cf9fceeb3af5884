"""The command relabel, with trainings of one epoch, whose models see nothing, and with words put into their mouths."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from flows.cli import cli
from keypipe.dataset.coco import format_coco, parse_coco, to_images
from keypipe.errors import ConfigError
from keypipe.keypoints.predictions import PredictedKeypoint, Prediction
from tasks.labelling.held_out import FOUND, HELD_OUT
from tests.workspace import make_workspace, run_stages, set_params

PARAMS = {"train.epochs": 1, "train.imgsz": 64, "split.folds": 2, "split.near_duplicates": False}


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with two folds."""
    root = make_workspace(tmp_path_factory.mktemp("relabel") / "w", n_images=40, **PARAMS)
    run_stages(root, "convert", "split")
    return root


def relabel(root: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(cli, ["relabel", *arguments], obj=root, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def found_files(root: Path) -> dict[str, float]:
    return {path.parent.name: path.stat().st_mtime for path in sorted((root / HELD_OUT).rglob(FOUND))}


def say_what_is_labelled(root: Path) -> None:
    """Let the folds' models see every image as it is labelled."""
    for path in (root / HELD_OUT).rglob(FOUND):
        said: dict[str, list[Prediction]] = {}
        for split in ("val", "test"):
            for image in to_images(parse_coco((path.parent / f"data/dataset/annotations/{split}.json").read_bytes())):
                said[image.path] = [
                    Prediction(
                        one.class_name,
                        0.9,
                        one.box_xyxy,
                        [PredictedKeypoint(name, p.x + 0.3, p.y, 0.95) for name, p in one.keypoints.items()],
                    )
                    for one in image.instances
                ]
        path.write_bytes(msgspec.json.encode(said))


def move_a_nose(root: Path) -> str:
    """Label the first nose that there is elsewhere, in what the folds are compared with; return its image."""
    for path in sorted((root / HELD_OUT).rglob("val.json")):
        file = parse_coco(path.read_bytes())
        at = 3 * file.categories[0].keypoints.index("nose")
        names = {image.id: image.file_name for image in file.images}
        for annotation in file.annotations:
            if annotation.keypoints[at + 2]:
                annotation.keypoints[at] += 40 if annotation.keypoints[at] < 80 else -40
                path.write_bytes(format_coco(file))
                return names[annotation.image_id]
    raise AssertionError("no nose")


def test_without_folds_it_says_how_they_are_dealt(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "w", n_images=6)
    done = CliRunner().invoke(cli, ["relabel"], obj=root)
    assert isinstance(done.exception, ConfigError)
    assert "--set split.folds=5 --until split" in str(done.exception)


def test_each_fold_is_trained_once_and_every_image_looked_at(
    dealt: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    told = relabel(dealt).output
    n_images = json.loads((dealt / "reports/relabel/report.json").read_text())["images"]
    assert n_images == 40  # of val of both folds, and of test
    assert f"of {n_images} with labels that are likely wrong" in told
    first = found_files(dealt)
    assert len(first) == 2

    say_what_is_labelled(dealt)
    image = move_a_nose(dealt)
    said = found_files(dealt)
    told = relabel(dealt, "--next", "5").output
    assert found_files(dealt) == said  # nothing was trained again
    assert "1 object on 1 image of 40" in told
    assert "labelme data/raw --config" in told
    config = (dealt / ".keypipe/labelling/labelme.yaml").read_text()
    assert image.removeprefix("raw/").partition("/")[2].replace(".", "\\.") in config
    report = json.loads((dealt / "reports/relabel/report.json").read_text())
    (suspect,) = report["suspects"]
    assert (suspect["kind"], suspect["keypoints"], suspect["image"]) == ("moved", ["nose"], image)
    page = (dealt / "reports/relabel/report.html").read_text()
    assert "held-out model" not in page  # it stands in the picture
    assert "1. moved: nose" in page
    assert page.count("data:image/jpeg") == 1

    set_params(dealt, **{"train.epochs": 2})
    relabel(dealt, "--epochs", "1")  # what counts is what is trained
    assert found_files(dealt).keys() == said.keys()
