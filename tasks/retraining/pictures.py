"""Pictures of the test images on which the model in use and its challenger differ most, on a page of their own.

They are apart from the gate's page, which holds none, so that a page that is sent around shows nobody's images.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset.coco import to_images
from keypipe.drawing.pictures import draw_comparison, encode_jpeg
from keypipe.evaluation.gallery import ImageScore, describe_score, score_images
from keypipe.evaluation.matching import Detection
from keypipe.images.media import read_image
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import Schema
from keypipe.report.page import Gallery, Picture, Report, render_report
from tasks.grading.rules import GradingParams, to_grading
from tasks.pages.validation import to_prediction
from tasks.retraining.judging import recall
from tasks.retraining.jury import TEST
from tasks.retraining.settings import PICTURES
from tasks.workspace import params as read
from tasks.workspace.dataset import read_schema, read_split
from tasks.workspace.places import ONNX

_SIDE_PX = 320


def draw_differences(root: Path, champion_sha256: str, count: int, budget_mb: float) -> list[Picture]:
    """Draw the test images on which the models that the gate has just compared differ most.

    Args:
        root: the workspace, whose export is the challenger.
        champion_sha256: hash of the network in use.
        count: images at most; each is drawn for both models.
        budget_mb: what all pictures may take together.

    Returns:
        Two pictures for each image, the model in use first; none where one of them has other keypoints or classes.
    """
    schema, truth = read_schema(root), read_split(root, TEST)
    document = read.read_params(root)
    params = read.load_section(document, "validate", GradingParams)
    grading = to_grading(params, schema, root)
    challenger = hashlib.sha256((root / ONNX).read_bytes()).hexdigest()
    seen = {"in use": recall(root, champion_sha256), "challenger": recall(root, challenger)}
    both = [image for image in truth.images if all(image.md5 in memory for memory in seen.values())]
    ids = {image.id for image in both}
    annotations = [item for item in truth.annotations if item.image_id in ids]
    truth = msgspec.structs.replace(truth, images=both, annotations=annotations)
    found: dict[str, list[list[Detection]]] = {}
    scores: dict[str, list[ImageScore]] = {}
    for name, memory in seen.items():
        found[name] = [
            [
                msgspec.structs.replace(one, image_id=image.id)
                for one in memory[image.md5]
                if one.score >= params.conf and _fits(one, schema)
            ]
            for image in both
        ]
        counted = [one for ones in found[name] for one in ones]
        scores[name] = score_images(truth, counted, grading.sigmas, grading.area_factor, area_rule=grading.area_rule)
    images = to_images(truth)
    apart = sorted(range(len(both)), key=lambda index: -abs(scores["in use"][index].score - _of(scores, index)))
    drawn: list[Picture] = []
    left = budget_mb * 1e6
    for index in apart[:count]:
        pixels = np.ascontiguousarray(read_image(root / "data" / images[index].path)[..., ::-1])
        pair = [_draw(pixels, images[index], found[name][index], scores[name][index], schema, name) for name in seen]
        left -= sum(len(picture.jpeg) for picture in pair)
        if left < 0:
            break
        drawn += pair
    return drawn


def _of(scores: dict[str, list[ImageScore]], index: int) -> float:
    return scores["challenger"][index].score


def _fits(detection: Detection, schema: Schema) -> bool:
    """Tell whether an object is of a class with keypoints that the dataset has."""
    if not 1 <= detection.category_id <= len(schema.class_names):
        return False
    name = schema.class_names[detection.category_id - 1]
    return len(detection.keypoints) == 3 * len(schema.classes[name].keypoints)


def _draw(
    pixels: NDArray[np.uint8],
    image: AnnotatedImage,
    detections: Sequence[Detection],
    score: ImageScore,
    schema: Schema,
    name: str,
) -> Picture:
    drawn = draw_comparison(
        pixels,
        image.instances,
        [to_prediction(detection, schema) for detection in detections],
        schema,
        culprit=(score.culprit.true, score.culprit.predicted) if score.culprit else None,
        missed=score.missed_xyxy,
        longest_side_px=_SIDE_PX,
        titles=("annotated", name),
    )
    return Picture(encode_jpeg(drawn), f"{name}: {image.path}", describe_score(score))


def to_page(pictures: Sequence[Picture]) -> str:
    """Return the page of pictures."""
    note = "The test images whose scores differ most between the model in use and its challenger, in that order."
    gallery = Gallery("Where the models differ", pictures, note, min_width_px=420)
    headline = f"{len(pictures) // 2} test images as both models see them"
    return render_report(Report("What the models see", headline, [gallery], [], "retraining"))


def expire(root: Path, keep_days: float) -> bool:
    """Remove the page where it is older than it may be; returns whether it was."""
    path = root / PICTURES
    if not path.exists() or time.time() - path.stat().st_mtime < keep_days * 86400:
        return False
    path.unlink()
    return True
