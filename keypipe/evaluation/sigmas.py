"""Sigmas of the evaluation: one for all keypoints, a list, COCO's of the human body, or estimated from repetitions.

COCO had 5000 images annotated twice and more and takes for each keypoint ``sigma_i**2 = E[d_i**2 / s**2]``: ``d_i`` is
the distance of an annotation from the truth, ``s**2`` the object's area
(https://cocodataset.org/#keypoints-eval, "Tuning OKS"). docs/evaluation.md derives what is done here with a few people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from keypipe.dataset.yolo import expand_sigmas
from keypipe.errors import ConfigError, DatasetError
from keypipe.evaluation.matching import MATCH_IOU
from keypipe.evaluation.oks import AREA_FACTOR, AreaRule
from keypipe.keypoints.boxes import Array, box_iou
from keypipe.keypoints.instances import AnnotatedImage, Instance
from keypipe.keypoints.names import normal_form
from keypipe.keypoints.skeleton import Schema

SIGMAS_FILE = "data/sigmas.yaml"
"""The one place of estimated sigmas: a stage depends on it, and DVC's dependencies are fixed."""

COCO_PERSON = "coco-person"

COCO_PERSON_SIGMAS = {
    "nose": 0.026,
    "left_eye": 0.025,
    "right_eye": 0.025,
    "left_ear": 0.035,
    "right_ear": 0.035,
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
}
"""From pycocotools ``Params.setKpParams``."""

FEW_REPETITIONS = 30
"""With so many the standard error of a sigma from two annotators is about 1 / (2 * sqrt(30)) = 9 %."""

_INTERVAL = (0.025, 0.975)

SigmaSetting = float | list[float] | dict[str, float] | str


class SigmaFile(msgspec.Struct):
    """What ``keypipe sigmas`` leaves: sigmas by keypoint, and the rule by which the object's area was taken."""

    area_rule: AreaRule
    area_factor: float
    sigmas: dict[str, float]


def resolve_sigmas(
    setting: SigmaSetting,
    slots: Sequence[str],
    name: str,
    *,
    measured: SigmaFile | None = None,
    area_rule: AreaRule = "box",
    area_factor: float = AREA_FACTOR,
) -> Array:
    """Give every keypoint its sigma.

    Args:
        setting: a number, a list in slot order, sigmas by keypoint, ``coco-person``, or ``SIGMAS_FILE``.
        slots: keypoint names.
        name: the parameter's name, for the message.
        measured: what ``SIGMAS_FILE`` holds; None where it holds nothing.
        area_rule: by which OKS will take the object's area.
        area_factor: share of the box, under the rule ``box``.

    Returns:
        float64 (n_slots,), shares of the square root of the object's area.

    Raises:
        ConfigError: the setting does not fit the keypoints, the file is empty or made by another area rule.
    """
    if isinstance(setting, Mapping):
        return _by_name(setting, slots, name, "add them")
    if setting == COCO_PERSON:
        if set(slots) != set(COCO_PERSON_SIGMAS):
            raise ConfigError(
                f"{name}: {COCO_PERSON} is for the 17 keypoints of COCO's persons ({', '.join(COCO_PERSON_SIGMAS)}),"
                f" the schema has {len(slots)} ({', '.join(slots)}); give one number, a list, or estimate them with"
                " `keypipe sigmas`"
            )
        return np.array([COCO_PERSON_SIGMAS[slot] for slot in slots])
    if isinstance(setting, str):
        if setting != SIGMAS_FILE:
            raise ConfigError(
                f"{name}: expected a number, a list, {COCO_PERSON} or {SIGMAS_FILE}, got {setting!r};"
                f" sigmas from another file go into {SIGMAS_FILE}, which the stage depends on"
            )
        if measured is None:
            raise ConfigError(f"{name}: {SIGMAS_FILE} holds no sigmas; make it with `keypipe sigmas FOLDER FOLDER`")
        same_factor = area_rule == "coco" or measured.area_factor == area_factor
        if measured.area_rule != area_rule or not same_factor:
            raise ConfigError(
                f"{name}: the sigmas of {SIGMAS_FILE} were estimated with area_rule {measured.area_rule}, area_factor"
                f" {measured.area_factor:g}, and validate has {area_rule}, {area_factor:g}; run `keypipe sigmas` again"
            )
        return _by_name(measured.sigmas, slots, f"{name}: {SIGMAS_FILE}", "let more people annotate them")
    return expand_sigmas(setting, len(slots), name)


