"""Prediction on files: a drawn picture or video and a JSON file for each, in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.batch.labels import LabelCounts, LabelFolder, LabelTarget
from keypipe.batch.one_file import NAMES, Format, OneFile, check_format, open_one_file
from keypipe.batch.sources import Output, Source, describe_files, find_sources, plan_outputs, source_name
from keypipe.batch.tracking import Tracking, VideoTracker, check_tracking, lowered
from keypipe.batch.unfinished import begin_work, end_work, is_unfinished
from keypipe.batch.workers import FRAMES_AHEAD, InOrder, choose_workers, opencv_in_one_thread
from keypipe.batch.writing import USUAL_PICTURES, Pictures, draw, encode_picture, enlarged_side, put_file
from keypipe.drift.log import LogSettings, PredictionLog
from keypipe.drift.rows import Row
from keypipe.errors import AnnotationError, ConfigError, Fault, FaultsError, ModelError, format_count
from keypipe.files.atomic import replacing_file
from keypipe.images.media import BgrImage, Video, VideoWriter, open_video, read_image
from keypipe.images.opencv import import_cv2
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.onnx_model import OnnxModel, load_onnx_model
from keypipe.inference.predictor import DEFAULT_THRESHOLDS, Predictor, RawModel, Thresholds
from keypipe.inference.results import (
    FileEntry,
    Frame,
    FrameFile,
    Heading,
    ImageResult,
    Index,
    ModelStamp,
    VideoResult,
    format_result,
    round_prediction,
)
from keypipe.keypoints.predictions import Prediction

INDEX = "predictions.json"
"""Lists what an output folder holds; by it a folder of earlier predictions is known."""

Loader = Callable[[Path, str | None], tuple[RawModel, ModelInfo]]
Progress = Callable[[str, int, int], None]


def tell_nobody(_what: str, _done: int, _total: int) -> None:
    """Take the place of a ``Progress`` where nobody waits."""


class Summary(msgspec.Struct):
    """What became of a prediction.

    Attributes:
        output: folder of the results.
        files: the files that were read.
        faults: the files that could not be read.
        skipped: the files that are no image and no video that is read.
        labels: what became of labelme files, where some were asked for.
        unlogged: why predictions could not be logged; empty if they were, or were not to be.
        unplayable: why browsers do not play the drawn videos; empty if they do, or there are none with identities.
    """

    output: Path
    files: list[FileEntry]
    faults: list[Fault]
    skipped: list[Path] = []
    labels: LabelCounts | None = None
    unlogged: str = ""
    unplayable: str = ""

    def __str__(self) -> str:
        objects = sum(entry.objects for entry in self.files)
        tracks = sum(entry.tracks or 0 for entry in self.files)
        text = format_count(objects, "object")
        text += f" of {format_count(tracks, 'identity', 'identities')}" if tracks else ""
        text += f" in {format_count(len(self.files), 'file')}, results in {self.output}"
        text += f"; {format_count(len(self.faults), 'file')} could not be read" if self.faults else ""
        text += f"; skipped {describe_files(self.skipped)}" if self.skipped else ""
        text += f"; not logged ({self.unlogged})" if self.unlogged else ""
        text += f"\n{self.labels}" if self.labels else ""
        return text + (f"\n{self.unplayable}" if self.unplayable else "")


def predict(
    source: str,
    model: Path,
    output: Path,
    *,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    device: str | None = None,
    loaders: Mapping[str, Loader] | None = None,
    exclude: Sequence[Path] = (),
    progress: Progress = tell_nobody,
    labels: LabelTarget | None = None,
    log: LogSettings | None = None,
    pictures: Pictures = USUAL_PICTURES,
    threads: int | None = None,
    tracking: Tracking | None = None,
    results: Format = "json",
) -> Summary:
    """Predict on files and write drawn pictures and JSON.

    Many images, and the frames of a video, are predicted on by a thread for each core at the same time.

    Args:
        source: a file, a folder, a pattern, a list of files, a camera or a stream; see ``find_sources``.
        model: the model file.
        output: folder for the results; made when absent.
        thresholds: what is kept and drawn.
        device: such as ``cpu`` or ``cuda:0``; None leaves the choice to the model's engine.
        loaders: for each suffix of a model file the function that opens it; ONNX is known.
        exclude: folders in which no source is looked for.
        progress: is told what is being done, how many are done, and how many there are; 0 for an unknown number.
        labels: where to write labelme files of the images as well; None: nowhere.
        log: where predictions are logged; None: nowhere.
        pictures: which pictures are drawn.
        threads: to compute with; None: one for each core.
        tracking: how objects are followed through videos; None: not at all.
        results: how what is found on images is written: a JSON file for each, or one file for all.

    Returns:
        What was read and what could not be; the latter stops nothing.

    Raises:
        ConfigError: no image or video is there, a threshold makes no sense, or the output folder is in use.
        ModelError: the model cannot be used.
    """
    found = find_sources(source, exclude)
    sources = found.files
    outputs = plan_outputs(sources, taken=[INDEX, *NAMES.values()])
    check_format(results)
    check_output(output, sources, outputs if pictures.wanted else [])
    if tracking:
        check_tracking(tracking, source, sources)
    workers = choose_workers(sources, threads)
    raw_model, info = load_model(model, device, loaders or {}, threads=1 if workers > 1 else threads)
    workers = workers if isinstance(raw_model, OnnxModel) and raw_model.on_cpu else 1
    heading = make_heading(model, info, thresholds)
    folder = LabelFolder(labels, thresholds.keypoint_conf, heading.model.sha256[:12]) if labels else None
    prediction_log = PredictionLog(log) if log else None
    predictor = Predictor(raw_model, info)
    batch = Batch(predictor, heading, output, progress, folder, prediction_log, pictures, workers, tracking, results)
    try:
        if tracking:
            begin_work(output, source)
        summary = batch.run(sources, outputs, found.skipped)
        if tracking:
            end_work(output)
    finally:
        if prediction_log:
            prediction_log.close()
    if prediction_log and prediction_log.problem:
        summary.unlogged = prediction_log.problem
    return summary


def make_heading(model: Path, info: ModelInfo, thresholds: Thresholds) -> Heading:
    """Say what every result begins with: the model by its name and hash, the thresholds, the keypoints' names."""
    return Heading(
        model=ModelStamp(str(model), _sha256(model), info.license, info.version),
        thresholds=thresholds,
        keypoint_names={name: skeleton.keypoints for name, skeleton in info.schema.classes.items()},
    )


