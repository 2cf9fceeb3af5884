"""Images that are there twice, and above all those in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from keypipe.diagnosis.findings import Finding, Severity
from keypipe.keypoints.instances import AnnotatedImage

_SAME_PX = 0.02  # share of the image's longer side within which two annotations of a keypoint are the same


def find_duplicates(
    images: Sequence[AnnotatedImage], splits: Mapping[str, str], clusters: Sequence[Sequence[str]] = ()
) -> list[Finding]:
    """Find images with equal bytes, and images that look the same.

    Args:
        images: all images, in any order.
        splits: split of each image, by its path; images without one may be missing.
        clusters: md5s of images that look the same (``pixels.near_duplicates``).

    Returns:
        For every image but the first of each group one finding; it names an earlier one, if there is one in another
        split.
    """
    by_md5: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for image in sorted(images, key=lambda item: item.path):
        by_md5[image.md5].append(image)
    findings = [found for same in by_md5.values() for found in _compare(same, splits, near=False)]
    for cluster in clusters:
        # Of copies one that has a split stands for all.
        ones = (min(by_md5[md5], key=lambda item: not splits.get(item.path)) for md5 in cluster if md5 in by_md5)
        findings += _compare(sorted(ones, key=lambda item: item.path), splits, near=True)
    return findings


def _compare(alike: Sequence[AnnotatedImage], splits: Mapping[str, str], *, near: bool) -> list[Finding]:
    """Compare each image with an earlier one: the first in another split, else the first of all."""
    findings: list[Finding] = []
    for number, image in enumerate(alike[1:], start=1):
        split = splits.get(image.path, "")
        elsewhere = (other for other in alike[:number] if split and splits.get(other.path, split) not in {"", split})
        findings.append(_to_finding(image, next(elsewhere, alike[0]), splits, near=near))
    return findings


def _to_finding(image: AnnotatedImage, first: AnnotatedImage, splits: Mapping[str, str], *, near: bool) -> Finding:
    split, other_split = splits.get(image.path, ""), splits.get(first.path, "")
    across = bool(split and other_split and split != other_split)
    name = first.path.partition("/")[2]
    message = f"looks like {name}" if near else f"has the same bytes as {name}"
    if across:
        message += f", which is in {other_split}, while this one is in {split}"
        fix = "leave one of the two out, or put both in one split"
    else:
        fix = "leave one of them out, unless both are meant" if near else "leave one of them out"
    if not near and not _annotated_alike(image, first):
        message += "; the two are annotated differently"
    severity: Severity = ("warning" if across else "info") if near else ("error" if across else "warning")
    kind = ("near-" if near else "") + ("duplicate-across-sides" if across else "duplicate-image")
    return Finding(
        kind=kind,
        severity=severity,
        file=image.source,
        message=message,
        fix=fix,
        split=split,
        image=image.path,
        others=(first.source, first.path),
    )


def _annotated_alike(image: AnnotatedImage, other: AnnotatedImage) -> bool:
    if len(image.instances) != len(other.instances):
        return False
    slack = _SAME_PX * max(image.size_wh)
    by_place = [
        sorted(item.instances, key=lambda instance: (instance.class_name, instance.box_xyxy)) for item in (image, other)
    ]
    for one, two in zip(*by_place, strict=True):
        if one.class_name != two.class_name or one.keypoints.keys() != two.keypoints.keys():
            return False
        pairs = [(one.keypoints[name], two.keypoints[name]) for name in one.keypoints]
        if any(abs(a.x - b.x) > slack or abs(a.y - b.y) > slack for a, b in pairs):
            return False
    return True
