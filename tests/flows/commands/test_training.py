"""``keypipe run`` over the real stages, beside the other front doors: what reruns, what comes back, what is told."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.pipeline.run_result import LAST_RUN
from flows.services.board import to_key
from flows.services.server import pointed_to
from tests.flows.toy import Api, Toy, read_artifacts
from tests.workspace import dvc, environment, git, make_workspace, run_stage, set_params

STAGES = ("convert", "split", "train", "validate", "export")


def keypipe(root: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keypipe", *arguments]
    return subprocess.run(command, cwd=root, env=environment(**extra), capture_output=True, text=True, check=False)


def run(root: Path, *arguments: str, **extra: str) -> dict[str, str]:
    """Run the flow; return stage -> state as the closing table has them."""
    done = keypipe(root, "run", *arguments, **extra)
    assert done.returncode == 0, done.stdout + done.stderr
    return states(done.stdout)


def states(output: str) -> dict[str, str]:
    rows = [line.strip("│ ").split("│") for line in output.splitlines() if line.startswith("│")]
    return {row[0].strip(): row[1].strip() for row in rows if row[0].strip() in STAGES}


@pytest.fixture(scope="module")
def server(api: Api) -> str:
    """Address of the session's Prefect server, which saves each run the start of its own."""
    return api.url


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, server: str) -> tuple[Path, str]:
    """A workspace after its first run, and the server that saw it."""
    root = make_workspace(tmp_path_factory.mktemp("pipeline") / "workspace", **{"train.epochs": 1})
    assert run(root, PREFECT_API_URL=server) == dict.fromkeys(STAGES, "Ran")
    return root, server


@pytest.fixture
def workspace(ready: tuple[Path, str]) -> Path:
    """The workspace, brought back to its first state after each test that changes it."""
    return ready[0]


@pytest.fixture
def url(ready: tuple[Path, str]) -> str:
    return ready[1]


def test_the_page_of_the_run_in_prefect_shows_what_came_of_it(workspace: Path, url: str) -> None:
    flow_run = json.loads((workspace / LAST_RUN).read_text())["flow_run_id"]
    with pointed_to(url):
        found = read_artifacts(flow_run)
    name = to_key(workspace.name)
    assert set(found) == {f"{what}-{name}" for what in ("epochs", "results", "predictions", "mlflow")}
    assert (found[f"epochs-{name}"].type, found[f"epochs-{name}"].data) == ("progress", 100.0)
    figures = json.loads((workspace / "metrics/validate.json").read_text())["test"]["coco"]
    assert json.loads(found[f"results-{name}"].data)[0]["on test"].startswith(f"{figures['oks_AP']:.3f}")
    assert found[f"predictions-{name}"].data.count("](data:image/jpeg;base64,") >= 2
    training = json.loads((workspace / "models/train.json").read_text())["run_id"]
    assert f"/runs/{training}?workflowType=machine_learning)" in found[f"mlflow-{name}"].data


def test_after_a_run_nothing_is_left_to_do_and_git_shows_what_to_commit(workspace: Path, url: str) -> None:
    assert "up to date" in dvc(workspace, "status").stdout
    repeated = dvc(workspace, "repro").stdout
    assert "didn't change" in repeated
    assert "Running stage" not in repeated
    shown = git(workspace, "status", "--short", "--untracked-files=all").split()
    assert {name for name in shown if name != "??"} == {
        "data/dataset/manifest.csv",
        "data/raw.dvc",
        "dvc.lock",
        "metrics/export.json",
        "metrics/validate.json",
        "metrics/validate_confusion.csv",
        "metrics/validate_keypoints.csv",
        "metrics/validate_precision.csv",
        "metrics/validate_reliability.csv",
    }
    assert run(workspace, PREFECT_API_URL=url) == dict.fromkeys(STAGES, "Cached")