def summary_json(summary: Summary) -> str:
    """Format what became of a prediction as JSON."""
    return msgspec.json.format(msgspec.json.encode(summary, enc_hook=str), indent=2).decode()


def raise_for_faults(summary: Summary) -> None:
    """Turn files that could not be read into the error that ends a command.

    Raises:
        FaultsError: there were some; the message lists them and tells where the other results are.
    """
    if summary.faults:
        others = f"{format_count(len(summary.files), 'other file')} done, results in {summary.output}"
        told = [others] if summary.files else []
        told += [f"skipped {describe_files(summary.skipped)}"] if summary.skipped else []
        raise FaultsError(summary.faults, "; ".join(told))


def load_model(
    path: Path, device: str | None, loaders: Mapping[str, Loader], threads: int | None = None
) -> tuple[RawModel, ModelInfo]:
    """Open a model by the suffix of its file; ``threads`` is how many an ONNX model computes with, None: all.

    Raises:
        ModelError: there is no such file, or nothing that opens it.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; `keypipe run` trains and exports one")
    suffix = path.suffix.lower()
    if suffix in loaders:
        return loaders[suffix](path, device)
    if suffix == ".onnx":
        return load_onnx_model(path, threads=threads, device=device)
    known = ", ".join(sorted({".onnx", *loaders}))
    raise ModelError(f"{path}: nothing here opens a {suffix or 'suffixless'} model (known: {known})")


def check_output(output: Path, sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Check that writing the results harms nothing.

    Raises:
        ConfigError: the folder holds other things than earlier predictions, or a result would replace a source.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: the output should be a folder, this is a file")
    if output.is_dir() and any(output.iterdir()) and not (output / INDEX).is_file():
        raise ConfigError(f"{output}: holds other files than predictions; choose a new or an empty folder")
    inputs = {source.path.resolve() for source in sources if not source.stream}
    for result in outputs:
        if (output / result.drawn).resolve() in inputs:
            raise ConfigError(f"{output}: {result.drawn} would replace the file it is made from; choose another folder")


def default_output(source: str, parent: Path, *, tracked: bool = False) -> Path:
    """Choose a folder that does not exist yet: ``<parent>/<name>``, then ``<parent>/<name>-2`` and so on.

    Args:
        source: what is predicted on.
        parent: where the folder lies.
        tracked: whether objects are followed; then one that the same command left unfinished is taken again.
    """
    name = source_name(source)
    candidate, number = parent / name, 2
    while candidate.exists() and not (tracked and is_unfinished(candidate, source)):
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


class _Done(NamedTuple):
    """What became of an image: its width and height, the objects, its row of the log; or why it could not be read."""

    source: Source
    output: Output
    size_wh: tuple[int, int]
    predictions: list[Prediction]
    row: Row | None
    error: AnnotationError | None = None


class Batch:
    """Predicts on one file after the other and writes at once what it finds."""

    def __init__(
        self,
        predictor: Predictor,
        heading: Heading,
        output: Path,
        progress: Progress,
        labels: LabelFolder | None = None,
        log: PredictionLog | None = None,
        pictures: Pictures = USUAL_PICTURES,
        workers: int = 1,
        tracking: Tracking | None = None,
        results: Format = "json",
    ) -> None:
        self._predictor = predictor
        self._heading = heading
        self._output = output
        self._progress = progress
        self._labels = labels
        self._log = log
        self._pictures = pictures
        self._workers = workers
        self._tracking = tracking
        self._results = results
        self._one_file: OneFile | None = None

    def run(self, sources: Sequence[Source], outputs: Sequence[Output], skipped: Sequence[Path] = ()) -> Summary:
        """Do all files; the index is written before and after, also when interrupted."""
        summary = Summary(self._output, [], [], list(skipped), self._labels.counts if self._labels else None)
        complete = False
        self._write_index(summary, complete)
        try:
            schema = self._predictor.info.schema
            with (
                opencv_in_one_thread(self._workers > 1),
                open_one_file(self._results, self._output, self._heading, schema) as self._one_file,
            ):
                jobs = zip(sources, outputs, strict=True)
                for are_videos, some in groupby(jobs, key=lambda job: job[0].is_video):
                    (self._do_videos if are_videos else self._do_images)(list(some), summary, len(sources))
            complete = True
        finally:
            self._write_index(summary, complete)
        return summary

    def _tell_files(self, summary: Summary, total: int) -> None:
        self._progress("files predicted on", len(summary.files) + len(summary.faults), total)

    def _do_videos(self, jobs: Sequence[tuple[Source, Output]], summary: Summary, total: int) -> None:
        for source, output in jobs:
            self._tell_files(summary, total)
            try:
                if self._tracking:
                    self._track(source, output, summary, self._tracking)
                else:
                    summary.files.append(self._to_entry(source, output, self._do_video(source, output)))
            except AnnotationError as error:
                summary.faults.append(_to_fault(source, error))

    def _do_images(self, jobs: Sequence[tuple[Source, Output]], summary: Summary, total: int) -> None:
        work = InOrder(self._do_image, jobs, self._workers)
        try:
            with closing(iter(work)) as results:
                for _ in jobs:
                    self._tell_files(summary, total)
                    self._take_image(next(results), summary)
        finally:
            for done in work.rest():
                self._take_image(done, summary)

    def _take_image(self, done: _Done, summary: Summary) -> None:
        """Do what is done in the images' order, and note what became of one."""
        try:
            if done.error:
                raise done.error
            if self._log and done.row:
                self._log.keep(done.row)
            if self._labels:
                self._labels.put(done.source.path, done.source.relative, done.size_wh, done.predictions)
            if self._one_file:
                self._one_file.put(str(done.source), done.size_wh, done.predictions)
            entry = self._to_entry(done.source, done.output, len(done.predictions))
            summary.files.append(msgspec.structs.replace(entry, json="") if self._one_file else entry)
        except AnnotationError as error:
            summary.faults.append(_to_fault(done.source, error))

    def _to_entry(self, source: Source, output: Output, objects: int) -> FileEntry:
        return FileEntry(str(source), self._name_drawn(output), output.json.as_posix(), objects)

    def _name_drawn(self, output: Output) -> str:
        return output.drawn.as_posix() if self._pictures.wanted else ""

    def _do_image(self, job: tuple[Source, Output]) -> _Done:
        """Predict on an image and write what was found; in any thread."""
        source, output = job
        path = source.path
        try:
            image = read_image(path, self._predictor.info.depth)
        except AnnotationError as error:
            return _Done(source, output, (0, 0), [], None, error)
        height, width = image.shape[:2]
        predictions, row = self._predict(image, str(path))
        if self._pictures.wanted:
            drawn = self._draw(image, predictions, enlarged_side(image, self._pictures))
            put_file(self._output / output.drawn, encode_picture(drawn))
        if self._results == "json":
            result = ImageResult(
                file=str(path),
                size_wh=(width, height),
                drawn=self._name_drawn(output),
                predictions=predictions,
                **self._heading.fields(),
            )
            put_file(self._output / output.json, format_result(result))
        return _Done(source, output, (width, height), predictions, row)

    def _do_video(self, source: Source, output: Output) -> int:
        if self._labels:
            self._labels.counts.videos += 1
        with (
            open_video(source.stream or source.path) as (video, frames),
            replacing_file(self._output / output.json) as json_path,
            json_path.open("wb") as json_file,
        ):
            head = VideoResult(
                file=str(source),
                size_wh=video.size_wh,
                drawn=self._name_drawn(output),
                fps=video.fps,
                frames=[],
                **self._heading.fields(),
            )
            frame_file = FrameFile(json_file, head)
            given = _until_interrupted(frames) if source.stream else frames
            if self._pictures.wanted:
                with (
                    replacing_file(self._output / output.drawn) as drawn_path,
                    VideoWriter(drawn_path, video.size_wh, video.fps) as writer,
                ):
                    objects = self._do_frames(given, source, video, frame_file, writer)
            else:
                objects = self._do_frames(given, source, video, frame_file, None)
            frame_file.close()
        return objects

    def _do_frames(
        self, frames: Iterator[BgrImage], source: Source, video: Video, file: FrameFile, writer: VideoWriter | None
    ) -> int:
        """Predict on the frames of a video, write what is found, and return how many objects that is."""
        cv2, objects = import_cv2(), 0

        def do_frame(job: tuple[int, BgrImage]) -> tuple[list[Prediction], Row | None, BgrImage | None]:
            number, frame = job
            predictions, row = self._predict(frame, f"{source}#{number}", group=str(source))
            drawn = cv2.cvtColor(self._draw(frame, predictions, None), cv2.COLOR_RGB2BGR) if writer else None
            return predictions, row, drawn

        with closing(iter(InOrder(do_frame, enumerate(frames), self._workers, FRAMES_AHEAD))) as results:
            for number, (predictions, row, drawn) in enumerate(results):
                if writer and drawn is not None:
                    writer.write(drawn)
                if self._log and row:
                    self._log.keep(row)
                file.write(Frame(number, round(number / video.fps, 4), predictions))
                objects += len(predictions)
                self._progress(f"frames of {source.path.name}", number + 1, video.n_frames)
        return objects

    def _track(self, source: Source, output: Output, summary: Summary, tracking: Tracking) -> None:
        """Follow the objects of a video; what could be read of a damaged one is done, and told as a fault as well."""
        if self._labels:
            self._labels.counts.videos += 1
        usual = self._heading.thresholds
        weaker = msgspec.structs.replace(usual, conf=lowered(usual.conf))

        def find(frame: BgrImage, number: int) -> tuple[list[Prediction], Row | None]:
            return self._predict(frame, f"{source}#{number}", str(source), weaker)

        def keep(row: Row) -> None:
            if self._log:
                self._log.keep(row)

        places, schema = (output.drawn if self._pictures.wanted else None, output.json), self._predictor.info.schema
        done = VideoTracker(
            source.path, self._output, places, tracking, self._heading, schema, self._workers, self._progress
        ).run(find, keep)
        names = self._name_drawn(output), output.json.as_posix()
        summary.files.append(FileEntry(str(source), *names, done.n_objects, done.n_tracks, done.tables))
        summary.unplayable = summary.unplayable or done.unplayable
        if done.missing:
            summary.faults.append(_to_fault(source, AnnotationError(done.missing)))

    def _predict(
        self, image_bgr: NDArray[np.uint8], name: str, group: str = "", thresholds: Thresholds | None = None
    ) -> tuple[list[Prediction], Row | None]:
        thresholds = thresholds or self._heading.thresholds
        found = self._predictor.predict_image(image_bgr, thresholds)
        predictions = [round_prediction(prediction) for prediction in found]
        row = None
        if self._log is not None and self._log.wants():
            row = self._log.look(
                self._predictor,
                image_bgr,
                predictions,
                model=self._heading.model,
                thresholds=thresholds,
                source="predict",
                group=group,
                image=name,
            )
        return predictions, row

    def _draw(
        self, image_bgr: NDArray[np.uint8], predictions: Sequence[Prediction], longest_side_px: int | None
    ) -> NDArray[np.uint8]:
        conf, schema = self._heading.thresholds.keypoint_conf, self._predictor.info.schema
        return draw(image_bgr, predictions, schema, conf, longest_side_px)

    def _write_index(self, summary: Summary, complete: bool) -> None:
        index = Index(
            complete=complete,
            files=summary.files,
            faults=summary.faults,
            skipped=[str(path) for path in summary.skipped],
            results=NAMES.get(self._results, ""),
            **self._heading.fields(),
        )
        with replacing_file(self._output / INDEX) as temporary:
            temporary.write_bytes(format_result(index))


def _until_interrupted(frames: Iterator[BgrImage]) -> Iterator[BgrImage]:
    """Yield the frames of a stream, which may have no end but Ctrl-C; what it has given by then is kept."""
    try:
        yield from frames
    except KeyboardInterrupt:
        return


def _to_fault(source: Source, error: AnnotationError) -> Fault:
    fix = "look whether it is on and reached" if source.stream else "replace the file or leave it out"
    return Fault(str(source), None, "unreadable", str(error).removeprefix(f"{source}: "), fix)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
