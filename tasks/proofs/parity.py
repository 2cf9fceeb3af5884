"""Proof that exported models say what the trained one says: run through their own engines on the val split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from keypipe.dataset.coco import CocoFile, to_images
from keypipe.errors import DatasetError
from keypipe.evaluation.evaluation import Detection, evaluate
from keypipe.images.media import read_image
from keypipe.inference.model_info import ModelInfo
from keypipe.inference.parity import Comparison, Difference, Parity, compare_models
from keypipe.inference.postprocess import Detections
from keypipe.inference.predictor import RawModel
from tasks.engine.door.exporting import Runtime
from tasks.grading.rules import Grading

_COCO_MAX_DETS = (
    20  # as keypipe.evaluation.evaluation: more detections an image count only where an image holds more objects
)


class Tolerance(msgspec.Struct, frozen=True):
    """How far an export may be off.

    Attributes:
        distance: for an exact export the largest difference of any keypoint or box, in pixels of the image; for a
            rounded one the 99th percentile over the keypoints of matched objects, in diagonals of their boxes.
        ap: drop of OKS AP.
        exact: whether the export computes in the precision of the weights, and so has to say the same.
    """

    distance: float
    ap: float
    exact: bool = True

    def __str__(self) -> str:
        where = "px anywhere" if self.exact else "box diagonals at the 99th percentile"
        return f"{self.distance:g} {where}, OKS AP {self.ap:g}"


class Candidate(msgspec.Struct, frozen=True):
    """An exported model that waits for its proof.

    Attributes:
        name: short name, such as ``onnx_int8``.
        title: name for people.
        path: the file or folder.
        runtime: what runs it.
        tolerance: how far it may be off.
    """

    name: str
    title: str
    path: Path
    runtime: Runtime
    tolerance: Tolerance

    @property
    def size_mb(self) -> float:
        """Size of the file, or of all that the folder holds, in MB."""
        files = [self.path] if self.path.is_file() else [file for file in self.path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files) / 1e6


class Proof(msgspec.Struct):
    """What one export was found to be.

    Attributes:
        title: name for people.
        file: its name.
        runtime: what ran it.
        size_mb: its size.
        tolerance: how far it may be off.
        oks_ap: OKS AP on the val split; None without annotated objects.
        ap_drop: OKS AP of the weights minus its own.
        parity: differences from the weights.
        worst: the keypoints that differ most.
    """

    title: str
    file: str
    runtime: str
    size_mb: float
    tolerance: Tolerance
    oks_ap: float | None
    ap_drop: float | None
    parity: Parity
    worst: list[Difference]

    def figures(self) -> dict[str, float | int]:
        """Return what is the same whenever the same weights are exported, by metric name."""
        parity = {name: value for name, value in msgspec.to_builtins(self.parity).items() if value is not None}
        own = {"oks_AP": self.oks_ap, "oks_AP_drop": self.ap_drop, "size_mb": self.size_mb}
        return parity | {name: value for name, value in own.items() if value is not None}

    def faults(self) -> list[str]:
        """Return in what respects the export is not good enough, each as the end of a sentence."""
        found = self._exact_faults() if self.tolerance.exact else self._rounded_faults()
        if self.ap_drop is not None and self.ap_drop > self.tolerance.ap:
            found.append(f"OKS AP drops by {self.ap_drop:.4f} to {self.oks_ap:.4f} (tolerance {self.tolerance.ap:g})")
        return found

    def _exact_faults(self) -> list[str]:
        parity, found = self.parity, []
        # "not <=" rather than ">": an output that is no number is at fault as well.
        if not max(parity.anchors_max_px, parity.anchors_max_box_px) <= self.tolerance.distance:
            found.append(
                f"keypoints differ by up to {parity.anchors_max_px:.3f} px, boxes by up to"
                f" {parity.anchors_max_box_px:.3f} px (tolerance {self.tolerance.distance:g})"
            )
        if parity.unmatched:
            found.append(f"{parity.unmatched} objects are found by one of the two only")
        return found

    def _rounded_faults(self) -> list[str]:
        p99 = self.parity.p99_diagonals
        if p99 is None:
            return ["no object to compare it on: lower export.conf, or train longer"]
        if not p99 <= self.tolerance.distance:
            return [
                f"keypoints differ by {p99:.3f} box diagonals ({self.parity.p99_px:.1f} px) at the 99th percentile"
                f" (tolerance {self.tolerance.distance:g})"
            ]
        return []


def prove(
    root: Path,
    truth: CocoFile,
    reference: RawModel,
    candidates: Mapping[str, tuple[Candidate, RawModel]],
    info: ModelInfo,
    grading: Grading,
    conf: float,
) -> tuple[float | None, dict[str, Proof]]:
    """Run the weights and their exports over a whole split.

    Args:
        root: the workspace.
        truth: the split's COCO file.
        reference: the weights.
        candidates: the exports and their models.
        info: classes, keypoints and input size of all of them.
        grading: how AP is measured.
        conf: score from which an object counts as found when objects are compared.

    Returns:
        OKS AP of the weights, None without annotated objects; and the proof of each export.

    Raises:
        DatasetError: the split has no images.
    """
    if not truth.images:
        raise DatasetError("the val split has no images, and exports are proven on them: raise split.val")
    images = ((image.path, read_image(root / "data" / image.path)) for image in to_images(truth))
    models = {name: model for name, (_, model) in candidates.items()}
    max_det = max_detections(truth)
    found, comparisons = compare_models(reference, models, info, images, conf, max_det)
    reference_ap = grade(truth, found, info, grading)
    return reference_ap, {
        name: _to_proof(candidates[name][0], item, reference_ap, grade(truth, item.detections, info, grading))
        for name, item in comparisons.items()
    }


def _to_proof(candidate: Candidate, comparison: Comparison, reference_ap: float | None, ap: float | None) -> Proof:
    return Proof(
        title=candidate.title,
        file=candidate.path.name,
        runtime=candidate.runtime.name,
        size_mb=candidate.size_mb,
        tolerance=candidate.tolerance,
        oks_ap=ap,
        ap_drop=None if reference_ap is None or ap is None else reference_ap - ap,
        parity=comparison.parity,
        worst=comparison.worst,
    )


def max_detections(truth: CocoFile) -> int:
    """Return how many detections of an image can count for AP, over all classes together."""
    objects = Counter(item.image_id for item in truth.annotations)
    return max(_COCO_MAX_DETS, *objects.values(), 0) * len(truth.categories)


def grade(truth: CocoFile, found: Sequence[Detections], info: ModelInfo, grading: Grading) -> float | None:
    """Measure OKS AP of what a model found on each image of a split; None without annotated objects."""
    detections = [
        detection
        for image, of_image in zip(truth.images, found, strict=True)
        for detection in to_evaluation(image.id, of_image, info)
    ]
    evaluation = evaluate(truth, detections, grading.sigmas, grading.area_factor, area_rule=grading.area_rule)
    return evaluation.oks["AP"]


def to_evaluation(image_id: int, found: Detections, info: ModelInfo) -> Iterator[Detection]:
    """Give detections of an image their COCO ids, and each only the keypoints that its class has."""
    slots = [info.schema.slot_indices(name) for name in info.class_names]
    columns = (found.class_ids.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), found.keypoints)
    for class_id, score, (left, top, right, bottom), points in zip(*columns, strict=True):
        box = (left, top, right - left, bottom - top)
        yield Detection(image_id, class_id + 1, score, box, points[slots[class_id]].ravel().tolist())