def test_after_dvc_repro_a_run_has_five_cached_stages(tmp_path: Path, server: str, workspace: Path) -> None:
    root = tmp_path / "other"
    shutil.copytree(
        workspace, root, symlinks=True, ignore=shutil.ignore_patterns(".keypipe", "mlflow.db", "mlartifacts")
    )
    set_params(root, **{"validate.keypoint_conf": 0.3})
    done = dvc(root, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Running stage") == 1, "the training is the same"
    assert run(root, PREFECT_API_URL=server) == dict.fromkeys(STAGES, "Cached")


def test_a_change_that_changes_nothing_stops_after_convert(workspace: Path, url: str) -> None:
    source = sorted((workspace / "data/raw").rglob("*.json"))[0]
    before = source.read_text()
    source.write_text(before + "\n")
    assert run(workspace, PREFECT_API_URL=url) == {
        "convert": "Ran",
        **dict.fromkeys(("split", "train", "validate", "export"), "Cached"),
    }
    source.write_text(before)
    assert run(workspace, PREFECT_API_URL=url)["convert"] in {"Restored", "Cached"}, "an edit that was taken back"


def test_an_edited_keypoint_of_the_test_split_reruns_what_looks_at_it(workspace: Path, url: str) -> None:
    edit_keypoint(workspace, "test")
    assert run(workspace, PREFECT_API_URL=url) == {
        "convert": "Ran",
        "split": "Ran",
        "train": "Cached",
        "validate": "Ran",
        "export": "Cached",
    }


def test_an_edited_keypoint_of_the_train_split_retrains(workspace: Path, url: str) -> None:
    edit_keypoint(workspace, "train")
    assert run(workspace, PREFECT_API_URL=url) == dict.fromkeys(STAGES, "Ran")


def edit_keypoint(root: Path, split: str) -> None:
    """Move one keypoint of one image of a split, as labelme would save it."""
    document = json.loads((root / f"data/dataset/annotations/{split}.json").read_text())
    with_objects = {item["image_id"] for item in document["annotations"]}
    source = next(root / "data/raw" / image["source"] for image in document["images"] if image["id"] in with_objects)
    content = json.loads(source.read_text())
    shape = next(shape for shape in content["shapes"] if shape["shape_type"] == "point")
    shape["points"][0][0] += 0.25
    source.write_text(json.dumps(content))


def test_deleted_outputs_come_back_without_running(workspace: Path, url: str) -> None:
    weights = (workspace / "models/best.pt").read_bytes()
    shutil.rmtree(workspace / "models")
    (workspace / "data/coco/keypoints.json").unlink()
    found = run(workspace, PREFECT_API_URL=url)
    assert found["train"] == found["convert"] == "Restored"
    assert set(found.values()) <= {"Restored", "Cached"}
    assert (workspace / "models/best.pt").read_bytes() == weights


def test_status_tells_what_a_changed_schema_makes_stale(workspace: Path) -> None:
    before = (workspace / "params.yaml").read_text()
    (workspace / "params.yaml").write_text(before.replace("- withers\n", "- shoulder\n").replace("withers", "shoulder"))
    output = keypipe(workspace, "status").stdout
    (workspace / "params.yaml").write_text(before)
    assert "shoulder" in output
    assert "stale that was made from the annotations" in output
    assert "schema " not in keypipe(workspace, "status").stdout


def test_settings_of_the_machine_leave_everything_cached(workspace: Path, url: str) -> None:
    before = (workspace / "local.yaml").read_text()
    (workspace / "local.yaml").write_text("device: cpu\nworkers: 7\nthreads: 2\ncache: ram\n")
    assert run(workspace, PREFECT_API_URL=url) == dict.fromkeys(STAGES, "Cached")
    (workspace / "local.yaml").write_text(before)


def test_a_cached_training_is_written_anew_on_a_server_that_does_not_know_it(
    workspace: Path, url: str, tmp_path: Path
) -> None:
    import mlflow

    uri = f"sqlite:///{tmp_path / 'other.db'}"
    found = run(workspace, PREFECT_API_URL=url, MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME="herd")
    assert found == dict.fromkeys(STAGES, "Cached")
    client = mlflow.MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'herd'")
    (restored,) = client.search_runs([experiment.experiment_id])
    assert restored.data.tags["keypipe.restored"] == "true"
    assert restored.info.status == "FINISHED"
    assert restored.data.metrics["train/kobj_loss"] > 0


def test_bad_input_keeps_the_last_good_outputs(workspace: Path, url: str) -> None:
    outputs = [workspace / name for name in ("data/coco/keypoints.json", "metrics/validate.json", "models/best.pt")]
    before = [path.read_bytes() for path in outputs]
    source = sorted((workspace / "data/raw").rglob("*.json"))[0]
    text = source.read_text()
    source.write_text(text[:50])
    done = keypipe(workspace, "run", PREFECT_API_URL=url)
    assert done.returncode == 2
    assert states(done.stdout)["convert"] == "Failed"
    assert "broken JSON" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [path.read_bytes() for path in outputs] == before
    source.write_text(text)
    run(workspace, PREFECT_API_URL=url)


def test_a_failed_training_leaves_a_failed_mlflow_run_with_its_reason(workspace: Path, url: str) -> None:
    import mlflow

    before = (workspace / "params.yaml").read_text()
    weights = (workspace / "models/best.pt").read_bytes()
    done = keypipe(workspace, "run", "--set", "train.model=nothing.yaml", PREFECT_API_URL=url)
    assert done.returncode == 2
    assert "nothing.yaml" in done.stderr
    assert (workspace / "models/best.pt").read_bytes() == weights
    client = mlflow.MlflowClient(f"sqlite:///{workspace / 'mlflow.db'}")
    (failed,) = client.search_runs(["1"], "attributes.status = 'FAILED'")
    assert "nothing.yaml" in failed.data.tags["keypipe.reason"]
    (workspace / "params.yaml").write_text(before)
    run(workspace, PREFECT_API_URL=url)


def test_all_bad_parameters_are_told_at_once_before_anything_starts(workspace: Path, url: str) -> None:
    before = (workspace / "params.yaml").read_text()
    set_params(workspace, **{"split.train": "many", "train.epoch": 3, "validate.conf": 7, "nonsense": 1})
    done = keypipe(workspace, "run", PREFECT_API_URL=url)
    (workspace / "params.yaml").write_text(before)
    assert done.returncode == 2
    for part in ("split.train", "train.epoch", "validate.conf", "nonsense"):
        assert part in done.stderr
    assert done.stderr.count("params.yaml:") == 4


def test_raw_files_stay_ordinary_files_that_labelme_can_save(
    workspace: Path, tmp_path: Path, labelme_files: Any
) -> None:
    """Also after ``dvc checkout`` and ``dvc pull`` into a fresh clone, where the view is rebuilt byte for byte."""
    remote, clone = tmp_path / "remote", tmp_path / "clone"
    assert dvc(workspace, "remote", "add", "--local", "--force", "--default", "here", str(remote)).returncode == 0
    assert dvc(workspace, "push").returncode == 0
    git(workspace, "add", "--all")
    git(workspace, "commit", "--quiet", "--message", "a run")
    subprocess.run(["git", "clone", "--quiet", str(workspace), str(clone)], check=True)
    assert dvc(clone, "remote", "add", "--local", "--default", "here", str(remote)).returncode == 0
    done = dvc(clone, "pull")
    assert done.returncode == 0, done.stderr
    for path in (clone / "data/raw").rglob("*"):
        assert not path.is_symlink()
        if path.is_file():
            assert path.stat().st_mode & stat.S_IWUSR
            assert path.stat().st_nlink == 1
    assert "up to date" in dvc(clone, "status").stdout
    assert run_stage(clone, "validate").returncode == 0
    assert view(clone) == view(workspace)

    source = next(
        path for path in sorted((clone / "data/raw").rglob("*.json")) if json.loads(path.read_text())["shapes"]
    )
    cached = cache_size(clone)
    loaded = labelme_files.load(source)
    labelme_files.save(loaded, loaded.shapes, source)
    assert cache_size(clone) == cached, "saving must not write into the cache"


def view(root: Path) -> dict[str, Any]:
    yolo = root / "data/yolo"
    return {
        path.relative_to(yolo).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in yolo.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.suffix != ".cache"
    }


def cache_size(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / ".dvc/cache").rglob("*") if path.is_file())


