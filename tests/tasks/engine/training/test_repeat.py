"""Trainings repeat bit for bit, whether they were killed or not, and however images are loaded."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.engine.weights import read_checkpoint
from tests.hashes import hash_nested
from tests.imports import ROOT
from tests.workspace import environment, make_workspace, run_stages

LAST_EPOCH, BEST_EPOCH = 5, 3


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("repeat") / "workspace", n_images=32, size_wh=(96, 72))
    run_stages(root, "convert", "split")
    return root


@pytest.fixture(scope="module")
def undisturbed(split_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("undisturbed") / "scratch"
    assert train(split_once, scratch) == 0
    return scratch


def train(workspace: Path, scratch: Path, **options: Any) -> int:
    """Train in a process of its own; return its exit code, negative for a signal."""
    command = [sys.executable, "-m", "tests.train_program", str(workspace), str(scratch), json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode in {0, -signal.SIGKILL}, done.stdout + done.stderr
    return done.returncode


def read_result(scratch: Path) -> dict[str, str]:
    """Return hashes of all that a training ends with."""
    import torch

    state = torch.load(scratch / "state.pt", weights_only=True)
    result = {key: hash_nested(value) for key, value in state.items()}
    for name in ("best.pt", "last.pt"):
        checkpoint = read_checkpoint(scratch / "run/weights" / name)
        result[name] = hash_nested(checkpoint["model"].state_dict())
    result["figures"] = hashlib.sha256((scratch / "figures.json").read_bytes()).hexdigest()
    result["csv"] = hashlib.sha256((scratch / "run/results.csv").read_bytes()).hexdigest()
    return result


def test_the_reference_exercises_what_it_should(undisturbed: Path) -> None:
    import torch

    state = torch.load(undisturbed / "state.pt", weights_only=True)
    assert state["gradients"], "gradients are left over at an epoch's end"
    assert state["epoch"] + 1 == LAST_EPOCH, "patience ended the training early"
    assert json.loads((undisturbed / "trained.json").read_text())["best_epoch"] == BEST_EPOCH
    epochs = json.loads((undisturbed / "figures.json").read_text())
    assert not any("train/augmentation" in epoch for epoch in epochs), "it is told where it is not 1 throughout"
    sigmas = [epoch["train/loss_sigma"] for epoch in epochs]
    assert sigmas == pytest.approx([0.3, 0.3 - 0.2 / 4.5, 0.3 - 0.4 / 4.5, 0.3 - 0.6 / 4.5, 0.3 - 0.8 / 4.5])
    assert (undisturbed / "run/results.csv").read_text().count("\n") == 1 + LAST_EPOCH
    kept = {path.name for path in (undisturbed / "run/weights").iterdir()}
    assert kept == {"best.pt", "last.pt", f"epoch-{BEST_EPOCH}.pt"}


def test_killed_twice_and_resumed_with_other_loading_it_ends_with_the_same_bits(
    undisturbed: Path, split_once: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    assert train(split_once, scratch, kill_before_state=2, workers=2) == -signal.SIGKILL
    assert len(json.loads((scratch / "figures.json").read_text())) == 2
    assert train(split_once, scratch, kill_while_scoring=4, cache="ram") == -signal.SIGKILL
    assert train(split_once, scratch, workers=2) == 0
    assert json.loads((scratch / "trained.json").read_text()) == {"best_epoch": BEST_EPOCH, "reached": 3}
    assert read_result(scratch) == read_result(undisturbed)


def test_a_step_that_takes_more_batches_than_an_epoch_has_comes_when_it_is_due(
    split_once: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"arguments": {"nbs": 64, "imgsz": 64}}  # 16 batches, where an epoch has 6
    assert train(split_once, tmp_path / "undisturbed", **options) == 0
    assert train(split_once, tmp_path / "killed", kill_while_scoring=2, **options) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", **options) == 0
    assert read_result(tmp_path / "killed") == read_result(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"cache": "ram"}, {"workers": 1, "cache": "ram"}], ids=str)
def test_two_undisturbed_trainings_are_equal(
    undisturbed: Path, split_once: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    assert train(split_once, tmp_path / "scratch", **options) == 0
    assert read_result(tmp_path / "scratch") == read_result(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("epoch", [1, 3, 4, 5])
@pytest.mark.parametrize("moment", ["kill_while_scoring", "kill_before_record", "kill_before_state"])
def test_killed_at_any_moment(
    undisturbed: Path, split_once: Path, tmp_path: Path, moment: str, epoch: int, workers: int
) -> None:
    scratch = tmp_path / "scratch"
    assert train(split_once, scratch, **{moment: epoch, "workers": workers}) == -signal.SIGKILL
    assert train(split_once, scratch, workers=workers) == 0
    assert read_result(scratch) == read_result(undisturbed)


def test_killed_when_all_but_the_moving_was_done(undisturbed: Path, split_once: Path, tmp_path: Path) -> None:
    import shutil

    scratch = tmp_path / "scratch"
    shutil.copytree(undisturbed, scratch)
    weights = scratch / "run/weights"
    (weights / "best.pt").unlink()
    (weights / "last.pt").unlink()
    (scratch / "run/results.csv").unlink()
    assert train(split_once, scratch) == 0
    assert read_result(scratch) == read_result(undisturbed)


def test_the_loss_has_the_sigma_of_the_epoch_and_validation_that_of_the_end(split_once: Path, tmp_path: Path) -> None:
    figures = {}
    for name, end in (("constant", 0.3), ("shrinking", 0.1)):
        schedule = {"from": 0.3, "to": end, "over": 0.5}
        arguments = {"epochs": 2, "mosaic": 0.0, "multi_scale": 0.0}
        assert train(split_once, tmp_path / name, loss_sigma=schedule, arguments=arguments) == 0
        figures[name] = json.loads((tmp_path / name / "figures.json").read_text())
    (first, second), (other_first, other_second) = figures["constant"], figures["shrinking"]
    assert first == other_first, "the sigma of validation comes from data.yaml"
    # A third of the sigma: the loss, 1 - exp(-d² / (8 · area · sigma²)), is nearer to 1 for every keypoint.
    assert other_second["train/pose_loss"] > 1.1 * second["train/pose_loss"]
    assert other_second["train/loss_sigma"] == pytest.approx(0.1)


def test_the_best_weights_predict_in_a_fresh_process_what_they_did_when_they_were_chosen(
    undisturbed: Path, split_once: Path, tmp_path: Path
) -> None:
    import numpy as np

    script = (
        "import json, sys; from pathlib import Path; from tasks.engine.settings import configure;"
        "root, scratch, out = map(Path, sys.argv[1:]); configure(out, 1); from tasks.engine.inference import validate;"
        "result = validate(scratch / 'run/weights/best.pt', (root / 'data/yolo/data.yaml').resolve(), 'val',"
        " {'device': 'cpu', 'workers': 0}, batch=16, imgsz=None, scratch=out / 'v');"
        "(out / 'rows.json').write_text(json.dumps(result.predictions))"
    )
    command = [sys.executable, "-c", script, str(split_once), str(undisturbed), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    then, now = (
        sorted(json.loads(path.read_text()), key=lambda row: (row[0], -row[2]))
        for path in (undisturbed / f"rows-{BEST_EPOCH}.json", tmp_path / "rows.json")
    )
    assert len(now) == len(then) > 100
    assert [row[:2] for row in now] == [row[:2] for row in then]
    np.testing.assert_allclose([row[2] for row in now], [row[2] for row in then], atol=1e-5)
    np.testing.assert_allclose([row[3] for row in now], [row[3] for row in then], atol=1e-2)
    np.testing.assert_allclose([row[4] for row in now], [row[4] for row in then], atol=1e-2)


def test_other_seeds_give_other_weights(undisturbed: Path, split_once: Path, tmp_path: Path) -> None:
    assert train(split_once, tmp_path / "scratch", arguments={"seed": 4, "epochs": 1}) == 0
    ours, theirs = (json.loads((path / "figures.json").read_text())[0] for path in (tmp_path / "scratch", undisturbed))
    assert ours["train/box_loss"] != theirs["train/box_loss"]


def test_a_damaged_state_is_not_gone_on_from(tmp_path: Path) -> None:
    from tasks.engine.training import repeat

    path = tmp_path / "state.pt"
    repeat.save_state(path, {"epoch": 4})
    state = repeat.load_state(path)
    assert state is not None
    assert state["epoch"] == 4
    path.write_bytes(path.read_bytes()[:200])
    assert repeat.load_state(path) is None
    assert repeat.load_state(tmp_path / "nothing.pt") is None


def test_a_state_of_other_packages_is_not_gone_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.engine.training import repeat

    repeat.save_state(tmp_path / "state.pt", {"epoch": 4})
    monkeypatch.setattr(repeat, "_MADE_BY", {"torch": "0", "ultralytics": "0"})
    assert repeat.load_state(tmp_path / "state.pt") is None


@pytest.mark.parametrize(
    ("device", "arguments", "reason"),
    [
        ("cpu", {"deterministic": True, "time": None}, None),
        ("cuda", {}, "some kernels on cuda add up in no fixed order"),
        ("cpu", {"time": 2}, "train.time ends the training by the clock"),
        ("cpu", {"deterministic": False}, "train.deterministic is false"),
    ],
)
def test_a_training_that_does_not_repeat_says_why(device: str, arguments: dict[str, Any], reason: str | None) -> None:
    from tasks.engine.training.run import why_not_repeatable

    assert why_not_repeatable(device, arguments) == reason


def test_a_strength_that_rises_repeats_too_killed_or_not(split_once: Path, tmp_path: Path) -> None:
    rising = {"augmentation": {"from": 0.4, "to": 1.0, "over": 0.75}, "arguments": {"epochs": 4, "patience": 0}}
    assert train(split_once, tmp_path / "undisturbed", **rising) == 0
    assert train(split_once, tmp_path / "killed", kill_before_state=2, workers=2, **rising) == -signal.SIGKILL
    assert train(split_once, tmp_path / "killed", **rising) == 0
    assert read_result(tmp_path / "killed") == read_result(tmp_path / "undisturbed")
    epochs = json.loads((tmp_path / "undisturbed/figures.json").read_text())
    assert [epoch["train/augmentation"] for epoch in epochs] == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_strength_changes_the_samples_and_comes_back_to_the_bit(split_once: Path) -> None:
    import numpy as np
    from ultralytics.cfg import get_cfg
    from ultralytics.data.utils import check_det_dataset

    from tasks.engine.training.repeat import SeededDataset

    data = check_det_dataset(str(split_once / "data/yolo/data.yaml"))
    hyp = get_cfg(overrides={"task": "pose", "mosaic": 0.5, "degrees": 20.0, "fliplr": 0.0, "imgsz": 96})
    dataset = SeededDataset(img_path=data["train"], imgsz=96, augment=True, hyp=hyp, data=data, task="pose")

    def sample(strength: float) -> list[np.ndarray]:
        dataset.start_epoch((3, 1, 0), strength)
        return [dataset[index]["img"].numpy() for index in range(6)]

    full, none, light, again = (sample(strength) for strength in (1.0, 0.0, 0.4, 1.0))
    assert all((a == b).all() for a, b in zip(full, again, strict=True))
    assert not any((a == b).all() for a, b in zip(full, light, strict=True))
    for index, image in enumerate(none):
        plain = dataset.load_image(index)[0][..., ::-1].transpose(2, 0, 1)  # 96 x 72, in the middle of 96 x 96
        assert np.abs(image[:, 12:84].astype(int) - plain).max() <= 1
    dataset.close_mosaic(get_cfg(overrides={"task": "pose", "mosaic": 0.5, "degrees": 20.0, "fliplr": 0.0}))
    assert all(step.p == 0 for step in find_mosaics(dataset)), "also at the strength that it has"
    sample(0.4)
    assert all(step.p == 0 for step in find_mosaics(dataset)), "a later strength does not open it again"


def find_mosaics(dataset: Any) -> list[Any]:
    from ultralytics.data.augment import Mosaic

    return [step for step in dataset.transforms.transforms[0].transforms if isinstance(step, Mosaic)]
