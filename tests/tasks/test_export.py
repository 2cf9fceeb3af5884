from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from keypipe.errors import ConfigError, DatasetError, ModelError
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.parity import pair_rows
from tasks.check import check_workspace
from tasks.engine.exporting.runtimes import RUNTIMES, PyTorch
from tasks.export import (
    EVIDENCE,
    _calibration_inputs,
)
from tasks.grading.rules import GradingParams, to_grading
from tasks.proofs.parity import Candidate, Proof, Tolerance, prove
from tasks.proofs.timing import Latency
from tasks.workspace.dataset import read_schema, read_split
from tests.imports import ROOT
from tests.pose_checkpoint import write_random_checkpoint
from tests.predictions import assert_as_ultralytics_on_every_validation_image
from tests.workspace import environment, run_stage, run_stages, set_params

EVERY = {"onnx": "model.onnx", "torchscript": "model.torchscript", "openvino": "model_openvino_model"}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def all_formats(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which export made every format that runs here, and INT8; not to be changed.

    Its weights are random ones that find many objects, which those of a short training do not.
    """
    root = tmp_path_factory.mktemp("formats") / "trained"
    shutil.copytree(trained_once, root, symlinks=True)
    schema = read_schema(root)
    write_random_checkpoint(root / "models/best.pt", schema.class_names, schema.slots, 96)
    loose = {"export.int8_tolerance_diagonals": 20.0, "export.int8_tolerance_ap": 1.0}  # noise cannot be rounded well
    set_params(root, **{"export.formats": [*EVERY], "export.int8": True, **loose})
    run_stages(root, "export")
    return root


def proof_of(root: Path, path: Path, name: str, tolerance: Tolerance) -> Proof:
    """Prove one file against the workspace's weights."""
    info = ModelInfo(read_schema(root), (96, 96))
    candidate = Candidate(name, name, path, RUNTIMES[name], tolerance)
    models = {name: (candidate, candidate.runtime.load(path, 1))}
    reference = PyTorch().load(root / "models/best.pt", 1)
    grading = to_grading(GradingParams(), info.schema, root)
    return prove(root, read_split(root, "val"), reference, models, info, grading, 0.05)[1][name]


# ------------------------------------------------------------------------------------- formats


def test_the_formats_are_those_of_ultralytics() -> None:
    from tasks.engine.exporting.files import FORMATS, format_titles

    assert format_titles().keys() == set(FORMATS)


def test_every_format_says_what_the_weights_say_on_every_validation_image(all_formats: Path) -> None:
    metrics = read(all_formats / "metrics/export.json")
    assert metrics.keys() == {*EVERY, "onnx_int8"}
    val = read(all_formats / "data/dataset/annotations/val.json")
    for name in EVERY:
        figures = metrics[name]
        assert figures["images"] == len(val["images"]) > 0
        assert figures["anchors_max_px"] < 0.01
        assert figures["objects"] == figures["matched"] > 0
        assert figures["max_px"] < 0.01
        assert figures["oks_AP_drop"] == pytest.approx(0, abs=1e-3)
    assert metrics["onnx_int8"]["anchors_max_px"] > 0.01, "rounded"
    assert metrics["onnx_int8"]["size_mb"] < metrics["onnx"]["size_mb"] / 2


def test_models_of_scaled_images_say_so(trained: Path) -> None:
    path = trained / "data/dataset/annotations/train.json"
    path.write_bytes(path.read_bytes().replace(b'{"description"', b'{"depth":"scale","description"', 1))
    run_stages(trained, "export")
    assert load_onnx_model(trained / "exports/model.onnx")[1].depth == "scale"


def test_files(all_formats: Path) -> None:
    files = {path.name for path in (all_formats / "exports").iterdir()}
    assert files == {*EVERY.values(), "model.int8.onnx", "latency.json"}
    assert not (all_formats / EVIDENCE).exists()


def test_each_file_carries_schema_and_license(all_formats: Path) -> None:
    import torch
    import yaml

    exports = all_formats / "exports"
    for name in ("model.onnx", "model.int8.onnx"):
        _, info = load_onnx_model(exports / name)
        assert info.slots[0] == "nose"
        assert len(info.edges) == 13
        assert info.license == "AGPL-3.0-or-later"
        assert info.imgsz == (96, 96)
    entries = {"config.txt": ""}
    torch.jit.load(str(exports / "model.torchscript"), _extra_files=entries)
    metadata = [
        yaml.safe_load((exports / "model_openvino_model/metadata.yaml").read_text(encoding="utf-8")),
        json.loads(entries["config.txt"]),
        info.metadata,
    ]
    for found in metadata:
        assert "date" not in found
        assert not re.search(r"/\w+/", str(found["description"])), "no path of a machine"
    for found in metadata[:2]:
        assert json.loads(found["keypipe"])["license"] == "AGPL-3.0-or-later"


def test_equal_weights_make_equal_files_and_metrics(all_formats: Path, tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "again"
    shutil.copytree(all_formats, again, symlinks=True)
    set_params(again, **{"export.timing_seconds": 0})
    run_stages(again, "export")
    for name in ("metrics/export.json", "reports/export/report.json"):
        assert (again / name).read_bytes() == (all_formats / name).read_bytes(), name
    files = [path.relative_to(again) for path in (again / "exports").rglob("*") if path.is_file()]
    assert len(files) == 6
    for name in files:
        assert (again / name).read_bytes() == (all_formats / name).read_bytes(), name
    assert not (again / "exports/latency.json").exists()
    assert "One image" not in (again / "reports/export/report.html").read_text(encoding="utf-8")


def test_no_file_tells_where_it_was_made(all_formats: Path) -> None:
    for path in (all_formats / "exports").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(all_formats).encode() not in content, path
            assert str(ROOT).encode() not in content, path
            assert b"site-packages" not in content, path


def test_formats_without_their_toolchains_are_refused_in_one_line_each(trained: Path) -> None:
    before = (trained / "exports/model.onnx").read_bytes()
    set_params(trained, **{"export.formats": ["ncnn", "onnx", "coreml", "engine", "imx"]})
    done = run_stage(trained, "export")
    assert done.returncode == 2
    lines = [line.removeprefix("export: ") for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    ncnn, coreml, engine, imx = lines
    assert ncnn.startswith("export.formats: ncnn: its toolchain is not installed here (no Python module ncnn)")
    assert "(no Python module coremltools)" in coreml
    assert engine == "export.formats: engine: export running on CPU but must be on GPU, i.e. use 'device=0'"
    # Integers only, so it is calibrated: on the training split, not on a dataset that Ultralytics would download.
    assert imx.startswith(
        ("export.formats: imx: its toolchain is not installed here", "export.formats: imx: IMX export requires Python")
    )
    assert (trained / "exports/model.onnx").read_bytes() == before


@pytest.mark.parametrize("name", EVERY)
def test_what_ultralytics_runs_by_itself_is_proven_by_it(all_formats: Path, name: str) -> None:
    """The way of all other formats, tried on those that run here."""
    from tasks.engine.exporting.runtimes import UltralyticsBackend

    tensor = np.random.default_rng(0).random((1, 3, 96, 96), dtype=np.float32)
    path = all_formats / "exports" / EVERY[name]
    by_ultralytics = UltralyticsBackend().load(path, 1)(tensor)
    own = RUNTIMES[name].load(path, 1)(tensor)
    # OpenVINO left alone may compute in bfloat16.
    np.testing.assert_allclose(by_ultralytics, own, atol=50 if name == "openvino" else 0.01)


def test_what_cannot_be_run_here_is_no_crash(tmp_path: Path) -> None:
    from tasks.engine.exporting.runtimes import UltralyticsBackend

    (tmp_path / "model.mnn").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.mnn: cannot be run here"):
        UltralyticsBackend().load(tmp_path / "model.mnn", 1)


@pytest.mark.parametrize("family", ["yolo11n-pose.yaml", "yolo26n-pose.yaml"])
def test_other_families(tmp_path: Path, family: str) -> None:
    """Attention, and a second head, which is left out where overlaps are suppressed as in the others."""
    from tasks.engine.exporting.files import export

    weights = write_random_checkpoint(tmp_path / "weights.pt", side_px=96, family=family)
    (tmp_path / "out").mkdir()
    exported = export(weights, "onnx", None, {"simplify": True}, {}, tmp_path, tmp_path / "out")
    assert (exported.imgsz, exported.end2end) == ((96, 96), False)
    images = np.random.default_rng(0).random((3, 3, 96, 96), dtype=np.float32)
    expected = PyTorch().load(weights, 1)(images)
    assert expected.shape[:2] == (3, 4 + 2 + 3 * 3)
    np.testing.assert_allclose(RUNTIMES["onnx"].load(exported.path, 1, 3)(images), expected, atol=0.01)


@pytest.mark.parametrize("name", EVERY)
def test_a_head_that_needs_no_suppression(tmp_path: Path, name: str) -> None:
    from tasks.engine.exporting.files import export
    from tasks.engine.inference import load_torch_model

    weights = write_random_checkpoint(tmp_path / "weights.pt", side_px=96, family="yolo26n-pose.yaml", nms=False)
    (tmp_path / "out").mkdir()
    exported = export(weights, name, None, {}, {}, tmp_path, tmp_path / "out")
    assert exported.end2end
    assert load_torch_model(weights, "cpu")[1].end2end
    images = np.random.default_rng(0).random((3, 3, 96, 96), dtype=np.float32)
    expected, found = PyTorch().load(weights, 1)(images), RUNTIMES[name].load(exported.path, 1, 3)(images)
    assert expected.shape == found.shape == (3, 189, 6 + 3 * 3), "all anchors, the best first"
    for one, other in zip(expected, found, strict=True):
        assert (np.diff(one[:, 4]) <= 0).all()
        pairs = pair_rows(one, other)
        assert len(pairs[0]) > 300
        np.testing.assert_allclose(*pairs, atol=0.01)
    if name == "onnx":
        assert load_onnx_model(exported.path)[1].end2end


def test_a_format_without_a_head_that_needs_no_suppression_is_refused(tmp_path: Path) -> None:
    from tasks.engine.exporting.files import export

    weights = write_random_checkpoint(tmp_path / "weights.pt", side_px=96, family="yolo26n-pose.yaml", nms=False)
    (tmp_path / "out").mkdir()
    with pytest.raises(
        ModelError, match=r"^export\.formats: ncnn: cannot hold a head that needs no suppression; train"
    ):
        export(weights, "ncnn", None, {}, {}, tmp_path, tmp_path / "out")


def test_another_size_and_dynamic_axes(trained: Path) -> None:
    set_params(trained, **{"export.imgsz": 128, "export.dynamic": True, "export.timing_seconds": 0.02})
    run_stages(trained, "export")
    assert read(trained / "metrics/export.json")["onnx"]["anchors_max_px"] < 0.01
    assert read(trained / "exports/latency.json")["imgsz"] == [128, 128]


def test_openvino_tells_nobody_what_is_converted(tmp_path: Path) -> None:
    """Its converter does where ``openvino_telemetry`` can be imported; a stand-in shows whether it is."""
    stand_in = "import pathlib\npathlib.Path('imported').touch()\nraise ImportError"
    (tmp_path / "openvino_telemetry.py").write_text(stand_in)
    blocked = "from tasks.engine.exporting.runtimes import block_telemetry\nblock_telemetry()"
    for block, imported in (("", True), (blocked, False)):
        (tmp_path / "imported").unlink(missing_ok=True)
        code = f"{block}\nimport openvino.tools.ovc"
        env = environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
        assert (tmp_path / "imported").exists() == imported


# --------------------------------------------------------------------------------------- proof


@pytest.mark.parametrize("layer", ["cv4.0.2.bias", "dfl.conv.weight"], ids=["keypoints differ", "boxes differ"])
def test_a_damaged_export_is_found(trained_once: Path, tmp_path: Path, layer: str) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(trained_once / "exports/model.onnx"))
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(layer)]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.05), tensor.name))
    damaged = tmp_path / "damaged.onnx"
    onnx.save(model, str(damaged))
    whole = proof_of(trained_once, trained_once / "exports/model.onnx", "onnx", Tolerance(0.01, 0.001))
    assert whole.faults() == []
    proof = proof_of(trained_once, damaged, "onnx", Tolerance(0.01, 1))
    assert re.match(
        r"keypoints differ by up to [\d.]+ px, boxes by up to [\d.]+ px \(tolerance 0.01\)", proof.faults()[0]
    )


