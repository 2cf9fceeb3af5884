"""Prediction on files: drawn pictures and videos, and a JSON file for each, in a folder."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keypipe.drawing import DEFAULT_KEYPOINT_CONF, draw_predictions
from keypipe.errors import AnnotationError, ConfigError, Fault, FaultsError, ModelError
from keypipe.media import VideoWriter, is_video, open_video, read_image
from keypipe.predictor import (
    DEFAULT_CONF,
    DEFAULT_IOU,
    DEFAULT_MAX_DET,
    ModelInfo,
    PredictedKeypoint,
    Prediction,
    Predictor,
    RawModel,
    load_onnx_model,
)
from keypipe.skeleton import Schema
from keypipe.sources import Output, Source, find_sources, plan_outputs, source_name

INDEX = "predictions.json"
"""Lists what an output folder holds; by it a folder of earlier predictions is known."""

LEGIBLE_PX = 640
"""Smaller pictures are drawn enlarged to this, so that tags and dots do not bury the object."""

Loader = Callable[[Path, str | None], tuple[RawModel, ModelInfo]]
Say = Callable[[str], None]


class Thresholds(msgspec.Struct, frozen=True):
    """What is kept and what is drawn.

    Attributes:
        conf: smallest score of an object.
        iou: overlap above which the weaker of two objects of a class is dropped.
        max_det: objects kept on an image at most.
        keypoint_conf: smallest confidence of a keypoint that is drawn; all are in the JSON.
    """

    conf: float = DEFAULT_CONF
    iou: float = DEFAULT_IOU
    max_det: int = DEFAULT_MAX_DET
    keypoint_conf: float = DEFAULT_KEYPOINT_CONF

    def __post_init__(self) -> None:
        for name in ("conf", "iou", "keypoint_conf"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} should be between 0 and 1, got {value:g}")


class ModelStamp(msgspec.Struct, frozen=True):
    """Which model made a result.

    Attributes:
        path: the file, as it was named.
        sha256: hash of its bytes.
        license: license of the weights, where it is stated.
        version: version of the program that wrote it, where it is stated.
    """

    path: str
    sha256: str
    license: str = ""
    version: str = ""


class Heading(msgspec.Struct, frozen=True):
    """What every JSON file of a prediction begins with.

    Attributes:
        model: which model.
        thresholds: what was kept and drawn.
        keypoint_names: for each class its keypoints in order.
    """

    model: ModelStamp
    thresholds: Thresholds
    keypoint_names: dict[str, list[str]]


class ImageResult(msgspec.Struct):
    """The JSON file of an image; coordinates in pixels of the upright image."""

    file: str
    size_wh: tuple[int, int]
    drawn: str
    predictions: list[Prediction]
    model: ModelStamp
    thresholds: Thresholds
    keypoint_names: dict[str, list[str]]


class Frame(msgspec.Struct):
    """One frame of a video: its number from 0, its time in seconds, and what is on it."""

    frame: int
    seconds: float
    predictions: list[Prediction]


class VideoResult(msgspec.Struct):
    """The JSON file of a video; coordinates in pixels of the upright frame."""

    file: str
    size_wh: tuple[int, int]
    drawn: str
    fps: float
    model: ModelStamp
    thresholds: Thresholds
    keypoint_names: dict[str, list[str]]
    frames: list[Frame]


class FileEntry(msgspec.Struct):
    """A line of the index: the file, its results relative to the output folder, and the number of objects."""

    file: str
    drawn: str
    json: str
    objects: int


class Index(msgspec.Struct):
    """The file ``predictions.json`` of an output folder.

    Attributes:
        complete: False while the prediction runs, and for good when it was interrupted.
        model: which model.
        thresholds: what was kept and drawn.
        keypoint_names: for each class its keypoints in order.
        files: the files that were read.
        faults: the files that could not be read.
    """

    complete: bool
    model: ModelStamp
    thresholds: Thresholds
    keypoint_names: dict[str, list[str]]
    files: list[FileEntry] = []
    faults: list[Fault] = []


class Summary(msgspec.Struct):
    """What became of a prediction.

    Attributes:
        output: folder of the results.
        files: the files that were read.
        faults: the files that could not be read.
    """

    output: Path
    files: list[FileEntry]
    faults: list[Fault]

    def __str__(self) -> str:
        objects = sum(entry.objects for entry in self.files)
        text = f"{_count(objects, 'object')} in {_count(len(self.files), 'file')} -> {self.output}"
        return text + (f"; {_count(len(self.faults), 'file')} could not be read" if self.faults else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ---------------------------------------------------------------------------------------- public


def predict(
    source: str,
    model: Path,
    output: Path,
    *,
    thresholds: Thresholds | None = None,
    device: str | None = None,
    loaders: Mapping[str, Loader] | None = None,
    exclude: Sequence[Path] = (),
    say: Say | None = None,
) -> Summary:
    """Predict on files and write drawn pictures and JSON.

    Args:
        source: a file, a folder or a pattern.
        model: the model file.
        output: folder for the results; made when absent.
        thresholds: what is kept and drawn.
        device: such as ``cpu`` or ``cuda:0``; None leaves the choice to the model's engine.
        loaders: for each suffix of a model file the function that opens it; ONNX is known.
        exclude: folders in which no source is looked for.
        say: told about progress every few seconds; None writes it to stderr.

    Returns:
        What was read and what could not be; the latter stops nothing.

    Raises:
        ConfigError: no image or video is there, a threshold makes no sense, or the output folder is in use.
        ModelError: the model cannot be used.
    """
    sources = find_sources(source, exclude)
    outputs = plan_outputs(sources, taken=[INDEX])
    check_output(output, sources, outputs)
    raw_model, info = load_model(model, device, loaders or {})
    stamp = ModelStamp(str(model), _sha256(model), info.license, info.version)
    names = {name: list(skeleton.keypoints) for name, skeleton in info.schema.classes.items()}
    batch = Batch(Predictor(raw_model, info), Heading(stamp, thresholds or Thresholds(), names), output)
    return batch.run(list(zip(sources, outputs, strict=True)), Progress(len(sources), say))


def raise_for_faults(summary: Summary) -> None:
    """Turn files that could not be read into the error that ends a command.

    Raises:
        FaultsError: there were some; the message lists them and tells where the other results are.
    """
    if summary.faults:
        done = f"{_count(len(summary.files), 'other file')} done, results in {summary.output}"
        raise FaultsError(summary.faults, done if summary.files else "")


def load_model(path: Path, device: str | None, loaders: Mapping[str, Loader]) -> tuple[RawModel, ModelInfo]:
    """Open a model by the suffix of its file.

    Raises:
        ModelError: there is no such file, or nothing that opens it.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; `keypipe run` trains and exports one")
    suffix = path.suffix.lower()
    if suffix in loaders:
        return loaders[suffix](path, device)
    if suffix == ".onnx":
        return load_onnx_model(path, device=device)
    known = ", ".join(sorted({".onnx", *loaders}))
    raise ModelError(f"{path}: no engine for {suffix or 'a file without suffix'} models here (known: {known})")