def _by_name(sigmas: Mapping[str, float], slots: Sequence[str], name: str, advice: str) -> Array:
    sigmas = {normal_form(key): sigma for key, sigma in sigmas.items()}
    missing = [slot for slot in slots if slot not in sigmas]
    if missing:
        raise ConfigError(f"{name}: no sigma for {', '.join(missing)}; {advice}")
    unknown = [key for key in sigmas if key not in slots]
    if unknown:
        raise ConfigError(f"{name}: {', '.join(unknown)} is no keypoint of the schema; remove it")
    return expand_sigmas([sigmas[slot] for slot in slots], len(slots), name)


# ------------------------------------------------------------------------------------ estimation


class RepeatedObject(msgspec.Struct, frozen=True):
    """One object as several people annotated it: the image's path, and what each of at least two made of it."""

    path: str
    instances: tuple[Instance, ...]


class Repetitions(msgspec.Struct, frozen=True):
    """What several folders have in common.

    Attributes:
        objects: annotated by two people or more.
        images: images that two folders or more hold.
        alone: objects on these images that one person alone has.
    """

    objects: list[RepeatedObject]
    images: int
    alone: int


class KeypointSigma(msgspec.Struct, frozen=True):
    """The sigma of one keypoint.

    Attributes:
        keypoint: its name.
        repetitions: objects on which two people or more labelled it.
        sigma: the estimate; None without repetitions.
        low: lower bound of its 95 % interval, for normal deviations.
        high: upper bound.
        median_px: median distance of two people's points, pixels.
        largest_px: largest distance of two people's points.
        largest_path: image of the largest distance.
    """

    keypoint: str
    repetitions: int
    sigma: float | None = None
    low: float | None = None
    high: float | None = None
    median_px: float | None = None
    largest_px: float | None = None
    largest_path: str = ""


def match_annotators(folders: Sequence[Sequence[AnnotatedImage]]) -> Repetitions:
    """Find the objects that several people annotated.

    Images are the same when their bytes or else their paths are; objects of one class when their boxes overlap with IoU
    >= ``MATCH_IOU``, assigned such that the overlaps' sum is largest.

    Args:
        folders: the images of each person.

    Raises:
        DatasetError: no image is in two folders.
    """
    by_image: dict[str, list[AnnotatedImage]] = {}
    key_of_path: dict[str, str] = {}
    for images in folders:
        taken: set[str] = set()
        for image in images:
            key = image.md5 if image.md5 in by_image else key_of_path.get(image.path, image.md5)
            if key in taken:  # a second copy of an image within one folder is not a second opinion
                continue
            taken.add(key)
            key_of_path.setdefault(image.path, key)
            by_image.setdefault(key, []).append(image)
    shared = [images for images in by_image.values() if len(images) > 1]
    if not shared:
        raise DatasetError(
            "no image is in two of the folders; let each person annotate a copy of the same images, in their own folder"
        )
    objects: list[RepeatedObject] = []
    alone = 0
    for images in sorted(shared, key=lambda members: members[0].path):
        for group in _match_objects([image.instances for image in images]):
            if len(group) > 1:
                objects.append(RepeatedObject(images[0].path, tuple(group)))
            else:
                alone += 1
    return Repetitions(objects, len(shared), alone)


