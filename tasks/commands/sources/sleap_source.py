"""SLEAP's files by way of sleap-io: user's instances to the neutral model, frames of videos to images."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from keypipe.errors import AnnotationError, needs_extra
from keypipe.exchange.labels import LabelledImage, LabelSet, add_object, merge_schemas
from keypipe.keypoints.instances import Keypoint, Visibility
from keypipe.keypoints.names import normal_form
from keypipe.keypoints.skeleton import Schema, Skeleton
from tasks.progress import Progress, follow


def read_sleap(source: Path, frames: Path, class_name: str | None, box_margin: float, tell: Progress) -> LabelSet:
    """Read a ``.slp`` or ``.pkg.slp``, and write its annotated frames as images.

    Args:
        source: the file.
        frames: an empty folder, which gets the images.
        class_name: what to call the animals; default: the name of their skeleton.
        box_margin: margin of boxes, which are derived from the points, as a share of the longer side of their extent.
        tell: is told how far it is.

    Returns:
        An image for every annotated frame, under its path below ``frames``. Predicted instances are left out.

    Raises:
        AnnotationError: not such a file, a skeleton with a name twice, or a frame whose video cannot be read.
        PoseError: sleap-io is not installed.
    """
    with needs_extra("sleap-io", "sleap"):
        import sleap_io
    try:
        loaded = sleap_io.load_slp(str(source))
    except Exception as error:
        raise AnnotationError(f"{source.name}: cannot be read as a file of SLEAP: {str(error)[:200]}") from error
    classes = {id(skeleton): class_name or skeleton.name or "animal" for skeleton in loaded.skeletons}
    labels = LabelSet(Schema({}), [], Counter(), Counter(), [])
    for skeleton in loaded.skeletons:
        name = classes[id(skeleton)]
        labels.schema = merge_schemas(labels.schema, Schema({name: read_skeleton(skeleton, name, source.name)}))
    for frame in follow(loaded.labeled_frames, "reading labels", tell):
        labels.losses["predicted instances"] += len(frame.predicted_instances)
        if not frame.user_instances:
            continue
        image = LabelledImage(_write_frame(frame, frames, source), [])
        for instance in frame.user_instances:
            name = classes.get(id(instance.skeleton), class_name or "animal")
            add_object(labels, image, name, None, _read_points(instance), box_margin)
        labels.images.append(image)
    labels.losses += Counter()  # drops what was counted 0 times
    return labels


def read_skeleton(skeleton: Any, class_name: str, file: str) -> Skeleton:
    """Return a skeleton with its names in the normal form.

    Args:
        skeleton: sleap-io's.
        class_name: of its animals, for the message.
        file: its file, for the message.

    Raises:
        AnnotationError: a node has no name, or several have one.
    """
    names = tuple(_name(name) for name in skeleton.node_names)
    for name, count in Counter(names).items():
        if count > 1 or not name:
            lack = f"{count} nodes called {name!r}" if name else "a node without a name"
            raise AnnotationError(f"{file}: the skeleton {class_name!r} has {lack}; rename them in SLEAP, and save it")
    return Skeleton(
        names,
        tuple((_name(a), _name(b)) for a, b in skeleton.edge_names),
        tuple((_name(a), _name(b)) for a, b in skeleton.symmetry_names),
    )


def _name(node: object) -> str:
    return normal_form(str(node))


def _read_points(instance: Any) -> dict[str, Keypoint]:
    """Return the points that have a place; one that SLEAP has as not visible is occluded."""
    found: dict[str, Keypoint] = {}
    for name, point in zip(instance.skeleton.node_names, instance.points, strict=True):
        x, y = (float(value) for value in point["xy"])
        if math.isfinite(x) and math.isfinite(y):
            state = Visibility.VISIBLE if bool(point["visible"]) else Visibility.OCCLUDED
            found[_name(name)] = Keypoint(x, y, state)
    return found


def _write_frame(frame: Any, folder: Path, source: Path) -> str:
    """Write a frame as PNG, which loses nothing; return its path below the folder."""
    from PIL import Image

    file = frame.video.filename
    written = file[frame.frame_idx] if isinstance(file, list) else file
    stem = PureWindowsPath(str(written)).stem
    name = stem if isinstance(file, list) else f"{stem}/{stem}_{frame.frame_idx:06d}"
    path = folder / f"{name}.png"
    number = 2
    while path.exists():
        path = folder / f"{name}_{number}.png"
        number += 1
    try:
        pixels = frame.image
    except Exception as error:
        raise AnnotationError(f"{source.name}: frame {frame.frame_idx} of {written}: {str(error)[:200]}") from error
    if pixels is None:
        raise AnnotationError(
            f"{source.name}: {written} is not there, so that its frames cannot be read; put the video back,"
            " or save the project in SLEAP as a training package (.pkg.slp), which holds the frames"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)
    return str(PurePosixPath(path.relative_to(folder)))
