"""Labels that are likely wrong, as a work list for labelme and a page that shows both versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from keypipe.drawing.pictures import draw_comparison, encode_jpeg
from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.images.depth import Depth
from keypipe.images.media import read_image
from keypipe.keypoints.skeleton import Schema
from keypipe.ranking.suspects import KINDS, LIMIT, Seen, Suspect, find_suspects
from keypipe.report.page import Figure, Gallery, Picture, Report, Section, Table
from tasks.convert import ConvertParams
from tasks.labelling.held_out import predict_held_out
from tasks.pages.reports import write_report
from tasks.progress import Progress, follow
from tasks.workspace import params as read
from tasks.workspace.dataset import read_schema
from tasks.workspace.places import REPORT_HTML, report_folder
from tasks.workspace.program import replacing

REPORT = report_folder("relabel")
_PICTURES = 60
_PICTURE_PX = 360


class Relabelling(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        suspects: the likeliest first.
        images: their images relative to ``data/raw``, the likeliest first, as many as were wanted; those that exist in
            a JSON alone are left out.
        looked_at: number of images.
        page: the page for people.
    """

    suspects: list[Suspect]
    images: list[str]
    looked_at: int
    page: Path

    def __str__(self) -> str:
        objects = format_count(len(self.suspects), "object")
        images = format_count(len({found.image for found in self.suspects}), "image")
        return f"{objects} on {images} of {self.looked_at} with labels that are likely wrong"


def relabel(root: Path, count: int, progress: Progress, epochs: int | None = None) -> Relabelling:
    """Find labels that are likely wrong, by models that have not learnt from them, and write the page.

    Args:
        root: the workspace.
        count: images on the work list at most.
        progress: is told how far it is.
        epochs: of each fold's training, instead of ``train.epochs``.

    Raises:
        ConfigError: there are no folds, or the parameters are wrong.
        PoseError: a training fails.
    """
    if count < 1 or (epochs is not None and epochs < 1):
        raise ConfigError(f"--next and --epochs should be 1 or more, got {count} and {epochs}")
    seen = predict_held_out(root, progress, epochs)
    schema = read_schema(root)
    suspects = find_suspects(seen, schema)
    depth = read.load_section(read.read_params(root), "convert", ConvertParams).depth
    pictures = draw_suspects(root, suspects[:_PICTURES], seen, schema, depth, progress)
    with replacing(root, REPORT) as report:
        report.mkdir()
        write_report(report, _summarise(suspects, len(seen)), _to_page(suspects, len(seen), pictures))
    of_raw = (found.image.removeprefix("raw/") for found in suspects if found.image.startswith("raw/"))
    return Relabelling(suspects, list(dict.fromkeys(of_raw))[:count], len(seen), root / REPORT / REPORT_HTML)


def _summarise(suspects: Sequence[Suspect], n_images: int) -> dict[str, Any]:
    counts = Counter(found.kind for found in suspects)
    return {
        "headline": f"{len(suspects)} suspects on {n_images} images",
        "images": n_images,
        "limit": LIMIT,
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "suspects": suspects,
    }


def draw_suspects(
    root: Path, suspects: Sequence[Suspect], seen: Sequence[Seen], schema: Schema, depth: Depth, progress: Progress
) -> list[Picture]:
    """Draw each suspected object as it is labelled beside what the model sees, with a ring around the worst keypoint.

    Args:
        root: the workspace.
        suspects: to be drawn.
        seen: all images with their predictions.
        schema: classes and skeletons.
        depth: what becomes of samples of more than 8 bits.
        progress: is told how far it is.
    """
    by_image = {item.image.path: item for item in seen}
    pictures: list[Picture] = []
    for number, found in enumerate(follow(suspects, "pictures drawn", progress), start=1):
        try:
            pixels = np.ascontiguousarray(read_image(root / "data" / found.image, depth)[..., ::-1])
        except AnnotationError:
            continue
        item = by_image[found.image]
        instances = [item.image.instances[found.number]] if found.number is not None else []
        predictions = [other for other in item.predictions if _is_near(found, other.box_xyxy)]
        both = (found.labelled[0], found.predicted[0]) if found.labelled and found.predicted else None
        drawn = draw_comparison(
            pixels,
            instances,
            predictions,
            schema,
            culprit=both,
            longest_side_px=_PICTURE_PX,
            titles=("labelled", "held-out model"),
        )
        caption = f"{number}. {found.kind}: {', '.join(found.keypoints) or found.class_name}"
        pictures.append(Picture(encode_jpeg(drawn), caption, f"{found.source}, score {found.score:.1f}"))
    return pictures


def _is_near(found: Suspect, box: tuple[float, float, float, float]) -> bool:
    """Tell whether a box has its centre in the suspect's."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    left, top, right, bottom = found.box_xyxy
    return left <= x <= right and top <= y <= bottom


def _to_page(suspects: Sequence[Suspect], n_images: int, pictures: Sequence[Picture]) -> Report:
    counts = Counter(found.kind for found in suspects)
    rows = [[kind, counts[kind], text] for kind, text in KINDS.items() if counts[kind]]
    note = (
        "Left as it is labelled, right what a model sees that has not learnt from this image; a ring marks the keypoint"
        " that is farthest off. The likeliest first. A model is no authority: look, and leave what is right."
    )
    listed = [
        [number, found.score, found.kind, found.source, found.class_name, ", ".join(found.keypoints)]
        for number, found in enumerate(suspects, start=1)
    ]
    sections: list[Section] = [
        Table("What was found", ["Kind", "Objects", "What it is"], rows),
        Gallery("Both versions", pictures, note=note, min_width_px=420),
        Table("All of them", ["", "Score", "Kind", "File", "Class", "Keypoints"], listed),
    ]
    figures = [Figure("Images", n_images), Figure("Suspected objects", len(suspects))]
    headline = f"{len(suspects)} objects on {n_images} images whose labels are likely wrong"
    return Report("Labels that are likely wrong", headline, sections, figures, "relabel")
