"""docs/pose-loss.md holds for YOLO26 as well: its transcription gives the losses that Ultralytics computes."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.engine.settings import configure
from tests import numpy_pose_loss26 as ours
from tests.numpy_pose_loss import TieError, make_anchors
from tests.pose_checkpoint import write_random_checkpoint
from tests.tasks.engine.training.test_pose_loss import BATCH, SEEDS, STRIDES, TOLERANCE, read_truth
from tests.workspace import make_workspace, run_stages

GAINS = ("box", "pose", "kobj", "cls", "dfl", "rle")
HEADS = {"one2many": (10, 10), "one2one": (7, 1)}
"""The two heads, with how many candidates of an object are chosen, and how many of them stay."""


class Setting:
    """A network of YOLO26 with random weights, its data, and the losses by Ultralytics and by the page."""

    def __init__(self, root: Path) -> None:
        configure(root)
        from ultralytics import YOLO
        from ultralytics.cfg import get_cfg
        from ultralytics.data.build import build_yolo_dataset
        from ultralytics.data.utils import check_det_dataset

        from tasks.workspace.dataset import read_schema

        schema = read_schema(root)
        weights = write_random_checkpoint(
            root / "random.pt", schema.class_names, schema.slots, 160, family="yolo26n-pose.yaml"
        )
        self.model = YOLO(str(weights)).model.float().train()
        self.arguments = get_cfg(overrides={"task": "pose", "imgsz": 160, "batch": BATCH, "mosaic": 1.0, "epochs": 5})
        data = check_det_dataset(str(root / "data/yolo/data.yaml"))
        self.dataset = build_yolo_dataset(self.arguments, data["train"], BATCH, data, mode="train", stride=32)

    def draw(self, seed: int) -> tuple[dict[str, float], float, dict[str, dict[str, Any]]]:
        """Return Ultralytics' losses and their sum for one batch, and the page's for both heads."""
        import torch
        from ultralytics.utils.loss import E2ELoss, PoseLoss26

        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        targets = self.dataset.collate_fn([self.dataset[index] for index in range(BATCH)])
        self.model.args, self.model.kpt_oks_sigmas = self.arguments, [0.2 + 0.02 * index for index in range(13)]
        criterion = E2ELoss(self.model, PoseLoss26)
        with torch.no_grad():
            raw = self.model(targets["img"].float() / 255)
            total, items = criterion(raw, targets)
        sigmas = criterion.one2one.keypoint_loss.sigmas.double().numpy()
        gains = {name: float(getattr(self.arguments, name)) for name in GAINS}
        anchors = make_anchors([feature.shape[2:] for feature in raw["one2one"]["feats"]], STRIDES)
        height, width = targets["img"].shape[2:]
        found = {
            head: ours.pose_losses(
                to_outputs(raw[head]), read_truth(targets), anchors, sigmas, gains, self.flow, (width, height), *numbers
            )
            for head, numbers in HEADS.items()
        }
        theirs = {name.removesuffix("_loss"): float(value) for name, value in items.items()}
        return theirs, float(total.sum()), found

    @property
    def flow(self) -> list[ours.Coupling]:
        flow = self.model.model[-1].flow_model

        def layers(network: Any) -> list[tuple[Any, Any]]:
            return [
                (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
                for layer in network
                if hasattr(layer, "weight")
            ]

        return [
            ours.Coupling(kept.double().numpy(), layers(scale), layers(shift))
            for kept, scale, shift in zip(flow.mask, flow.s, flow.t, strict=True)
        ]


def to_outputs(raw: Any) -> list[ours.Outputs]:
    boxes, scores, keypoints, scales = (
        raw[name].double().numpy().transpose(0, 2, 1) for name in ("boxes", "scores", "kpts", "kpts_sigma")
    )
    n_anchors, n_slots = boxes.shape[1], keypoints.shape[2] // 3
    return [
        ours.Outputs(
            boxes[i], scores[i], keypoints[i].reshape(n_anchors, n_slots, 3), scales[i].reshape(n_anchors, n_slots, 2)
        )
        for i in range(BATCH)
    ]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    root = make_workspace(tmp_path_factory.mktemp("loss26") / "workspace", n_images=12)
    run_stages(root, "convert", "split")
    return Setting(root)


def test_the_six_losses_and_their_sum_over_both_heads(setting: Setting) -> None:
    for seed in range(SEEDS):
        with contextlib.suppress(TieError):
            theirs, total, found = setting.draw(seed)
            break
    else:
        raise AssertionError(f"ties in all of {SEEDS} batches")
    assert found["one2many"].pop("positives") > found["one2one"].pop("positives") > 3
    assert theirs.keys() == found["one2one"].keys(), "what is told is the second head's"
    for name, value in theirs.items():
        assert found["one2one"][name] == pytest.approx(value, rel=TOLERANCE), name
    assert theirs["rle"] > 0
    weighed = 0.8 * sum(found["one2many"].values()) + 0.2 * sum(found["one2one"].values())
    assert weighed * BATCH == pytest.approx(total, rel=TOLERANCE)
