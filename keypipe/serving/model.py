"""A loaded model that predicts on the bytes of image files, from several threads; what a server is made around."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.batch.prediction import load_model, make_heading
from keypipe.drawing.colours import Colour, class_colours, keypoint_colours
from keypipe.errors import AnnotationError, ModelError
from keypipe.images.header import parse_image_header
from keypipe.images.media import decode_image
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.predictor import Predictor, RawModel, Thresholds
from keypipe.inference.results import Heading, ImageResult, ModelStamp, round_prediction
from keypipe.keypoints.skeleton import Schema, schema_to_mapping

MEGA = 1_000_000
DEFAULT_MAX_MEGAPIXELS = 100


class TooLargeError(AnnotationError):
    """An image has more bytes or pixels than the server takes."""


class Times(msgspec.Struct, frozen=True):
    """What a request spent its time with.

    Attributes:
        wait: milliseconds in which other requests had their turn.
        decode: milliseconds from the file's bytes to pixels.
        predict: milliseconds from pixels to keypoints.
    """

    wait: float
    decode: float
    predict: float


class ServedResult(ImageResult, frozen=True, kw_only=True):
    """What ``keypipe predict`` writes for an image, and the times that it took.

    ``file`` is the name that the client gave, or empty, and ``drawn`` is empty: no picture is kept.
    """

    times_ms: Times


class Registered(msgspec.Struct, frozen=True):
    """Which registered version a served model is.

    Attributes:
        name: of the registered model.
        version: its number.
        alias: by which it was found; empty where its number was given.
    """

    name: str
    version: str
    alias: str = ""

    @property
    def uri(self) -> str:
        """As MLflow names it."""
        return f"models:/{self.name}/{self.version}"


class ModelCard(msgspec.Struct, frozen=True):
    """What a served model says of itself.

    Attributes:
        model: name of the file, or of a registered version, and hash; license and version as the file states them.
        schema: classes, keypoints, edges and pairs, as ``params.yaml`` spells them.
        input_hw: height and width of its input, pixels.
        end2end: whether its output needs no suppression.
        thresholds: those of a request that names none.
        colours: red, green, blue, 0 to 255, of every keypoint and class, as ``keypipe predict`` draws them.
        metadata: everything else that the file states.
        registered: which version it is; None for a file.
        since: when it began to answer, seconds since the epoch.
    """

    model: ModelStamp
    schema: dict[str, Any]
    input_hw: tuple[int, int]
    end2end: bool
    thresholds: Thresholds
    colours: dict[str, dict[str, Colour]]
    metadata: dict[str, str]
    registered: Registered | None = None
    since: float = 0.0


class ServedModel:
    """One loaded model and what every result begins with."""

    def __init__(
        self,
        model: RawModel,
        info: ModelInfo,
        heading: Heading,
        max_pixels: int,
        registered: Registered | None = None,
    ) -> None:
        """Take a model that may run in several threads at once, as onnxruntime's sessions may.

        Args:
            model: from input tensor to raw output.
            info: what it says of itself.
            heading: its stamp and the thresholds of requests that name none.
            max_pixels: images with more are refused before they are decoded.
            registered: which version it is; None for a file.
        """
        self.predictor = Predictor(model, info)
        self._heading = heading
        self._max_pixels = max_pixels
        self.registered = registered
        self.since = time.time()

    @property
    def thresholds(self) -> Thresholds:
        """Those of a request that names none."""
        return self._heading.thresholds

    @property
    def stamp(self) -> ModelStamp:
        """What every answer says of it."""
        return self._heading.model

    @property
    def schema(self) -> Schema:
        """Classes and keypoints that it finds."""
        return self.predictor.info.schema

    def card(self) -> ModelCard:
        """Return what the model says of itself."""
        info = self.predictor.info
        return ModelCard(
            model=self._heading.model,
            schema=schema_to_mapping(info.schema),
            input_hw=info.imgsz,
            end2end=info.end2end,
            thresholds=self.thresholds,
            colours={"keypoints": keypoint_colours(info.schema), "classes": class_colours(info.schema)},
            metadata=info.metadata,
            registered=self.registered,
            since=round(self.since, 3),
        )

    def warm_up(self) -> None:
        """Predict once on an even grey image, so that no client waits for what the first run loads and allocates.

        Raises:
            ModelError: the model's output does not fit its classes and keypoints.
        """
        image = io.BytesIO()
        Image.new("RGB", (16, 16), "grey").save(image, "JPEG")
        self.predict(image.getvalue(), "", self.thresholds)

    def check(self, content: bytes) -> None:
        """Predict on an image, and see that all that comes out are numbers.

        Args:
            content: the whole file.

        Raises:
            AnnotationError: it is no image.
            ModelError: they are not, or do not fit the model's classes and keypoints.
        """
        tensor, _ = self.predictor.prepare(self.decode(content))
        if not np.isfinite(self.predictor.model(tensor)).all():
            raise ModelError("what it says of its input example is not all numbers")
        self.predict(content, "", self.thresholds)

    def predict(self, content: bytes, file: str, thresholds: Thresholds, waited_s: float = 0.0) -> ServedResult:
        """Find the objects on an image.

        Args:
            content: the whole file; its bytes say the format.
            file: the image as the client calls it.
            thresholds: what is kept.
            waited_s: seconds that the request has waited already.

        Returns:
            The objects in pixels of the upright image, rounded as ``keypipe predict`` writes them.

        Raises:
            AnnotationError: not an image, or a damaged one.
            TooLargeError: it has more pixels than are allowed.
            ModelError: the model's output does not fit its classes and keypoints.
        """
        started = time.perf_counter()
        image = self.decode(content)
        decoded = time.perf_counter()
        found = self.predictor.predict_image(image, thresholds)
        predictions = [round_prediction(prediction) for prediction in found]
        ended = time.perf_counter()
        return ServedResult(
            file=file,
            size_wh=(image.shape[1], image.shape[0]),
            drawn="",
            predictions=predictions,
            times_ms=Times(*(round(1000 * seconds, 2) for seconds in (waited_s, decoded - started, ended - decoded))),
            **(self._heading.fields() | {"thresholds": thresholds}),
        )

    def decode(self, content: bytes) -> NDArray[np.uint8]:
        """Decode an image as the model takes it, uint8 (height, width, 3), BGR, upright.

        Raises:
            AnnotationError: not an image, or a damaged one.
            TooLargeError: it has more pixels than are allowed.
        """
        if not content:
            raise AnnotationError("no image: the body is empty; send the bytes of an image file")
        width, height = parse_image_header(content).size_wh
        if width * height > self._max_pixels:
            raise TooLargeError(
                f"the image has {width}x{height} px; this server takes up to {self._max_pixels / MEGA:g} megapixels"
            )
        return decode_image(content, self.predictor.info.depth)


def open_model(
    path: Path,
    thresholds: Thresholds,
    device: str | None = None,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    parallel: int = 1,
    registered: Registered | None = None,
    threads: int | None = None,
) -> ServedModel:
    """Open an ONNX model and run it once.

    Args:
        path: the file. Results name it without its folder, which is no business of a client's.
        thresholds: those of requests that name none.
        device: ``cpu``, ``cuda`` or ``cuda:1``; None: a GPU where this onnxruntime serves one.
        max_megapixels: largest image, millions of pixels.
        parallel: threads that will call it at the same time. One has all cores; several share them.
        registered: which version it is, by which results then name it.
        threads: threads of each; None: as many as there are cores, shared by those that call.

    Returns:
        The model.

    Raises:
        ModelError: no such file, not an ONNX pose model, or no such device.
    """

    def load(file: Path, on: str | None) -> tuple[RawModel, ModelInfo]:
        return load_onnx_model(file, threads=threads or _threads_for(parallel), device=on)

    model, info = load_model(path, device, {".onnx": load})
    heading = make_heading(path, info, thresholds)
    name = registered.uri if registered else path.name
    named = msgspec.structs.replace(heading, model=msgspec.structs.replace(heading.model, path=name))
    served = ServedModel(model, info, named, int(max_megapixels * MEGA), registered)
    served.warm_up()
    return served


def _threads_for(parallel: int) -> int | None:
    """Return the size of the session's pool of threads, which includes one caller; None: as ``keypipe predict`` has it.

    All callers and the pool together are as many as there are cores.
    """
    if parallel == 1:
        return None
    return max(1, (os.cpu_count() or 1) - parallel + 1)
