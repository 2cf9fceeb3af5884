"""A workspace to predict in."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from keypipe.keypoints.skeleton import Schema, Skeleton
from tests.onnx_files import metadata_of, raw_output, write_constant_model

SCHEMA = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})
COW = ("cow", 0.9, [32.0, 32.0, 20.0, 10.0], {"nose": (25, 30, 0.9), "tail": (40, 33, 0.8)})


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an exported model and two photos, one of them unreadable."""
    write_constant_model(tmp_path / "exports/model.onnx", raw_output(SCHEMA, [COW]), metadata_of(SCHEMA))
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (128, 64)).save(tmp_path / "photos/good.jpg")
    (tmp_path / "photos/bad.jpg").write_text("hello")
    monkeypatch.chdir(tmp_path)
    return tmp_path