def change(proof: Proof, **values: Any) -> Proof:
    """Return a proof with other figures."""
    parity = {name: values.pop(name) for name in list(values) if hasattr(proof.parity, name)}
    return msgspec.structs.replace(proof, parity=msgspec.structs.replace(proof.parity, **parity), **values)


def test_what_is_at_fault(trained_once: Path) -> None:
    exact = proof_of(trained_once, trained_once / "exports/model.onnx", "onnx", Tolerance(0.5, 0.01))
    rounded = change(exact, tolerance=Tolerance(0.1, 0.02, exact=False), p99_diagonals=0.05, p99_px=9.0)
    table: list[tuple[Proof, list[str]]] = [
        (change(exact, anchors_max_px=0.6), ["keypoints differ by up to 0.600 px"]),
        (change(exact, anchors_max_box_px=0.6), ["boxes by up to 0.600 px"]),
        (change(exact, anchors_max_px=float("nan")), ["keypoints differ by up to nan px"]),
        (change(exact, unmatched=2), ["2 objects are found by one of the two only"]),
        (change(exact, ap_drop=0.011, oks_ap=0.5), ["OKS AP drops by 0.0110 to 0.5000 (tolerance 0.01)"]),
        (change(exact, ap_drop=-0.2), []),
        (change(exact, ap_drop=None), []),
        (rounded, []),
        (change(rounded, anchors_max_px=99.0, unmatched=3), []),
        (change(rounded, p99_diagonals=0.11), ["0.110 box diagonals (9.0 px) at the 99th percentile (tolerance 0.1)"]),
        (change(rounded, p99_diagonals=None), ["no object to compare it on"]),
        (change(rounded, ap_drop=0.03, oks_ap=0.4), ["OKS AP drops by 0.0300"]),
    ]
    for proof, expected in table:
        faults = proof.faults()
        assert len(faults) == len(expected), faults
        assert all(part in fault for part, fault in zip(expected, faults, strict=True)), faults