def test_images_lie_on_the_disk_twice_at_most(workspace: Path) -> None:
    content = next(iter(sorted((workspace / "data/raw").rglob("*.jpg")))).read_bytes()
    copies: set[int] = set()
    for base, _, names in os.walk(workspace):
        for name in names:
            path = Path(base) / name
            if path.stat().st_size == len(content) and path.read_bytes() == content:
                copies.add(path.stat().st_ino)
    assert len(copies) <= 2


def test_the_exit_code_of_a_fault_and_its_message(ran: Toy) -> None:
    output = ran.keypipe("run", "--force", "validate", code=2, TOY_FAULT="validate")
    assert "keypipe: validate: 3 images are too few to split" in output
    assert "Skipped" in output
    assert "Traceback" not in output.split("keypipe: validate")[1]


@pytest.mark.parametrize("uri", ["./mlruns", "file:///data/mlruns", "htp://localhost:5000"])
def test_an_address_of_mlflow_that_is_none_is_told_in_one_line_at_the_start(ran: Toy, uri: str) -> None:
    for command in (["run"], ["runs"], ["schedule", "--cron", "0 3 * * *"]):
        output = ran.keypipe(*command, code=2, MLFLOW_TRACKING_URI=uri)
        assert output.startswith(f"keypipe: MLFLOW_TRACKING_URI={uri}: "), output
        assert len(output.splitlines()) == 1
    assert ran.ran() == []
    assert "killed" not in ran.keypipe("status")
