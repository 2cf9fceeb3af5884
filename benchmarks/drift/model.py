"""The model of the benchmark: the demo's training, on half of the images; the other half is the validation side."""

from __future__ import annotations

from pathlib import Path

from benchmarks.trainings import edit_params, run_quietly
from benchmarks.workspace import environment, make_workspace, stage
from keypipe.demo.scene import SCHEMA, write_demo

N_IMAGES = 360
SEED = 0
STAGES = ("convert", "split", "train", "export")


def make_model(root: Path) -> Path:
    """Make a workspace, train and export in it; what is done already is not done again.

    Args:
        root: the workspace.

    Returns:
        The exported ONNX file.
    """
    if not (root / "params.yaml").exists():
        make_workspace(root, dict(SCHEMA))
        values = {
            "split": {"train": 0.5, "val": 0.25, "test": 0.25},
            "export": {"timing_seconds": 0.0},
        }
        edit_params(root, values)
        (root / "local.yaml").write_text("device: cpu\nthreads: 1\nworkers: 0\n")
    if not (root / "data/raw").exists():
        write_demo(root / "data/raw", N_IMAGES, SEED)
    outputs = ("data/coco/keypoints.json", "data/dataset/data.yaml", "models/best.pt", "exports/model.onnx")
    for name, output in zip(STAGES, outputs, strict=True):
        if not (root / output).exists():
            print(f"{name} …", flush=True)
            run_quietly(stage(name), root, environment() | {"OMP_NUM_THREADS": "1"})
    return root / "exports/model.onnx"
