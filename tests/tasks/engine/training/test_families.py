"""YOLO11-pose and YOLO26-pose by the recipe of YOLOv8-pose: trainings that repeat, schedules that reach every loss."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import parse_schema
from tasks.engine.settings import configure
from tasks.engine.training.job import TrainJob
from tasks.grading.loss_sigma import SigmaCourse
from tasks.train import TrainParams
from tests.tasks.engine.training.test_repeat import read_result, train
from tests.workspace import make_workspace, run_stages

OWN_LOSSES = {
    "yolov8n-pose.yaml": {"box", "pose", "kobj", "cls", "dfl"},
    "yolo11n-pose.yaml": {"box", "pose", "kobj", "cls", "dfl"},
    "yolo26n-pose.yaml": {"box", "pose", "kobj", "cls", "l1", "rle"},
}
SHORT = {"epochs": 2, "imgsz": 64, "patience": 0, "nbs": 8, "close_mosaic": 0}


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("families") / "workspace", n_images=16, size_wh=(96, 72))
    run_stages(root, "convert", "split")
    return root


def build(config: str) -> Any:
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import PoseModel

    network = PoseModel(config, ch=3, nc=1, data_kpt_shape=(3, 3), verbose=False)
    network.args = get_cfg(overrides={"task": "pose"})
    return network


@pytest.mark.parametrize("config", OWN_LOSSES)
def test_the_loss_sigma_reaches_every_loss_and_the_assignment(tmp_path: Path, config: str) -> None:
    configure(tmp_path)
    import torch

    from tasks.engine.training.trainer import find_sigmas

    criterion = build(config).init_criterion()
    losses = [criterion.one2many, criterion.one2one] if "26" in config else [criterion]
    assert len(find_sigmas(criterion)) == len(losses)
    for current in find_sigmas(criterion):
        current.copy_(torch.tensor([0.1, 0.2, 0.3]))
    for loss in losses:
        assert loss.keypoint_loss.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3])
        if "26" in config:  # chooses positives by OKS
            assert loss.assigner.sigmas.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert {name.removesuffix("_loss") for name in losses[0].loss_names} == OWN_LOSSES[config]


def test_yolo11_has_the_loss_of_yolov8(tmp_path: Path) -> None:
    configure(tmp_path)
    from ultralytics.utils.loss import v8PoseLoss

    assert type(build("yolo11n-pose.yaml").init_criterion()) is v8PoseLoss


def test_a_resumed_loss_weighs_its_heads_as_after_the_epochs_before(tmp_path: Path) -> None:
    configure(tmp_path)
    from tasks.engine.training.trainer import criterion_after

    network = build("yolo26n-pose.yaml")
    network.args.epochs = 5
    undisturbed = network.init_criterion()
    seen = []
    for updates in (1, 2, 3):
        undisturbed.update()
        resumed = criterion_after(network, updates)
        assert (resumed.updates, resumed.o2m, resumed.o2o) == (updates, undisturbed.o2m, undisturbed.o2o)
        seen.append(resumed.o2o)
    assert seen == sorted(set(seen)), "the second head weighs more and more"


def test_nms_is_false_or_nothing() -> None:
    problems = TrainParams.find_problems({"nms": True})
    assert problems == {"nms": "expected false, or nothing: suppression is no part of what is trained"}
    assert not TrainParams.find_problems({"nms": False})


def test_a_second_head_is_asked_only_of_models_that_have_one(tmp_path: Path) -> None:
    from tasks.engine.training import run

    schema = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}}})
    job = TrainJob(
        model="yolov8n-pose.yaml",
        schema=schema,
        data=tmp_path / "data.yaml",
        arguments={"nms": False},
        device="cpu",
        workers=0,
        cache=False,
        scratch=tmp_path,
        instances={},
        loss_sigma=SigmaCourse(0.1, 2),
        best_by="oks_AP",
        score=lambda _: {},
    )
    configure(tmp_path)
    with pytest.raises(
        ConfigError, match=r"train\.nms: yolov8n-pose\.yaml has no head that finds an object once; yolo26n"
    ):
        run.train(job)


@pytest.mark.slow
def test_the_losses_of_yolo26_are_told_by_their_names(split_once: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"model": "yolo26n-pose.yaml", "arguments": {**SHORT, "epochs": 1}}
    assert train(split_once, tmp_path / "scratch", **options) == 0
    (epoch,) = json.loads((tmp_path / "scratch/figures.json").read_text())
    told = {name for name in epoch if name.startswith("train/") and name.endswith("_loss")}
    assert told == {f"train/{name}_loss" for name in OWN_LOSSES["yolo26n-pose.yaml"]}
    assert {f"val/{name}_loss" for name in OWN_LOSSES["yolo26n-pose.yaml"]} <= epoch.keys()


@pytest.mark.slow
@pytest.mark.parametrize("config", ["yolo11n-pose.yaml", "yolo26n-pose.yaml"])
@pytest.mark.parametrize("nms", [None, False])
def test_killed_twice_in_five_epochs(split_once: Path, tmp_path: Path, config: str, nms: bool | None) -> None:
    if nms is False and "26" not in config:
        pytest.skip("one head only")
    options: dict[str, Any] = {"model": config, "arguments": {"nms": nms}}
    assert train(split_once, tmp_path / "undisturbed", **options) == 0
    assert train(split_once, tmp_path / "killed", kill_while_scoring=2, workers=2, **options) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", kill_before_state=4, **options) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", **options) == 0
    assert read_result(tmp_path / "killed") == read_result(tmp_path / "undisturbed")
