"""Drawn images that the model has predicted on once, kept in pieces, so that a program that was stopped goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from benchmarks.drift.shifts import draw
from keypipe.drift.closeness import Truth
from keypipe.drift.log import to_row
from keypipe.drift.rows import Row
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import ModelStamp, round_prediction

PIECE = 20


class Seen(msgspec.Struct, frozen=True):
    """What the model said of an image, and what is on it."""

    row: Row
    truth: list[tuple[str, tuple[float, float, float, float], dict[str, tuple[float, float]]]]


class Pool:
    """Images of one kind after the other."""

    def __init__(self, folder: Path, onnx: Path, sha256: str) -> None:
        """Take a folder, which is made, and the model."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._stamp = ModelStamp("the demo's model", sha256)
        self._predictor: Predictor | None = None
        self._onnx = onnx

    def get(self, kind: str, strength: float, n: int, seed: int) -> tuple[list[Row], list[Truth]]:
        """Return images, predicting on those that are not there yet."""
        found: list[Seen] = []
        for start in range(0, n, PIECE):
            path = self._folder / f"{kind.replace(' ', '-')}-{strength:g}-{seed}-{start:05d}.msgpack"
            if not path.exists():
                seen = [self._see(kind, strength, seed, index) for index in range(start, start + PIECE)]
                temporary = path.with_suffix(".tmp")
                temporary.write_bytes(msgspec.msgpack.encode(seen))
                temporary.replace(path)
                print(f"{kind} {strength:g}: {start + PIECE} of {n} images", flush=True)
            found += msgspec.msgpack.decode(path.read_bytes(), type=list[Seen])
        return [item.row for item in found[:n]], [item.truth for item in found[:n]]

    def _see(self, kind: str, strength: float, seed: int, index: int) -> Seen:
        if self._predictor is None:
            self._predictor = Predictor(*load_onnx_model(self._onnx, threads=1, device="cpu"))
        image, truth = draw(kind, strength, seed, index)
        image_bgr = np.ascontiguousarray(image[..., ::-1])
        thresholds = Thresholds()
        found = [round_prediction(item) for item in self._predictor.predict_image(image_bgr, thresholds)]
        row = to_row(
            self._predictor,
            image_bgr,
            found,
            views=True,
            model=self._stamp,
            thresholds=thresholds,
            source="predict",
            group="",
            image=f"{kind}-{strength:g}-{seed}-{index}",
            at=float(index),
        )
        return Seen(row, list(truth))
