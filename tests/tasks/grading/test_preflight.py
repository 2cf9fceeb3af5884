"""The pre-flight looks at what is trained, changes nothing of it, and stops what would learn nothing."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from keypipe.errors import ConfigError, DatasetError, ModelError, PoseError
from tasks.grading.preflight import (
    Facts,
    Later,
    Survivors,
    Times,
    assess,
    describe,
)
from tests.conftest import point, rectangle
from tests.imports import ROOT
from tests.workspace import environment, keep_weights, make_workspace, run_stage, run_stages, set_params

TINY: dict[str, Any] = {"train.imgsz": 64, "train.epochs": 1, "train.batch": 4}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def split_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_workspace(tmp_path_factory.mktemp("preflight") / "workspace", n_images=26, size_wh=(96, 72), **TINY)
    run_stages(root, "convert", "split")
    return root


@pytest.fixture
def divided(split_once: Path, tmp_path: Path) -> Path:
    root = tmp_path / "divided"
    shutil.copytree(split_once, root, symlinks=True)
    return root


# ------------------------------------------------------------------------- what is looked at


def start(workspace: Path, scratch: Path, **options: Any) -> dict[str, str]:
    """Train the first batch in a process of its own; return hashes of the state in which it started."""
    command = [sys.executable, "-m", "tests.preflight_program", str(workspace), str(scratch), json.dumps(options)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(read(scratch / "start.json"))


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0, "augmentation": {"from": 0.2, "to": 1.0}},
        pytest.param({"workers": 0}, marks=pytest.mark.slow),
        pytest.param({"workers": 2}, marks=pytest.mark.slow),
        pytest.param({"cache": "ram"}, marks=pytest.mark.slow),
        pytest.param({"arguments": {"freeze": 5, "mosaic": 0.0}}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_training_starts_in_the_same_state_and_with_the_batch_that_was_looked_at(
    split_once: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    without = start(split_once, tmp_path / "without", **options)
    looked = start(split_once, tmp_path / "looked", preflight=True, **options)
    assert {key for key in without if without[key] != looked[key]} == set()
    assert not (tmp_path / "without/preflight.json").exists()
    facts = read(tmp_path / "looked/preflight.json")
    assert facts["batch"] == 1
    assert (facts["later"] is not None) == ("augmentation" in options)
    assert set(facts["losses"]) == {"box_loss", "pose_loss", "kobj_loss", "cls_loss", "dfl_loss"}
    for name in ("without", "looked"):  # multi-scale, mosaic and mixup draw the same
        assert read(tmp_path / name / "first.json") == [facts["losses"]]


def test_every_object_of_a_mosaic_is_counted(split_once: Path, tmp_path: Path) -> None:
    plain = {"mosaic": 0.0, "mixup": 0.0, "scale": 0.0, "translate": 0.0, "multi_scale": 0.0, "batch": 16}
    start(split_once, tmp_path / "plain", preflight=True, arguments=plain)
    start(split_once, tmp_path / "mosaic", preflight=True, arguments={**plain, "mosaic": 1.0})
    one, four = (read(tmp_path / name / "preflight.json") for name in ("plain", "mosaic"))
    truth = read(split_once / "data/dataset/annotations/train.json")
    assert one["images"] == four["images"] == len(truth["images"])
    assert one["objects"] == {"before": len(truth["annotations"]), "after": len(truth["annotations"])}
    labelled = sum(flag > 0 for item in truth["annotations"] for flag in item["keypoints"][2::3])
    assert one["keypoints"] == {"before": labelled, "after": labelled}
    start(split_once, tmp_path / "paste", preflight=True, arguments=plain, paste=1.0)
    pasted = read(tmp_path / "paste/preflight.json")
    assert pasted["objects"]["before"] > 1.3 * one["objects"]["before"], "what is pasted counts"
    assert pasted["objects"]["after"] == pasted["objects"]["before"]
    assert four["objects"]["before"] > 3 * one["objects"]["before"]
    assert 0 < four["objects"]["after"] < four["objects"]["before"]
    assert one["bare_objects"] == 0


def test_a_later_epoch_that_is_stronger_loses_more(split_once: Path, tmp_path: Path) -> None:
    arguments = {"mosaic": 0.0, "mixup": 0.0, "scale": 0.0, "translate": 0.5, "batch": 16, "epochs": 6}
    rising = {"from": 0.0, "to": 1.0, "over": 0.5}
    start(split_once, tmp_path / "rising", preflight=True, arguments=arguments, augmentation=rising)
    start(split_once, tmp_path / "strong", preflight=True, arguments=arguments)
    facts, strong = (read(tmp_path / name / "preflight.json") for name in ("rising", "strong"))
    later = facts["later"]
    assert (later["epoch"], later["strength"]) == (4, 1.0)
    assert facts["keypoints"]["after"] == facts["keypoints"]["before"], "nothing is moved at strength 0"
    assert later["keypoints"] == strong["keypoints"], "the same images and draws, at full strength"
    assert later["keypoints"]["after"] < later["keypoints"]["before"] == facts["keypoints"]["before"]


# --------------------------------------------------------------------------- the stage train


def test_the_stage_tells_draws_and_keeps_what_it_saw_and_can_leave_it_out(divided: Path) -> None:
    done = run_stage(divided, "train")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("pre-flight: ")]
    assert "batch 1: box" in lines[0]
    assert "gradients finite" in lines[0]
    assert "augmentation loses" in lines[1]
    assert "an epoch" in lines[2]
    assert done.stdout.index("pre-flight") < done.stdout.index("epoch 1/1")
    facts, timings = read(divided / "models/preflight.json"), read(divided / "models/timings.json")
    assert facts["losses"]["kobj_loss"] > 0
    assert facts["finite_gradients"]
    assert "seconds" not in (divided / "models/preflight.json").read_text()
    assert timings["preflight"]["seconds"] > 0
    assert timings["preflight"]["epoch_seconds"] == pytest.approx(timings["preflight"]["total_seconds"])
    with Image.open(divided / "models/preflight.jpg") as picture:
        assert picture.format == "JPEG"
        assert picture.width > 2 * 700
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{divided / 'mlflow.db'}")
    run_id = read(divided / "models/train.json")["run_id"]
    logged = {item.path for item in client.list_artifacts(run_id, "models")}
    assert {"models/preflight.jpg", "models/preflight.json"} <= logged

    epochs = (divided / "models/epochs.json").read_bytes()
    set_params(divided, **{"train.preflight": False})
    done = run_stage(divided, "train")
    assert done.returncode == 0, done.stderr
    assert "pre-flight" not in done.stdout
    assert not list((divided / "models").glob("preflight*"))
    assert read(divided / "models/timings.json")["preflight"] is None
    assert (divided / "models/epochs.json").read_bytes() == epochs, "the training is the same without it"


@pytest.mark.slow
def test_a_resumed_training_keeps_what_was_seen_when_it_started(divided: Path) -> None:
    from tests.tasks.test_train import wait_for_epochs

    set_params(divided, **{"train.epochs": 12})
    command = [sys.executable, "-m", "tasks.train"]
    process = subprocess.Popen(command, cwd=divided, env=environment(), stdout=subprocess.DEVNULL)
    try:
        state = wait_for_epochs(divided, process, 2)
        facts = (state.parent / "preflight.json").read_bytes()
    finally:
        process.kill()
        process.wait()
    done = run_stage(divided, "train")
    assert done.returncode == 0, done.stderr
    assert "going on with a training" in done.stdout
    assert "pre-flight" not in done.stdout
    assert (divided / "models/preflight.json").read_bytes() == facts
    assert (divided / "models/preflight.jpg").exists()
    assert read(divided / "models/timings.json")["preflight"]["epochs"] == 12


def refuse(root: Path) -> str:
    done = run_stage(root, "train")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "epoch 1" not in done.stdout
    assert not (root / "models").exists()
    return done.stderr


def test_objects_without_keypoints_stop_the_training(tmp_path: Path, write_labelme: Any) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=0, **TINY)
    set_params(root, **{"convert.occluded": "ignore", "doctor.fail_on": "never"})
    for index in range(12):
        hidden = point("nose", 60, 40, flags={"occluded": True})
        shapes = [rectangle("cow", (20, 20, 120, 80)), hidden] if index % 4 else []  # and images without objects
        write_labelme(f"{index}.png", shapes, folder=root / "data/raw")
    run_stages(root, "convert", "split")
    message = refuse(root)
    assert "pose_loss is 0" in message
    assert "has a labelled keypoint" in message
    assert "convert.occluded" in message
    assert "train.preflight: false" in message


def test_objects_too_small_for_the_input_size_stop_the_training(tmp_path: Path, write_labelme: Any) -> None:
    root = make_workspace(tmp_path / "workspace", n_images=0, **TINY)
    set_params(root, **{"doctor.fail_on": "never"})
    for index in range(12):
        shapes = [rectangle("cow", (300, 200, 308, 208)), point("nose", 304, 204)]
        write_labelme(f"{index}.png", shapes, size_wh=(640, 480), folder=root / "data/raw")
    run_stages(root, "convert", "split")
    message = refuse(root)
    assert "kobj_loss is 0" in message
    assert "the largest object has 0.8 px at train.imgsz 64" in message
    assert "raise train.imgsz" in message


def test_weights_that_are_not_numbers_stop_the_training(divided: Path) -> None:
    script = (
        "import sys, torch; from pathlib import Path; from tasks.engine.settings import configure;"
        "configure(Path(sys.argv[1])); from ultralytics.nn.tasks import PoseModel, yaml_model_load;"
        "shape = [13, 3]; config = yaml_model_load('yolov8n-pose.yaml') | {'kpt_shape': shape};"
        "model = PoseModel(config, nc=1, data_kpt_shape=shape, verbose=False);"
        "model.model[0].conv.weight.data[0, 0, 0, 0] = float('nan');"
        "model.names, model.task, model.args = {0: 'cow'}, 'pose', {'imgsz': 64, 'task': 'pose'};"
        "torch.save({'model': model, 'train_args': model.args, 'epoch': -1}, sys.argv[1] + '/start.pt')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(divided)], cwd=ROOT, env=environment(), text=True)
    assert done.returncode == 0
    start = keep_weights(divided, divided / "start.pt", "start.pt")
    set_params(divided, **{"train.model": start})
    message = refuse(divided)
    assert "not a finite number, since train.model holds weights that are not" in message


# ---------------------------------------------------------------------------------- assessment

LOSSES = {"box_loss": 1.0, "pose_loss": 2.0, "kobj_loss": 0.7, "cls_loss": 1.0, "dfl_loss": 1.0}


def make_facts(**changes: Any) -> Facts:
    facts = Facts(
        batch=1,
        losses=LOSSES,
        finite_gradients=True,
        finite_weights=True,
        mixed_precision=False,
        batches=4,
        images=64,
        objects=Survivors(100, 97),
        keypoints=Survivors(1000, 950),
        bare_objects=0,
        largest_object_px=80.0,
        imgsz=160,
    )
    return msgspec.structs.replace(facts, **changes)


def test_what_is_well_passes() -> None:
    assess(make_facts(), {})


def without(loss: str) -> dict[str, float]:
    return LOSSES | {loss: 0.0}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"losses": LOSSES | {"box_loss": float("nan")}}, ConfigError, "box_loss of batch 1 is not a finite number"),
        (
            {"losses": LOSSES | {"pose_loss": float("inf")}, "finite_weights": False},
            ModelError,
            "pose_loss of batch 1 is not a finite number, since train.model holds weights that are not",
        ),
        (
            {"finite_gradients": False, "mixed_precision": True},
            ConfigError,
            "the losses of batch 1 are finite and their gradients are not; set train.amp: false",
        ),
        (
            {"losses": without("kobj_loss"), "objects": Survivors(), "keypoints": Survivors()},
            DatasetError,
            "none of 64 images of the train split has an object",
        ),
        (
            {"losses": without("kobj_loss"), "objects": Survivors(50, 0), "keypoints": Survivors(50, 0)},
            ConfigError,
            "augmentation leaves none of 50 objects",
        ),
        (
            {"losses": without("pose_loss"), "keypoints": Survivors(50, 0)},
            ConfigError,
            "augmentation leaves none of 50 keypoints",
        ),
        (
            {"losses": without("pose_loss"), "keypoints": Survivors()},
            DatasetError,
            "none of 100 objects has a labelled keypoint",
        ),
        ({"losses": without("kobj_loss"), "largest_object_px": 3.0}, ConfigError, "has 3.0 px at train.imgsz 160"),
        ({"losses": without("kobj_loss")}, ConfigError, "assigns no anchor to any of 97 objects"),
    ],
)
def test_what_would_learn_nothing_is_refused(changes: dict[str, Any], kind: type[PoseError], message: str) -> None:
    with pytest.raises(kind, match=message):
        assess(make_facts(**changes), {})


def test_what_a_later_epoch_loses_is_told() -> None:
    times = Times(seconds=2.0, step_seconds=0.5, load_seconds=0.1, epoch_seconds=7.25, total_seconds=507.5, epochs=70)
    facts = make_facts(later=Later(36, 1.0, Survivors(100, 90), Survivors(1000, 800)))
    assert describe(facts, times)[1] == (
        "pre-flight: augmentation loses 3 of 100 objects (3%) and 50 of 1000 keypoints (5%) on 64 images;"
        " at strength 1, from epoch 36, 10 of 100 (10%) and 200 of 1000 (20%)"
    )


def test_a_loss_may_be_zero_where_its_gain_is() -> None:
    assess(make_facts(losses=without("kobj_loss")), {"kobj": 0.0})
    assess(make_facts(losses=without("kobj_loss")), {"kobj": 0})
    with pytest.raises(PoseError):
        assess(make_facts(losses=without("kobj_loss")), {"pose": 0.0})


def test_it_is_told_in_three_lines() -> None:
    times = Times(seconds=2.0, step_seconds=0.5, load_seconds=0.1, epoch_seconds=7.25, total_seconds=507.5, epochs=70)
    assert describe(make_facts(), times) == [
        "pre-flight: batch 1: box 1.000 pose 2.000 kobj 0.700 cls 1.000 dfl 1.000; gradients finite",
        "pre-flight: augmentation loses 3 of 100 objects (3%) and 50 of 1000 keypoints (5%) on 64 images",
        "pre-flight: about 7.2 s an epoch, 8 min for 70",
    ]


def test_the_page_about_the_training_shows_it() -> None:
    from keypipe.report.page import Report, render_report
    from tasks.pages.training import to_preflight_sections

    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (9, 99, 199)).save(buffer, "JPEG")
    page = render_report(Report("Training", "", to_preflight_sections(make_facts(), buffer.getvalue()), [], "train"))
    assert base64.b64encode(buffer.getvalue()).decode() in page
    assert "kobj loss of batch 1" in page
    assert "3 of 100 (3%)" in page