def _match_objects(annotations: Sequence[Sequence[Instance]]) -> list[list[Instance]]:
    """Gather the instances of one image that are the same object."""
    from scipy.optimize import linear_sum_assignment

    groups: list[list[Instance]] = []
    for instances in annotations:
        overlap = np.zeros((len(instances), len(groups)))
        if instances and groups:
            boxes = np.array([np.mean([item.box_xyxy for item in group], axis=0) for group in groups])
            overlap = box_iou(np.array([item.box_xyxy for item in instances])[:, None], boxes)
            other = [[item.class_name != group[0].class_name for group in groups] for item in instances]
            overlap[np.array(other)] = 0.0
        rows, columns = (axis.tolist() for axis in linear_sum_assignment(overlap, maximize=True))
        joined = {row: column for row, column in zip(rows, columns, strict=True) if overlap[row, column] >= MATCH_IOU}
        for index, instance in enumerate(instances):
            if index in joined:
                groups[joined[index]].append(instance)
            else:
                groups.append([instance])
    return groups


def estimate_sigmas(
    objects: Sequence[RepeatedObject], schema: Schema, area_factor: float = AREA_FACTOR
) -> list[KeypointSigma]:
    """Estimate the sigma of every keypoint from repeated annotation.

    An object with m annotations of a keypoint gives ``sum(|x_j - mean|**2) / area`` with m - 1 degrees of freedom;
    sigma squared is the sum of the former over the sum of the latter. With two people that is half their squared
    distance: the difference of two has twice the variance of one. An error that all of them share is not in it.

    Args:
        objects: annotated by two people or more.
        schema: classes and keypoints; a keypoint that classes share is pooled over them.
        area_factor: share of the box's area that stands for the object's.

    Returns:
        An entry for each slot.
    """
    return [_estimate(slot, objects, area_factor) for slot in schema.slots]


def _estimate(slot: str, objects: Sequence[RepeatedObject], area_factor: float) -> KeypointSigma:
    squares, freedom = 0.0, 0
    distances: list[float] = []
    paths: list[str] = []
    for item in objects:
        points = np.array(
            [(i.keypoints[slot].x, i.keypoints[slot].y) for i in item.instances if slot in i.keypoints], dtype=float
        ).reshape(-1, 2)
        if len(points) < 2:
            continue
        sizes = np.array([(b[2] - b[0], b[3] - b[1]) for b in (instance.box_xyxy for instance in item.instances)])
        area = area_factor * float(sizes.prod(1).mean())
        squares += float(((points - points.mean(0)) ** 2).sum()) / area
        freedom += len(points) - 1
        distances.append(float(np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1)).max()))
        paths.append(item.path)
    if not distances:
        return KeypointSigma(slot, 0)
    from scipy.stats import chi2

    # Two coordinates deviate independently, so there are twice as many squares.
    low, high = (float(np.sqrt(2 * squares / chi2.ppf(1 - tail, 2 * freedom))) for tail in _INTERVAL)
    worst = int(np.argmax(distances))
    return KeypointSigma(
        slot,
        len(distances),
        float(np.sqrt(squares / freedom)),
        low,
        high,
        float(np.median(distances)),
        distances[worst],
        paths[worst],
    )


def format_sigmas(sigmas: Sequence[KeypointSigma], area_rule: AreaRule, area_factor: float) -> str:
    """Format the YAML file of estimated sigmas; keypoints without one are left out.

    Args:
        sigmas: the estimates.
        area_rule: by which the object's area was taken.
        area_factor: share of the box, under the rule ``box``.
    """
    lines = [
        "# Estimated by `keypipe sigmas` from objects that several people annotated; docs/evaluation.md tells how.",
        f"# `validate.sigma: {SIGMAS_FILE}` takes it; the mapping can also be pasted under validate.sigma.",
        f"area_rule: {area_rule}",
        f"area_factor: {area_factor:g}",
        "sigmas:",
    ]
    for entry in sigmas:
        if entry.sigma:
            name = msgspec.json.encode(entry.keypoint).decode()  # quoted: a name may be a number
            lines.append(f"  {name}: {entry.sigma:.4f}  # {entry.repetitions} repetitions")
    return "\n".join(lines) + "\n"
