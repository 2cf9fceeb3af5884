"""What the diagnosis finds: its kinds, how grave they are, and where in the annotations they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from keypipe.errors import Fault
from keypipe.keypoints.boxes import Box

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""From the gravest. Errors make a model or its figures wrong; warnings are probably mistakes; infos are to know."""

Point = tuple[float, float]


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding: a heading, and why it matters."""

    title: str
    why: str


KINDS: dict[str, Kind] = {
    "broken-json": Kind("Annotations that cannot be read", "Nothing in such a file can be used."),
    "not-readable": Kind(
        "What cannot be read", "Links to nothing or to folders, and files without permission, are in no version."
    ),
    "no-image": Kind("Annotations without an image", "There is nothing to learn from."),
    "image-not-read": Kind("Images of a format that is not read", "They are there, and cannot be learnt from."),
    "image-without-range": Kind(
        "Images of floating point or 32-bit numbers", "Nothing tells which of them are black and which are white."
    ),
    "several-images": Kind("Annotations that several images could belong to", "A guess would learn a wrong picture."),
    "bad-image": Kind("Images that are damaged or truncated", "Missing pixels are read as grey, or stop a training."),
    "size-mismatch": Kind(
        "Annotated on an image of another size", "The points lie in the wrong places of the image that is there now."
    ),
    "image-claimed-twice": Kind(
        "One image with several annotations", "The same pixels would be learnt with different answers."
    ),
    "duplicate-across-sides": Kind(
        "The same image in two splits", "The model is graded on what it has learnt by heart."
    ),
    "several-boxes-in-group": Kind(
        "Groups with several boxes", "Nothing tells which of the objects the points of the group belong to."
    ),
    "repeated-keypoint": Kind(
        "Keypoints that are there twice", "An object has one place for each keypoint; one of the two is wrong."
    ),
    "one-name": Kind("One name for every point", "Nothing says which point of an object is which keypoint."),
    "outline-without-box": Kind(
        "Objects outlined by polygons or masks, without a rectangle", "They would be taught as background."
    ),
    "circle-for-keypoint": Kind("Keypoints drawn as circles", "They would be taught as not labelled."),
    "ambiguous-keypoint": Kind("Keypoints that could belong to several objects", "A wrong choice teaches nonsense."),
    "keypoint-without-object": Kind("Keypoints without an object", "YOLO learns keypoints only inside a box."),
    "keypoint-of-other-class": Kind("Keypoints that the class does not have", "Either label or group is wrong."),
    "keypoint-outside-image": Kind(
        "Keypoints outside the image", "Ultralytics drops the whole image for one of them, with only a warning."
    ),
    "not-in-pixels": Kind(
        "Annotations in shares of the image", "As pixels all of them lie in the image's first corner."
    ),
    "bad-box": Kind("Boxes without an area", "They cannot be learnt."),
    "bad-point": Kind("Point shapes with more than one position", "Which one is meant is not known."),
    "left-right-swap": Kind(
        "Left and right probably exchanged", "A model that sees both answers learns to put the point between them."
    ),
    "exchanged-keypoints": Kind(
        "Keypoint names probably exchanged", "A model that sees both answers learns to put the point between them."
    ),
    "keypoint-outlier": Kind(
        "Keypoints far from where the others put them", "One wrong click weighs as much as many good ones."
    ),
    "unusual-shape": Kind("Objects of an unusual shape", "Perhaps an odd pose; perhaps several points are wrong."),
    "keypoint-outside-box": Kind(
        "Keypoints far outside their box", "Box or point is wrong, or the point belongs to another object."
    ),
    "no-keypoints": Kind("Objects without any keypoint", "They teach the box alone; usually they were forgotten."),
    "missing-keypoint": Kind(
        "Keypoints missing that the class nearly always has", "The model learns that the point is not there."
    ),
    "duplicate-object": Kind(
        "Objects that are annotated twice", "One of the two can never be found, and costs recall."
    ),
    "narrow-range": Kind("Images that use a sliver of their range", "A model is given a nearly black or even picture."),
    "tiny-box": Kind(
        "Boxes too small to be learnt", "At the model's input the object is smaller than one cell of its finest grid."
    ),
    "decided-by-list-order": Kind(
        "Keypoints that only list order could give to an object", "A guess; a group_id makes it certain."
    ),
    "misspelt-label": Kind("Labels that look misspelt", "Shapes with them are ignored."),
    "look-alike-names": Kind(
        "Classes or keypoints whose names look like one", "If they mean the same, each is learnt by half."
    ),
    "other-spelling": Kind(
        "Labels that are spelt otherwise", "They are read as the name that they look like; one spelling is surer."
    ),
    "wrong-shape-type": Kind("Known labels on other shapes", "Boxes must be rectangles and keypoints points."),
    "unknown-label": Kind("Labels outside the schema", "Shapes with them are ignored."),
    "near-duplicate-across-sides": Kind(
        "Nearly the same image in two splits", "The test is easier than the world, and flatters the model."
    ),
    "transformed-copy-across-sides": Kind(
        "Mirrored, turned or relit copies in two splits", "The model is graded on what it has learnt, seen otherwise."
    ),
    "duplicate-image": Kind("The same image several times", "It weighs double, and may be annotated differently."),
    "near-duplicate-image": Kind(
        "Images that look the same", "Frames of one scene teach little; they must stay in one split."
    ),
    "shared-group": Kind(
        "Groups that several objects share", "Where they come close, nothing tells whose points are whose."
    ),
    "image-found-elsewhere": Kind(
        "Images found in another place than their annotations say", "Another image of that name would be taken as well."
    ),
    "image-format": Kind("Images whose bytes are not what their name says", "Some programs will refuse them."),
    "unlabelled-image": Kind(
        "Images without annotations", "They are ignored, unless convert.unlabelled_images says so."
    ),
    "unconfirmed": Kind(
        "Images whose shapes a model drew and nobody has confirmed",
        "They are left out, unless convert.machine says so.",
    ),
    "class-without-objects": Kind("Classes without objects", "They cannot be learnt."),
    "class-missing-on-side": Kind("Classes that a split lacks", "There they are not measured at all."),
    "rare-class": Kind("Rare classes", "The model sees them seldom, and their figures are unsure."),
    "keypoint-never-labelled": Kind("Keypoints that nobody labelled", "They cannot be learnt."),
    "rare-keypoint": Kind("Keypoints that are seldom labelled", "The model sees them seldom."),
}
"""All kinds, the gravest first."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing found in one place.

    Attributes:
        kind: a key of ``KINDS``.
        severity: how grave it is.
        file: the JSON, or the image if it has no JSON, relative to the raw folder; "" for the dataset as a whole.
        shape: zero-based index in the file's ``shapes``, or None.
        message: what was found.
        fix: what to do about it.
        class_name: class of the object, or "".
        split: the split that the image is in, or "".
        image: the image, relative to ``data/``, or "".
        box_xyxy: box of the object in pixels, or None.
        keypoints: names of the keypoints at fault.
        points: where these are, x and y in pixels; none for missing ones.
        expected: for each of them where it should be, as far as that is known.
        others: other files that have to do with it.
    """

    kind: str
    severity: Severity
    file: str
    message: str
    fix: str
    shape: int | None = None
    class_name: str = ""
    split: str = msgspec.field(default="", name="side")  # files keep the key that they have
    image: str = ""
    box_xyxy: Box | None = None
    keypoints: tuple[str, ...] = ()
    points: tuple[Point, ...] = ()
    expected: tuple[Point, ...] = ()
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.file or "dataset"
        place += "" if self.shape is None else f" shape {self.shape}"
        return f"{self.severity}: {place}: {self.message} -> {self.fix}"


def describe_kind(kind: str) -> Kind:
    """Return heading and reason of a kind, also of one that is not in ``KINDS``."""
    return KINDS.get(kind) or Kind(kind.replace("-", " ").capitalize(), "")


def to_finding(fault: Fault) -> Finding:
    """Make a finding of a fault; faults keep an image from being converted, so they are errors."""
    return Finding(
        kind=fault.kind, severity="error", file=fault.file, shape=fault.shape, message=fault.found, fix=fault.fix
    )


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: the gravest first, then by kind, file and shape; equal ones are left out."""
    order = {kind: number for number, kind in enumerate(KINDS)}

    def key(found: Finding) -> tuple[Any, ...]:
        shape = -1 if found.shape is None else found.shape
        rank = order.get(found.kind, -1)
        return SEVERITIES.index(found.severity), rank, found.kind, found.file, shape, found.message

    return sorted(dict.fromkeys(findings), key=key)