def test_a_split_without_images_proves_nothing(trained_once: Path) -> None:
    truth = msgspec.structs.replace(read_split(trained_once, "val"), images=[], annotations=[])
    info = ModelInfo(read_schema(trained_once), (96, 96))
    with pytest.raises(DatasetError, match="the val split has no images"):
        prove(trained_once, truth, lambda x: x, {}, info, to_grading(GradingParams(), info.schema, trained_once), 0.25)


def test_ap_is_measured_as_validate_measures_it(trained_once: Path) -> None:
    own = read(trained_once / "reports/export/report.json")
    theirs = read(trained_once / "reports/validate/report.json")["sides"]["val"]
    assert own["sigmas"] == theirs["sigmas"]
    assert (own["area_rule"], own["area_factor"]) == (theirs["area_rule"], theirs["area_factor"])
    assert own["reference_ap"] == pytest.approx(theirs["oks"]["AP"], abs=0.02)


def test_a_tolerance_that_cannot_be_met_keeps_the_old_export_and_the_evidence(trained: Path) -> None:
    before = (trained / "exports/model.onnx").read_bytes()
    set_params(trained, **{"export.tolerance_px": 1e-12, "export.imgsz": 128})
    done = run_stage(trained, "export")
    assert done.returncode == 2
    assert "exports differ from the weights, over" in done.stderr
    assert "  ONNX: keypoints differ by up to" in done.stderr
    assert "the exports and the figures are in .keypipe/failures/export" in done.stderr
    assert (trained / "exports/model.onnx").read_bytes() == before
    evidence = trained / EVIDENCE
    assert load_onnx_model(evidence / "exports/model.onnx")[1].imgsz == (128, 128)
    assert read(evidence / "report.json")["proofs"]["onnx"]["parity"]["anchors_max_px"] > 0
    assert "keypoints differ by up to" in (evidence / "report.html").read_text(encoding="utf-8")
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{trained / 'mlflow.db'}")
    parent = client.get_run(read(trained / "models/train.json")["run_id"])
    assert parent.info.status == "FINISHED", "a failing export never marks a training as failed"
    (failed,) = client.search_runs([parent.info.experiment_id], "attributes.status = 'FAILED'")
    assert failed.info.run_name == "export"
    set_params(trained, **{"export.tolerance_px": 0.5, "export.timing_seconds": 0})
    run_stages(trained, "export")
    assert not evidence.exists()


