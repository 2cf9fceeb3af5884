"""Checks of single images by what their pixels told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from keypipe.diagnosis.findings import Finding
from keypipe.images.pixels import PixelFacts
from keypipe.keypoints.instances import AnnotatedImage

_FEW_LEVELS = 16  # of 256: what is left of 12 bits in a 16-bit file
_FEW_OF_MANY = 64  # of 256, of an image that has more to give: what is left of 14 bits


def find_narrow_ranges(images: Sequence[AnnotatedImage], facts: Mapping[str, PixelFacts]) -> list[Finding]:
    """Find images of which a model sees few levels of brightness.

    Args:
        images: all of them.
        facts: of their pixels, by md5.

    Returns:
        A warning for each image of more than 8 bits, a note for each other one.
    """
    findings: list[Finding] = []
    for image in images:
        fact = facts[image.md5]
        if fact.error or fact.phash is None or fact.levels > (_FEW_OF_MANY if fact.deep else _FEW_LEVELS):
            continue
        cut = ", since of its 16 bits a model is given the upper 8" if fact.deep else ""
        fix = "set convert.depth: scale" if fact.deep else "look whether it is exposed rightly; leave it out otherwise"
        findings.append(
            Finding(
                kind="narrow-range",
                severity="warning" if fact.deep else "info",
                file=image.source,
                message=f"it spans {fact.levels} of 256 levels of brightness{cut}",
                fix=fix,
                image=image.path,
            )
        )
    return findings