def count_findings(findings: Iterable[Finding]) -> dict[str, dict[str, int]]:
    """Count findings: severity -> kind -> number, in the order of ``sort_findings``."""
    counts: dict[str, Counter[str]] = {severity: Counter() for severity in SEVERITIES}
    for found in sort_findings(findings):
        counts[found.severity][found.kind] += 1
    return {severity: dict(kinds) for severity, kinds in counts.items()}


def at_or_above(findings: Sequence[Finding], limit: Literal["error", "warning", "never"]) -> list[Finding]:
    """Return the findings that stop the pipeline.

    Args:
        findings: all of them.
        limit: the least grave severity that stops; ``never``: none does.
    """
    if limit == "never":
        return []
    return [found for found in findings if SEVERITIES.index(found.severity) <= SEVERITIES.index(limit)]


def put_splits(findings: Iterable[Finding], splits: Mapping[str, str]) -> list[Finding]:
    """Write into findings the split that their image is on.

    Args:
        findings: as they were found.
        splits: split of each image, by its path relative to ``data/``.
    """
    return [msgspec.structs.replace(found, split=found.split or splits.get(found.image, "")) for found in findings]


def find_lacking_splits(class_name: str, objects_by_split: Mapping[str, int], splits: Iterable[str]) -> list[Finding]:
    """Find the splits that have no object of a class that the dataset has.

    Args:
        class_name: the class.
        objects_by_split: split -> number of its objects; 0 or absent: none.
        splits: all splits that have images; an empty name is passed over.
    """
    return [
        Finding(
            kind="class-missing-on-side",
            severity="warning",
            file="",
            message=f"no object of class {class_name!r} in split {split}",
            fix="annotate more of them, or make a new split (split.reset)",
            class_name=class_name,
            split=split,
        )
        for split in sorted(splits)
        if split and not objects_by_split.get(split)
    ]
