"""The page of pictures beside the gate's: where the models differ most, within a budget, for its time."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keypipe.dataset.coco import CocoFile
from keypipe.evaluation.matching import Detection
from tasks.retraining.judging import SEEN, _Memory
from tasks.retraining.pictures import draw_differences, expire, to_page
from tasks.retraining.settings import PICTURES
from tasks.workspace.dataset import read_split
from tests.workspace import make_workspace, run_stages

CHAMPION, CHALLENGER = b"the champion's network", b"the challenger's network"


def answers(truth: CocoFile, off_px: dict[int, float]) -> dict[str, list[Detection]]:
    """Return the truth, moved to the right on some images, by the image's hash."""
    found: dict[str, list[Detection]] = {image.md5: [] for image in truth.images}
    md5s = {image.id: image.md5 for image in truth.images}
    for item in truth.annotations:
        points = list(item.keypoints)
        points[0::3] = [x + off_px.get(item.image_id, 0.0) for x in points[0::3]]
        points[2::3] = [0.9] * (len(points) // 3)
        one = Detection(1, item.category_id, 0.9, item.bbox, [float(value) for value in points])
        found[md5s[item.image_id]].append(one)
    return found


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("split") / "workspace", n_images=16)
    run_stages(root, "convert", "split")
    return root


@pytest.fixture
def judged(split_once: Path, tmp_path: Path) -> tuple[Path, CocoFile]:
    """A workspace whose gate has compared two models, which differ on the second test image alone."""
    divided = tmp_path / "judged"
    shutil.copytree(split_once, divided, symlinks=True)
    truth = read_split(divided, "test")
    (divided / "exports").mkdir()
    (divided / "exports/model.onnx").write_bytes(CHALLENGER)
    (divided / SEEN).mkdir(parents=True)
    for network, off in ((CHAMPION, {}), (CHALLENGER, {truth.images[1].id: 12.0})):
        memory = _Memory(300, answers(truth, off))
        path = divided / SEEN / f"{hashlib.sha256(network).hexdigest()}.msgpack"
        path.write_bytes(msgspec.msgpack.encode(memory))
    return divided, truth


def draw(root: Path, count: int, budget_mb: float = 5.0) -> list[Any]:
    return draw_differences(root, hashlib.sha256(CHAMPION).hexdigest(), count, budget_mb)


def test_the_image_on_which_they_differ_comes_first(judged: tuple[Path, CocoFile]) -> None:
    root, truth = judged
    used, challenger = draw(root, 1)
    name = truth.images[1].file_name
    assert (used.caption, challenger.caption) == (f"in use: {name}", f"challenger: {name}")
    assert used.jpeg[:2] == b"\xff\xd8"
    assert used.jpeg != challenger.jpeg
    page = to_page([used, challenger])
    assert "1 test images as both models see them" in page
    assert page.count("data:image/jpeg;base64,") >= 2


def test_there_are_no_more_than_asked_for_and_none_beyond_the_budget(judged: tuple[Path, CocoFile]) -> None:
    root, truth = judged
    all_of_them = draw(root, 200)
    assert len(all_of_them) == 2 * len(truth.images)
    first_mb = sum(len(picture.jpeg) for picture in all_of_them[:2]) / 1e6
    assert draw(root, 200, first_mb + 1e-5) == all_of_them[:2]
    assert draw(root, 200, first_mb - 1e-5) == []
    assert draw(root, 0) == []


def test_a_model_that_has_not_judged_gives_none(judged: tuple[Path, CocoFile]) -> None:
    assert draw_differences(judged[0], "0" * 64, 3, 5.0) == []


def test_the_page_goes_when_its_time_is_over(tmp_path: Path) -> None:
    assert not expire(tmp_path, 30)
    path = tmp_path / PICTURES
    path.parent.mkdir(parents=True)
    path.write_text("pictures")
    assert not expire(tmp_path, 30)
    os.utime(path, (0, 0))
    assert expire(tmp_path, 30)
    assert not path.exists()
