"""Which images to annotate next, drawn by the model as far as it can, and the list that a person works through."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.annotations.labelme import LabelmeError, parse_labelme
from keypipe.annotations.machine import find_untouched
from keypipe.annotations.readings import Folder
from keypipe.batch.labels import LabelFolder, LabelTarget, read_if_there
from keypipe.batch.sources import find_sources, source_name
from keypipe.diagnosis.shape_model import spread_evenly
from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.files.listing import list_files
from keypipe.images.depth import Depth
from keypipe.images.formats import IMAGE_SUFFIXES
from keypipe.images.media import is_video, read_image
from keypipe.images.opencv import import_cv2
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.ranking.appearance import describe_appearance, pick_spread
from keypipe.ranking.frames import choose_frames, describe_frames, read_frames
from keypipe.ranking.looks import Look, look_at, score_looks
from tasks.convert import ConvertParams, read_raw
from tasks.labelling.gathered import gather_objects, learn_examiners
from tasks.progress import Progress
from tasks.workspace import params as read
from tasks.workspace.places import RAW, STATE
from tasks.workspace.program import write_json
from tasks.workspace.scratch import remove, scratch_path

LABELLING = STATE / "labelling"
LIST = LABELLING / "list.json"

AMONG = 1000
"""Images that a model looks at; more are thinned out evenly by name before."""
_KNOWN = 300  # annotated images whose looks are compared with
_FRAMES_A_CHOICE = 4  # frames of a video that a model looks at for each that is chosen
_JPEG_QUALITY = 95
_FRAMES = "frames"


class Request(msgspec.Struct, frozen=True):
    """What a person wants to annotate.

    Attributes:
        count: how many images.
        source: a folder of images, or a video; None: the images of ``data/raw`` without labels.
        among: how many a model looks at.
        thresholds: which objects are drawn.
    """

    count: int
    source: str | None = None
    among: int = AMONG
    thresholds: Thresholds = Thresholds()

    def __post_init__(self) -> None:
        if self.count < 1 or self.among < 1:
            raise ConfigError(f"--next and --among should be 1 or more, got {self.count} and {self.among}")


class Candidate(msgspec.Struct, frozen=True):
    """An image that may be annotated: the file, and where it belongs below ``data/raw``."""

    path: Path
    place: Path


class Chosen(msgspec.Struct, frozen=True):
    """An image on the list.

    Attributes:
        candidate: which.
        score: among all that were looked at, 0 to 1; None without a model.
        look: what the model made of it; None without one.
        size_wh: width and height in pixels, upright.
    """

    candidate: Candidate
    score: float | None
    look: Look | None
    size_wh: tuple[int, int]


class Choice(msgspec.Struct):
    """What was chosen, and among what.

    Attributes:
        chosen: the images, what would teach most first.
        candidates: how many there were.
        looked_at: how many of them were looked at.
        waiting: images with a model's shapes that nobody has confirmed yet.
        unread: images that could not be read.
    """

    chosen: list[Chosen]
    candidates: int
    looked_at: int
    waiting: list[str] = []
    unread: list[str] = []


class WorkList(msgspec.Struct):
    """The list as it was written.

    Attributes:
        images: relative to ``data/raw``, what would teach most first.
        drawn: how many of them the model drew on.
        choice: what it came from.
    """

    images: list[str]
    drawn: int
    choice: Choice

    def __str__(self) -> str:
        choice = self.choice
        if not self.images:
            text = f"no image in {RAW} is without labels"
        else:
            of = f" of {choice.candidates} without labels" if choice.candidates > len(self.images) else ""
            text = f"{format_count(len(self.images), 'image')}{of}, {self.drawn} of them drawn by the model"
        text += f"; looked at {choice.looked_at}" if choice.looked_at < choice.candidates else ""
        text += f"; {format_count(len(choice.unread), 'image')} could not be read" if choice.unread else ""
        if choice.waiting:
            text += f"; {format_count(len(choice.waiting), 'image')} of earlier lists nobody has confirmed yet"
        return text


def choose_next(root: Path, request: Request, predictor: Predictor | None, progress: Progress) -> Choice:
    """Choose the images to annotate next; writes nothing but scratch.

    Args:
        root: the workspace.
        request: what is wanted.
        predictor: the model; None: images are chosen by how they look alone.
        progress: is told how far it is.

    Raises:
        ConfigError: the parameters are wrong, or there is nothing of that name.
        AnnotationError: a video cannot be read.
    """
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    schema = read.load_schema(document)
    folder = _read_folder(root, params, schema, progress)
    candidates = _find_candidates(root, request, folder, progress)
    shown = [candidates[index] for index in spread_evenly(len(candidates), request.among)] if candidates else []
    examiners = learn_examiners(gather_objects(folder), schema) if folder and predictor else {}
    entries: list[Chosen] = []
    appearances: list[NDArray[np.uint8]] = []
    unread: list[str] = []
    for number, candidate in enumerate(shown):
        progress("images looked at", number, len(shown))
        try:
            image = read_image(candidate.path, params.depth)
        except AnnotationError:
            unread.append(str(candidate.path))
            continue
        look = look_at(predictor, image, examiners, request.thresholds) if predictor else None
        entries.append(Chosen(candidate, None, look, (image.shape[1], image.shape[0])))
        appearances.append(describe_appearance(image))
    looks = [entry.look for entry in entries if entry.look]
    scores = score_looks(looks) if looks else np.ones(len(entries))
    known = _see_annotated(root, folder, params.depth) if entries else None
    picked = pick_spread(scores, np.array(appearances), request.count, known) if entries else []
    chosen = [msgspec.structs.replace(entries[i], score=float(scores[i]) if looks else None) for i in picked]
    waiting = [file.source for file in folder.files if file.machine and not file.faults] if folder else []
    return Choice(chosen, len(candidates), len(shown), waiting, unread)


def write_list(root: Path, choice: Choice, predictor: Predictor | None, thresholds: Thresholds, model: str) -> WorkList:
    """Bring the chosen images into ``data/raw`` where they are not there, draw what the model found, write the list.

    Args:
        root: the workspace.
        choice: what was chosen.
        predictor: the model, if there is one.
        thresholds: which objects are drawn.
        model: says which model it is.
    """
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    schema = read.load_schema(document)
    target = LabelFolder(LabelTarget(root / RAW, params.options()), thresholds.keypoint_conf, model)
    for item in choice.chosen:
        place = root / RAW / item.candidate.place
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(item.candidate.path, place)
        found = to_schema(item.look.predictions, schema) if item.look and predictor else []
        target.put(place, item.candidate.place, item.size_wh, found)
    remove(scratch_path(root, _FRAMES))
    images = [item.candidate.place.as_posix() for item in choice.chosen]
    (root / LABELLING).mkdir(parents=True, exist_ok=True)
    write_json(root / LIST, [_to_entry(item) for item in choice.chosen])
    return WorkList(images, target.counts.written, choice)


def count_done(root: Path, images: Sequence[str], encoding: str | None = None) -> int:
    """Count the images of a list that a person has looked through: with labels, and none of them a model's alone."""
    return sum(_is_done((root / RAW / name).with_suffix(".json"), encoding) for name in images)


