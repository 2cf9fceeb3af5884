from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from flows.commands.prediction import find_model, predict_main
from keypipe.errors import FaultsError, ModelError
from keypipe.inference.results import ImageResult
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.engine.settings import configure
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.pose_checkpoint import CLASS_NAMES, KEYPOINT_NAMES, write_random_checkpoint

if TYPE_CHECKING:
    from toy import Api

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})
COW = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], {"nose": (25, 30, 0.9), "tail": (40, 33, 0.8)})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an exported model and two photos, one of them unreadable."""
    write_constant_model(tmp_path / "exports/model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (128, 64)).save(tmp_path / "photos/good.jpg")
    (tmp_path / "photos/bad.jpg").write_text("hello")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_plain_function(workspace: Path) -> None:
    summary = predict_main("photos/good.jpg", root=workspace)
    assert summary.output == workspace / "predictions/good"
    assert sorted(path.name for path in summary.output.iterdir()) == ["good.jpg", "good.json", "predictions.json"]


def test_a_subfolder_of_the_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace / "photos")
    assert predict_main("good.jpg", root=workspace).output == workspace / "predictions/good"
    assert predict_main("good.jpg", output="here", root=workspace).output == Path("here")


def test_faults_come_at_the_end(workspace: Path) -> None:
    with pytest.raises(FaultsError, match="1 other file done"):
        predict_main("photos", root=workspace)
    assert (workspace / "predictions/photos/good.json").exists()


def test_which_model(workspace: Path) -> None:
    assert find_model(workspace) == workspace / "exports/model.onnx"
    (workspace / "models").mkdir()
    (workspace / "models/best.pt").write_bytes(b"")
    assert find_model(workspace) == workspace / "exports/model.onnx"
    shutil.rmtree(workspace / "exports")
    assert find_model(workspace) == workspace / "models/best.pt"
    shutil.rmtree(workspace / "models")
    with pytest.raises(ModelError, match="`keypipe run` makes them"):
        find_model(workspace)


def test_a_checkpoint(workspace: Path) -> None:
    configure(workspace)
    write_random_checkpoint(workspace / "models/best.pt")
    noise = np.random.default_rng(0).integers(0, 255, (9, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((320, 180)).save(workspace / "photos/noise.jpg")
    summary = predict_main("photos/noise.jpg", model="models/best.pt", conf=0.1, device="cpu", root=workspace)
    assert summary.files[0].objects > 0
    result = msgspec.json.decode((summary.output / "noise.json").read_bytes(), type=ImageResult)
    assert result.keypoint_names == dict.fromkeys(CLASS_NAMES, KEYPOINT_NAMES)
    assert result.model.path == "models/best.pt"


def test_a_damaged_checkpoint(workspace: Path) -> None:
    (workspace / "bad.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match=r"bad\.pt"):
        predict_main("photos/good.jpg", model="bad.pt", root=workspace)


def test_the_flow(workspace: Path, api: Api) -> None:
    summary = predict_main("photos/good.jpg", flow=True, root=workspace)
    assert [entry.objects for entry in summary.files] == [1]
    run = last_run()
    assert (run.name, run.state.name) == ("prediction photos/good.jpg", "Completed")


def test_a_flow_with_faults_has_failed_and_tells_why(workspace: Path, api: Api) -> None:
    with pytest.raises(FaultsError, match="1 other file done"):
        predict_main("photos", flow=True, root=workspace)
    run = last_run()
    assert (run.name, run.state.name, run.state.message) == ("prediction photos", "Failed", "1 fault in 1 file")
    assert (workspace / "predictions/photos/good.json").exists()


def last_run() -> Any:
    """Return the latest run of the prediction flow that the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.commands.prediction_flow import FLOW_NAME

    with get_client(sync_client=True) as client:
        flows = FlowFilter(name=FlowFilterName(any_=[FLOW_NAME]))
        return client.read_flow_runs(flow_filter=flows, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
