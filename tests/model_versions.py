"""Versions of a registered model on a real MLflow server: constant networks in whole model folders."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image

from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.tracking.models.packaging import save_package
from tasks.tracking.models.registry import Registry
from tests.onnx_files import metadata_of, raw_output, write_constant_model

COWS = Schema({"cow": Skeleton(("nose", "tail"), (("nose", "tail"),))})
CALVES = Schema({"calf": Skeleton(("nose", "tail", "hoof"), (("nose", "tail"),))})
SIDE_PX = 64


def photo(size_wh: tuple[int, int] = (SIDE_PX, SIDE_PX)) -> bytes:
    """Return an image file."""
    written = io.BytesIO()
    Image.effect_noise(size_wh, 50).convert("RGB").save(written, "JPEG")
    return written.getvalue()


def network(path: Path, score: float, schema: Schema = COWS, shift_px: float = 0.0) -> Path:
    """Write a network that sees one object on every image, with this score, its keypoints moved to the right."""
    (name,) = schema.class_names
    points = {slot: (30.0 + shift_px, 20.0 + 5 * i, 0.9) for i, slot in enumerate(schema.slots)}
    seen = (name, score, [32.0, 32.0, 24.0, 32.0], points)
    return write_constant_model(path, raw_output(schema, [seen]), metadata_of(schema, SIDE_PX), SIDE_PX)


class Versions:
    """A registered model of an own name, on the server that ``MLFLOW_TRACKING_URI`` names or in a workspace's database.

    Attributes:
        name: of the registered model.
    """

    def __init__(self, folder: Path, root: Path | None = None, name: str = "") -> None:
        self.name = name or f"cows-{uuid4().hex[:8]}"
        self._folder = folder
        self._registry = Registry(root or folder, self.name)
        self._registry.create("for a test", {})
        client = self._registry._tracking
        # Where there is no server, MLflow would put the files below the current folder.
        place = None if self._registry.uri.startswith("http") else (self._registry.root / "mlartifacts").as_uri()
        self._run = client.create_run(client.create_experiment(f"of {self.name}", place)).info.run_id

    @property
    def ref(self) -> str:
        return f"models:/{self.name}@champion"

    def uri(self, number: str) -> str:
        return f"models:/{self.name}/{number}"

    def add(self, onnx: Path, sha256: str = "", files: Mapping[str, bytes] | None = None) -> str:
        """Register a version as ``keypipe register`` does, and return its number.

        Args:
            onnx: the network.
            sha256: what its tag says; default: the truth.
            files: what stands in files of the folder instead of what should.
        """

        def save(folder: Path) -> None:
            save_package(folder, onnx, photo(), {})
            for name, content in (files or {}).items():
                (folder / name).write_bytes(content)

        content = (files or {}).get("artifacts/model.onnx", onnx.read_bytes())
        tags = {"keypipe.onnx_sha256": sha256 or hashlib.sha256(content).hexdigest()}
        return self._registry.add_version(self._run, save, "", tags)

    def add_seeing(self, score: float, schema: Schema = COWS, shift_px: float = 0.0) -> str:
        """Register a version that sees an object with this score."""
        path = network(self._folder / f"{uuid4().hex}/model.onnx", score, schema, shift_px)
        try:
            return self.add(path)
        finally:
            shutil.rmtree(path.parent)

    def point(self, alias: str, number: str) -> None:
        self._registry.set_alias(alias, number)

    def take_away(self, alias: str) -> None:
        self._registry.delete_alias(alias)


def score_of(answer: Any) -> float:
    """Return the score of the one object of an answer."""
    (found,) = answer.json()["predictions"]
    return float(found["score"])