def hash_labels(root: Path, images: Sequence[str]) -> set[tuple[str, str]]:
    """Return each image of a list with the hash of its JSON: those that change are those that somebody worked on."""
    contents = ((name, read_if_there((root / RAW / name).with_suffix(".json"))) for name in images)
    return {(name, hashlib.sha256(content or b"").hexdigest()) for name, content in contents}


def _is_done(path: Path, encoding: str | None) -> bool:
    try:
        return not find_untouched(parse_labelme(path.read_bytes(), encoding))
    except (OSError, LabelmeError):
        return False


def _to_entry(item: Chosen) -> dict[str, Any]:
    look = item.look
    signals = (
        {
            "score": round(item.score or 0.0, 4),
            "disagreement": round(look.disagreement, 4),
            "uncertainty": round(look.uncertainty, 4),
            "unusual": None if math.isnan(look.unusual) else round(look.unusual, 2),
            "objects": len(look.predictions),
        }
        if look
        else {}
    )
    return {"image": item.candidate.place.as_posix(), **signals}


def to_schema(predictions: Sequence[Prediction], schema: Schema) -> list[Prediction]:
    """Call what a model found by the names that the schema has now; what it has no name for is left out."""
    found: list[Prediction] = []
    for item in predictions:
        name = schema.class_labels.get(item.class_name)
        if name is None:
            continue
        known = set(schema.classes[name].keypoints)
        labels = schema.keypoint_labels
        points = [
            msgspec.structs.replace(point, name=labels[point.name])
            for point in item.keypoints
            if labels.get(point.name) in known
        ]
        found.append(msgspec.structs.replace(item, class_name=name, keypoints=points))
    return found