def check_output(output: Path, sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Check that writing the results harms nothing.

    Raises:
        ConfigError: the folder holds other things than earlier predictions, or a result would replace a source.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: the output should be a folder, this is a file")
    if output.is_dir() and any(output.iterdir()) and not (output / INDEX).is_file():
        raise ConfigError(f"{output}: holds files that are no predictions; choose a new or an empty folder")
    inputs = {source.path.resolve() for source in sources}
    for result in outputs:
        for path in (output / result.drawn, output / result.json):
            if path.resolve() in inputs:
                raise ConfigError(f"{output}: {result.drawn} would replace the picture it is made from; choose another")


def default_output(source: str, parent: Path) -> Path:
    """Choose a folder for the results that does not exist yet: ``<parent>/<name>``, ``<parent>/<name>-2``, …"""
    name = source_name(source)
    candidate, number = parent / name, 2
    while candidate.exists():
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


# ------------------------------------------------------------------------------------- the batch


class Batch:
    """Predicts on one file after the other and writes what it finds at once."""

    def __init__(self, predictor: Predictor, heading: Heading, output: Path) -> None:
        self._predictor = predictor
        self._heading = heading
        self._output = output

    def run(self, jobs: Sequence[tuple[Source, Output]], progress: Progress) -> Summary:
        """Do all files; the index is written before and after, also when interrupted."""
        summary = Summary(self._output, [], [])
        complete = False
        self._write_index(summary, complete)
        try:
            for source, output in jobs:
                progress.begin(str(source.path))
                try:
                    summary.files.append(self._do_file(source, output, progress))
                except AnnotationError as error:
                    summary.faults.append(_to_fault(source, error))
                    progress.say(str(error))
                progress.end()
            complete = True
        finally:
            self._write_index(summary, complete)
        return summary

    def _do_file(self, source: Source, output: Output, progress: Progress) -> FileEntry:
        do = self._do_video if is_video(source.path) else self._do_image
        objects = do(source.path, output, progress)
        return FileEntry(str(source.path), output.drawn.as_posix(), output.json.as_posix(), objects)

    def _do_image(self, path: Path, output: Output, _: Progress) -> int:
        image = read_image(path)
        predictions = self._predict(image)
        drawn = self._draw(image, predictions, max(LEGIBLE_PX, *image.shape[:2]))
        with _writing(self._output / output.drawn) as temporary:
            Image.fromarray(drawn).save(temporary, "JPEG", quality=92, subsampling=0)
        size_wh = (image.shape[1], image.shape[0])
        result = ImageResult(str(path), size_wh, output.drawn.as_posix(), predictions, **self._heading_fields())
        with _writing(self._output / output.json) as temporary:
            temporary.write_bytes(_format_json(result))
        return len(predictions)

    def _do_video(self, path: Path, output: Output, progress: Progress) -> int:
        objects = 0
        with (
            open_video(path) as (video, frames),
            _writing(self._output / output.drawn) as drawn_path,
            _writing(self._output / output.json) as json_path,
            VideoWriter(drawn_path, video.size_wh, video.fps) as writer,
            json_path.open("wb") as file,
        ):
            head = VideoResult(str(path), video.size_wh, output.drawn.as_posix(), video.fps, frames=[], **self._heading_fields())
            lines = _FrameLines(file, head)
            for number, frame in enumerate(frames):
                predictions = self._predict(frame)
                writer.write(np.ascontiguousarray(self._draw(frame, predictions, None)[..., ::-1]))
                lines.write(Frame(number, round(number / video.fps, 4), predictions))
                objects += len(predictions)
                progress.frame(number + 1, video.n_frames)
            lines.close()
        return objects

    def _predict(self, image_bgr: NDArray[np.uint8]) -> list[Prediction]:
        kept = self._heading.thresholds
        return [round_prediction(p) for p in self._predictor.predict_image(image_bgr, kept.conf, kept.iou, kept.max_det)]

    def _draw(
        self, image_bgr: NDArray[np.uint8], predictions: Sequence[Prediction], longest_side_px: int | None
    ) -> NDArray[np.uint8]:
        return draw_predictions(
            np.ascontiguousarray(image_bgr[..., ::-1]),
            predictions,
            self._schema,
            keypoint_conf=self._heading.thresholds.keypoint_conf,
            longest_side_px=longest_side_px,
        )

    @property
    def _schema(self) -> Schema:
        return self._predictor.info.schema

    def _heading_fields(self) -> dict[str, Any]:
        return {name: getattr(self._heading, name) for name in Heading.__struct_fields__}

    def _write_index(self, summary: Summary, complete: bool) -> None:
        index = Index(complete, files=summary.files, faults=summary.faults, **self._heading_fields())
        with _writing(self._output / INDEX) as temporary:
            temporary.write_bytes(_format_json(index))
