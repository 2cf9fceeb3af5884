"""docs/pose-loss.md holds: its numpy transcription gives the losses that Ultralytics computes on real batches."""

from __future__ import annotations

import contextlib
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.engine.settings import configure
from tests.imports import ROOT
from tests.numpy_pose_loss import Anchors, Objects, Outputs, TieError, assign, make_anchors, pose_losses

PAGE = ROOT / "docs" / "pose-loss.md"
TOLERANCE = 1e-4
STRIDES = (8, 16, 32)
BATCH = 4
SEEDS = 40


class Batch:
    """A real batch, what the network makes of it, and the losses that Ultralytics computes."""

    def __init__(self, model: Any, dataset: Any, seed: int, sigmas: list[float] | None, arguments: Any) -> None:
        import torch
        from ultralytics.utils.loss import v8PoseLoss

        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        self.arguments = arguments
        self.targets = dataset.collate_fn([dataset[index] for index in range(BATCH)])
        model.args, model.kpt_oks_sigmas = arguments, sigmas
        criterion = v8PoseLoss(model)
        with torch.no_grad():
            self.raw = model(self.targets["img"].float() / 255)
            total, items = criterion(self.raw, self.targets)
        self.theirs = {name.removesuffix("_loss"): float(value) for name, value in items.items()}
        self.total = float(total.sum())
        self.sigmas = criterion.keypoint_loss.sigmas.double().numpy()

    @property
    def anchors(self) -> Anchors:
        return make_anchors([feature.shape[2:] for feature in self.raw["feats"]], STRIDES)

    @property
    def outputs(self) -> list[Outputs]:
        boxes, scores, keypoints = (self.raw[name].double().numpy() for name in ("boxes", "scores", "kpts"))
        n_anchors, n_keypoints = boxes.shape[2], keypoints.shape[1] // 3
        return [
            Outputs(
                boxes[i].T.reshape(n_anchors, 4, -1), scores[i].T, keypoints[i].T.reshape(n_anchors, n_keypoints, 3)
            )
            for i in range(BATCH)
        ]

    @property
    def truth(self) -> list[Objects]:
        return read_truth(self.targets)

    def ours(self, sigmas: Any = None) -> dict[str, Any]:
        gains = {name: getattr(self.arguments, name) for name in ("box", "pose", "kobj", "cls", "dfl")}
        sigmas = self.sigmas if sigmas is None else sigmas
        return pose_losses(self.outputs, self.truth, self.anchors, sigmas, gains)


def read_truth(targets: Any) -> list[Objects]:
    """Return what is true of each image of a batch."""
    height, width = targets["img"].shape[2:]
    of_image = targets["batch_idx"].numpy().astype(int)
    found = []
    for index in range(BATCH):
        mine = of_image == index
        boxes = targets["bboxes"].numpy()[mine].astype(float) * [width, height, width, height]
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        keypoints = targets["keypoints"].numpy()[mine].astype(float) * [width, height, 1]
        found.append(Objects(targets["cls"].numpy()[mine, 0].astype(int), corners, keypoints))
    return found


def find_batch(root: Path, sigmas: list[float] | None, **overrides: Any) -> Batch:
    """Return the first batch whose positives do not hang on a tie, of which the page tells."""
    configure(root)
    from ultralytics import YOLO
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    arguments = get_cfg(overrides={"task": "pose", "imgsz": 160, "batch": BATCH, **overrides})
    data = check_det_dataset(str(root / "data/yolo/data.yaml"))
    dataset = build_yolo_dataset(arguments, data["train"], BATCH, data, mode="train", stride=32)
    model = YOLO(str(root / "models/best.pt")).model.float().train()
    for seed in range(SEEDS):
        batch = Batch(model, dataset, seed, sigmas, arguments)
        with contextlib.suppress(TieError):
            batch.ours()
            return batch
    raise AssertionError(f"ties in all of {SEEDS} batches")


@pytest.fixture(scope="module")
def learnt(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained workspace: Ultralytics writes caches beside the labels."""
    root = tmp_path_factory.mktemp("loss") / "workspace"
    shutil.copytree(trained_once, root, symlinks=True)
    return root


@pytest.mark.parametrize(
    ("sigmas", "overrides"),
    [
        ([0.2] * 13, {"mosaic": 0.0}),
        ([0.05 + 0.02 * index for index in range(13)], {"mosaic": 1.0, "degrees": 30.0}),  # cut objects and keypoints
        (None, {"mosaic": 1.0, "scale": 0.9, "box": 5.0, "pose": 9.0, "kobj": 3.0, "cls": 0.7, "dfl": 2.0}),
    ],
    ids=["plain", "mosaic", "gains"],
)
def test_the_five_losses(learnt: Path, sigmas: list[float] | None, overrides: dict[str, Any]) -> None:
    batch = find_batch(learnt, sigmas, **overrides)
    ours = batch.ours()
    assert ours.pop("positives") > 20
    assert set(ours) == set(batch.theirs)
    for name, value in batch.theirs.items():
        assert ours[name] == pytest.approx(value, rel=TOLERANCE), name
    assert sum(ours.values()) * BATCH == pytest.approx(batch.total, rel=TOLERANCE)


def test_the_batch_has_what_a_wrong_transcription_would_miss(learnt: Path) -> None:
    """Unlabelled keypoints, objects with other numbers of them, and anchors inside several objects."""
    batch = find_batch(learnt, [0.2] * 13, mosaic=1.0, degrees=30.0)
    labelled = (batch.targets["keypoints"][..., 2] > 0).sum(1).tolist()
    assert len(set(labelled)) > 3
    assert min(labelled) < 13
    wanted = batch.ours()
    assert batch.ours(0.5 * batch.sigmas)["pose"] > 1.05 * wanted["pose"]
    truth = [
        objects._replace(keypoints=np.where(objects.keypoints > 0, objects.keypoints, 1.0)) for objects in batch.truth
    ]
    gains = {name: getattr(batch.arguments, name) for name in ("box", "pose", "kobj", "cls", "dfl")}
    all_labelled = pose_losses(batch.outputs, truth, batch.anchors, batch.sigmas, gains)
    assert abs(all_labelled["kobj"] / wanted["kobj"] - 1) > 0.01


def test_an_object_has_ten_positives_at_most(learnt: Path) -> None:
    batch = find_batch(learnt, [0.2] * 13, mosaic=0.0)
    for outputs, truth in zip(batch.outputs, batch.truth, strict=True):
        chosen = assign(outputs, truth, batch.anchors, 16.0)
        assert len(set(chosen.anchors.tolist())) == len(chosen.anchors)
        if len(truth.classes):
            assert np.bincount(chosen.objects).max() <= 10


def test_the_default_sigmas_are_what_the_page_says(learnt: Path) -> None:
    batch = find_batch(learnt, None, mosaic=0.0)
    assert batch.sigmas == pytest.approx(np.full(13, 1 / 13))


def test_the_page_names_the_gains_that_are_installed() -> None:
    from ultralytics.cfg import get_cfg

    table = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert table
    assert {name: float(value) for name, value in table.items()} == {
        name: getattr(get_cfg(), name) for name in ("box", "pose", "kobj", "cls", "dfl")
    }