def _read_folder(root: Path, params: ConvertParams, schema: Schema, progress: Progress) -> Folder | None:
    """Read ``data/raw``; None where nothing is annotated yet."""
    raw = root / RAW
    if not raw.is_dir() or not any(name.lower().endswith(".json") for name in list_files(raw, leave=False)):
        return None
    return read_raw(params, schema, root, progress)


def _find_candidates(root: Path, request: Request, folder: Folder | None, progress: Progress) -> list[Candidate]:
    raw = root / RAW
    if request.source is not None:
        source = Path(request.source)
        if not source.exists():
            raise ConfigError(f"{source}: no such folder or video")
        if source.is_file() and is_video(source):
            return _take_frames(root, source, request, progress)
        if not source.resolve().is_relative_to(raw.resolve()):
            return _find_outside(request.source, raw)
    names = folder.unlabelled if folder else _images_of(raw)
    below = Path(request.source).resolve().relative_to(raw.resolve()) if request.source else Path()
    return [Candidate(raw / name, Path(name)) for name in names if Path(name).is_relative_to(below)]


def _images_of(raw: Path) -> list[str]:
    if not raw.is_dir():
        return []
    return [name for name in list_files(raw, leave=False) if name.lower().endswith(IMAGE_SUFFIXES)]


def _find_outside(source: str, raw: Path) -> list[Candidate]:
    """Find the images of a folder elsewhere that are not in ``data/raw`` yet, where they get a folder of its name."""
    name = source_name(source)
    found = [item for item in find_sources(source).files if not item.is_video]
    candidates = [Candidate(item.path, Path(name) / item.relative) for item in found]
    return [candidate for candidate in candidates if not (raw / candidate.place).exists()]


def _take_frames(root: Path, video: Path, request: Request, progress: Progress) -> list[Candidate]:
    """Take frames out of a video that look unlike each other, some times as many as are wanted."""
    folder = Path(video.stem)
    taken = {
        int(path.stem.rpartition("_")[2])
        for path in (root / RAW / folder).glob("frame_*.jpg")
        if path.stem.rpartition("_")[2].isdecimal()
    }
    numbers, looks = describe_frames(video, partial(progress, f"frames of {video.name} looked at"))
    wanted = choose_frames(numbers, looks, min(request.among, _FRAMES_A_CHOICE * request.count), taken)
    frames = scratch_path(root, _FRAMES)
    frames.mkdir()
    cv2 = import_cv2()
    candidates: list[Candidate] = []
    for number, frame in read_frames(video, wanted):
        name = f"frame_{number:06d}.jpg"
        cv2.imwrite(str(frames / name), frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        candidates.append(Candidate(frames / name, folder / name))
    return candidates


def _see_annotated(root: Path, folder: Folder | None, depth: Depth) -> NDArray[np.uint8] | None:
    """Return what annotated images, and those of earlier lists, look like: some, evenly spread."""
    names = [file.raw_image for file in folder.files if file.raw_image] if folder else []
    looks: list[NDArray[np.uint8]] = []
    for index in spread_evenly(len(names), _KNOWN) if names else ():
        try:
            looks.append(describe_appearance(read_image(root / RAW / names[index], depth)))
        except AnnotationError:  # a fault that convert and doctor tell
            continue
    return np.array(looks) if looks else None