def test_keypoints_as_ultralytics_predicts_them_on_every_validation_image(all_formats: Path) -> None:
    assert assert_as_ultralytics_on_every_validation_image(all_formats, conf=0.02) > 15


# ---------------------------------------------------------------------------------------- INT8


def test_calibration_images_are_a_seeded_sample_of_the_training_split(trained_once: Path) -> None:
    info = ModelInfo(read_schema(trained_once), (64, 64))
    draw = [list(_calibration_inputs(5, seed, info, trained_once)) for seed in (1, 1, 2)]
    assert [item.shape for item in draw[0]] == [(1, 3, 64, 64)] * 5
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    every = list(_calibration_inputs(1000, 0, info, trained_once))
    assert len(every) == len(read_split(trained_once, "train").images)


def test_what_the_head_decodes_stays_in_float(all_formats: Path) -> None:
    import onnx

    from tasks.engine.exporting.quantization import find_last_convolutions

    last = find_last_convolutions(onnx.load(str(all_formats / "exports/model.onnx")))
    assert len(last) == 10  # boxes, class and keypoints at three scales, and DFL
    graph = onnx.load(str(all_formats / "exports/model.int8.onnx")).graph
    rounded = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    convolutions = {node.name: rounded.issuperset(node.input[:2]) for node in graph.node if node.op_type == "Conv"}
    assert {name for name, is_int8 in convolutions.items() if not is_int8} == set(last)
    assert sum(convolutions.values()) > 50


