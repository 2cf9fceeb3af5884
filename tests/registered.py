"""A workspace whose stages are stand-ins of a second, with an export that really is an ONNX pose model."""

from __future__ import annotations

from pathlib import Path

from keypipe.demo.scene import SCHEMA as DEMO
from keypipe.keypoints.skeleton import parse_schema
from tests.flows.recorded import make_recorded, set_epochs
from tests.onnx_files import metadata_of, raw_output, write_constant_model
from tests.workspace import dvc, git

SCHEMA = parse_schema({"classes": DEMO["classes"]})
SEEN = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], dict.fromkeys(SCHEMA.slots, (30.0, 30.0, 0.8)))
"""What the model sees on every image, in pixels of its input."""

EXPORT = '''\
"""Stands for an export: a model that sees the same on every image, and says what it was made of."""
import hashlib, pathlib, shutil
from tasks.workspace.program import replacing, run_program, write_json


def main(root):
    import onnx

    model = onnx.load(root / "constant.onnx")
    entry = model.metadata_props.add()
    entry.key, entry.value = "made_of", hashlib.md5((root / "models/best.pt").read_bytes()).hexdigest()
    with replacing(root, pathlib.Path("exports")) as exports:
        exports.mkdir()
        onnx.save(model, exports / "model.onnx")
    with replacing(root, pathlib.Path("reports/export")) as report:
        report.mkdir()
        write_json(report / "report.json", {"headline": "exported"})
    with replacing(root, pathlib.Path("metrics/export.json")) as file:
        write_json(file, {"onnx": {"size_mb": 0.2}})


if __name__ == "__main__":
    run_program("export", main)
'''


def make_registrable(root: Path, n_images: int = 16) -> Path:
    """Make a workspace in which every stage has run once."""
    make_recorded(root, n_images)
    write_constant_model(root / "constant.onnx", raw_output(SCHEMA, [SEEN]), metadata_of(SCHEMA))
    (root / "tasks/export.py").write_text(EXPORT)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "an export that can be loaded")
    assert dvc(root, "add", "--quiet", "data/raw").returncode == 0
    train_again(root, 2)
    return root


def train_again(root: Path, epochs: int) -> None:
    """Train with another number of epochs, on which the stand-ins' results depend, and all that follows."""
    set_epochs(root, epochs)
    done = dvc(root, "repro", "--quiet")
    assert done.returncode == 0, done.stderr
