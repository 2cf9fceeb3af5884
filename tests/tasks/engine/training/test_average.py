"""The mean of the last epochs' weights: what it is, when it is taken, and that a kill changes nothing of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.training.average import LastEpochs
from tasks.engine.training.job import Trained
from tasks.engine.weights import read_checkpoint
from tasks.pages.training import to_report
from tasks.train import _summarise
from tasks.workspace.models import TrainingRecord
from tests.tasks.engine.training.test_repeat import read_result, train
from tests.workspace import make_workspace, run_stages

SHORT: dict[str, Any] = {
    "average_last": 3,
    "arguments": {"epochs": 4, "imgsz": 64, "patience": 0, "mosaic": 0.0, "mixup": 0.0, "multi_scale": 0.0},
}


def state(value: float, count: int) -> dict[str, Any]:
    import torch

    return {"layer.weight": torch.full((2, 2), value), "layer.num_batches_tracked": torch.tensor(count)}


def test_the_mean_is_that_of_the_last_epochs_and_older_ones_are_gone(tmp_path: Path) -> None:
    ended = LastEpochs(tmp_path, 3)
    for number, value in enumerate((100.0, 1.0, 2.0, 6.0), start=1):
        ended.keep(number, state(value, 10 * number))
    assert {path.name for path in tmp_path.iterdir()} == {"ended-2.pt", "ended-3.pt", "ended-4.pt"}
    averaged, mean = ended.mean(4)
    assert averaged == 3
    assert mean["layer.weight"].tolist() == [[3, 3], [3, 3]]
    assert mean["layer.num_batches_tracked"].tolist() == 40, "counts are the last epoch's"


def test_a_training_that_ends_early_averages_what_there_is(tmp_path: Path) -> None:
    ended = LastEpochs(tmp_path, 10)
    ended.keep(1, state(1.0, 1))
    assert ended.mean(1) == (0, {}), "one epoch has no mean of its own"
    ended.keep(2, state(2.0, 2))
    averaged, mean = ended.mean(2)
    assert (averaged, mean["layer.weight"][0, 0].item()) == (2, 1.5)


@pytest.mark.parametrize("wanted", [0, 1])
def test_nothing_is_kept_where_nothing_is_averaged(tmp_path: Path, wanted: int) -> None:
    ended = LastEpochs(tmp_path, wanted)
    for number in (1, 2):
        ended.keep(number, state(1.0, number))
    assert list(tmp_path.iterdir()) == []
    assert ended.mean(2) == (0, {})


@pytest.mark.parametrize(("averaged", "headline", "value"), [
    (0, "3 epochs, best 2 by oks_AP 0.600 on val", 0.6),
    (2, "3 epochs, the mean of the last 2 is the best by oks_AP 0.650 on val", 0.65),
])  # fmt: skip
def test_the_record_and_the_page_say_what_the_best_weights_are(
    tmp_path: Path, averaged: int, headline: str, value: float
) -> None:
    epochs = [{"val_epoch/oks_AP": ap, "val_ultralytics/pose_mAP50": ap + 0.1} for ap in (0.5, 0.6, 0.4)]
    epochs[-1] |= {"val_mean/oks_AP": 0.65, "val_mean/pose_mAP50": 0.81}
    record = TrainingRecord("f", {}, {}, "", {}, epochs)
    trained = Trained(tmp_path / "best.pt", tmp_path / "last.pt", 2, tmp_path, None, averaged=averaged)
    summary = _summarise(record, "run", trained, "oks_AP", [])
    assert (summary.headline, summary.best_value, summary.best_epoch) == (headline, value, 2)
    figures = {figure.label: figure for figure in to_report(summary).figures}
    assert figures["Pose mAP50"].value == ("0.810" if averaged else "0.700")
    assert figures["Epochs"].note == ("best: the mean of the last 2" if averaged else "best: 2")


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("average") / "workspace", n_images=16, size_wh=(96, 72))
    run_stages(root, "convert", "split")
    return root


@pytest.mark.slow
def test_the_mean_is_taken_where_no_epoch_is_better_killed_or_not(split_once: Path, tmp_path: Path) -> None:
    import torch

    # The program's figures are 0.1, 0.2, 0.4, 0.3 for the epochs; what is measured fifth is the mean.
    assert train(split_once, tmp_path / "undisturbed", **SHORT, figures=[0.1, 0.2, 0.4, 0.3, 0.4]) == 0
    trained = json.loads((tmp_path / "undisturbed/trained.json").read_text())
    assert trained == {"best_epoch": 3, "reached": 0, "averaged": 3}
    epochs = json.loads((tmp_path / "undisturbed/figures.json").read_text())
    assert epochs[-1]["val_mean/oks_AP"] == 0.4
    assert {"val_mean/pose_mAP50", "val_mean/box_mAP50", "val_mean/fitness"} <= epochs[-1].keys()
    assert not any(name.startswith("val_mean/") for epoch in epochs[:-1] for name in epoch)

    folder = tmp_path / "undisturbed/run/weights"
    kept = [torch.load(folder / f"ended-{number}.pt", weights_only=True) for number in (2, 3, 4)]
    best = read_checkpoint(folder / "best.pt")["model"].state_dict()
    for name, value in best.items():
        if value.is_floating_point():
            mean = torch.stack([item[name].double() for item in kept]).mean(0)
            torch.testing.assert_close(value.double(), mean, rtol=1e-3, atol=1e-6)

    figures = {"figures": [0.1, 0.2, 0.4, 0.3, 0.4]}
    assert train(split_once, tmp_path / "killed", **SHORT, **figures, kill_before_state=3) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", **SHORT, **figures, kill_before_state=4) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", **SHORT, **figures) == 0
    assert read_result(tmp_path / "killed") == read_result(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_mean_that_is_worse_than_the_best_epoch_is_not_taken(split_once: Path, tmp_path: Path) -> None:
    assert train(split_once, tmp_path / "scratch", **SHORT, figures=[0.1, 0.2, 0.4, 0.3, 0.39]) == 0
    assert json.loads((tmp_path / "scratch/trained.json").read_text()) == {"best_epoch": 3, "reached": 0}
    assert json.loads((tmp_path / "scratch/figures.json").read_text())[-1]["val_mean/oks_AP"] == 0.39