# --------------------------------------------------------------------------------------- times


def test_times_of_every_format_beside_pytorch(all_formats: Path) -> None:
    latency = msgspec.json.decode((all_formats / "exports/latency.json").read_bytes(), type=Latency)
    # The workspace's local.yaml allows one thread.
    assert [(item.setting.batch, item.setting.threads) for item in latency.measured] == [(1, 1), (16, 1)]
    for item in latency.measured:
        assert item.timings.keys() == {"pytorch", *EVERY, "onnx_int8"}
        assert all(0 < timing.median_ms <= timing.p95_ms and timing.runs >= 10 for timing in item.timings.values())
    exact = [advice for advice in latency.advice if advice.best != "onnx_int8"]
    assert [advice.setting.batch for advice in exact] == [1, 16]
    assert latency.after.median_ms > 0
    assert latency.before[0][1].median_ms > 0
    page = (all_formats / "reports/export/report.html").read_text(encoding="utf-8")
    assert "One image at a time, 1 thread: " in page
    assert "timing" not in (all_formats / "metrics/export.json").read_text()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_gives_what_its_images_give_alone(all_formats: Path, name: str, batch: int) -> None:
    tensor = np.random.default_rng(0).random((batch, 3, 96, 96), dtype=np.float32)
    path = all_formats / "exports" / EVERY[name]
    together = RUNTIMES[name].load(path, 1, batch)(tensor)
    model = RUNTIMES[name].load(path, 1)
    alone = np.concatenate([model(image[None]) for image in tensor])
    assert together.shape[0] == batch
    np.testing.assert_allclose(together, alone, atol=0.01)
    assert sorted(path.name for path in (all_formats / "exports").iterdir()) == sorted(
        [*EVERY.values(), "model.int8.onnx", "latency.json"]
    ), "no twin is left"


def test_what_mlflow_knows(all_formats: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{all_formats / 'mlflow.db'}")
    parent = client.get_run(read(all_formats / "models/train.json")["run_id"])
    filters = "attributes.run_name = 'export'"
    child = client.search_runs([parent.info.experiment_id], filters, order_by=["attributes.start_time DESC"])[0]
    for name in (*EVERY, "onnx_int8"):
        assert f"export_{name}/oks_AP" in child.data.metrics
        assert child.data.metrics[f"latency_{name}/batch_1_threads_1_ms"] > 0
    assert not any(name.startswith(("latency", "export")) for name in parent.data.metrics)
    assert {item.path for item in client.list_artifacts(child.info.run_id, "exports")} >= {"exports/latency.json"}


def test_the_page_in_a_browser(all_formats: Path, browser: Any) -> None:
    browser.get((all_formats / "reports/export/report.html").as_uri())
    titles = [item.text for item in browser.find_elements("css selector", "h2")]
    assert titles[:3] == ["What to use here", "Formats, compared with PyTorch", "One image: milliseconds"]
    rows = browser.find_elements("css selector", "#s2 tbody tr")
    assert [row.text.split()[0] for row in rows] == ["PyTorch", "ONNX", "TorchScript", "OpenVINO", "ONNX"]
    assert browser.get_log("browser") == []


# ---------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"export.formats": ["floppy"]}, "export.formats: unknown: floppy (known: torchscript, onnx, openvino"),
        ({"export.formats": []}, "export.formats: List should have at least 1 item"),
        ({"export.formats": ["onnx", "onnx"]}, "export.formats: a format is named twice"),
        ({"export.formats": "onnx"}, "export.formats: Input should be a valid list"),
        ({"export.formats": ["openvino"], "export.int8": True}, "int8 is made from the ONNX file"),
        ({"export.tolerance_px": 0}, "export.tolerance_px: Input should be greater than 0"),
        ({"export.int8_images": 1.5}, "export.int8_images: Input should be a valid integer"),
    ],
)
def test_bad_parameters(drawn: Path, params: dict[str, Any], message: str) -> None:
    set_params(drawn, **params)
    with pytest.raises(ConfigError) as caught:
        check_workspace(drawn)
    assert message in str(caught.value)
