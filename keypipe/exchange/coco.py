"""COCO-keypoints files of other tools to the neutral model, mending what scripts in circulation get wrong.

Apart from ``dataset/coco.py``, so that a better reader of foreign files does not make the stages stale.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

from keypipe.errors import AnnotationError
from keypipe.exchange.labels import (
    SCHEMA_KEY,
    EntryFault,
    LabelledImage,
    LabelSet,
    add_object,
    is_finite,
    is_number,
    parse_carried_schema,
    read_visibilities,
)
from keypipe.files.foreign import describe_json
from keypipe.files.texts import parse_json
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Keypoint, Visibility
from keypipe.keypoints.names import normal_form
from keypipe.keypoints.skeleton import Schema, Skeleton, find_pairs

_IMAGE_KEYS = {"id", "file_name", "width", "height", "md5", "source"}
_ANNOTATION_KEYS = {"id", "image_id", "category_id", "bbox", "area", "keypoints", "num_keypoints", "iscrowd"}
_KEYPOINT_SPELLINGS = ("keypoints", "keypoint")
_MAX_SHARE = 1.5  # of an image, objects beyond its edge included
_MIN_SIDE_PX = 8  # smaller images could have all their positions within the first pixels
_SHARES = f"coordinates between 0 and {_MAX_SHARE:g}, which are shares of the image"
_TO_PIXELS = "COCO's are pixels: multiply x and width by the image's width, y and height by its height"
MAX_PX = 1_000_000
"""No image is so wide or high."""


def parse_coco_labels(
    content: bytes, name: str = "annotations.json", box_margin: float = 0.1, encoding: str | None = None
) -> LabelSet:
    """Read a COCO-keypoints JSON of any tool, mending what the scripts in circulation get wrong.

    Mended, and counted: ``keypoint`` for ``keypoints``; names that are absent or numbers; edges counted from 0 or by
    name; nested keypoints, or without visibility; visibility counted from 1, or 1 for every keypoint there is;
    ``area`` and ``num_keypoints`` that do not fit, which keypipe computes itself; ids that are texts; an image listed
    twice; boxes that are absent, ``null``, ``NaN`` or of no area, which are derived from the keypoints.

    Args:
        content: the bytes of the file.
        name: the file's name, for faults.
        box_margin: margin of derived boxes, as a share of the longer side of the points' extent.
        encoding: of a file that is neither UTF-8 nor UTF-16.

    Returns:
        Images as the file names them, boxes and keypoints in its pixels.

    Raises:
        AnnotationError: no JSON, or one without the lists of images, annotations and categories, or a category
            lacks a name or shares its id. Images that share an id are faults.
    """
    return parse_coco_document(parse_json(content, name, encoding), name, box_margin)


def parse_coco_document(document: Any, name: str = "annotations.json", box_margin: float = 0.1) -> LabelSet:
    """Read a COCO-keypoints JSON that has been parsed; see ``parse_coco_labels``."""
    if not is_coco(document):
        told = describe_json(document)
        told = told and f"this is {told}"
        raise AnnotationError(
            f"{name}: {told or 'not a COCO JSON: images, annotations and categories must be lists of entries'}"
        )
    return _CocoReader(document, name, box_margin).read()


def is_coco(document: Any) -> bool:
    """Tell whether a document has COCO's lists, and more than captions."""
    lists = isinstance(document, dict) and all(
        isinstance(document.get(key), list) and all(isinstance(entry, dict) for entry in document[key])
        for key in ("images", "annotations", "categories")
    )
    return lists and bool(document["categories"] or not any("caption" in entry for entry in document["annotations"]))


class _CocoReader:
    """The state of reading one COCO file of another tool."""

    def __init__(self, document: dict[str, Any], name: str, box_margin: float) -> None:
        self.document = document
        self.name = name
        self.box_margin = box_margin
        self.labels = LabelSet(Schema({}), [], Counter(), Counter(), [])
        info = document.get("info")
        self.info: dict[str, Any] = info if isinstance(info, dict) else {}
        self.own = self.info.get("description") == "keypipe"

    def read(self) -> LabelSet:
        annotations = self._keep_objects()
        flat = [self._flatten(annotation) for annotation in annotations]
        names = self._read_categories(annotations, flat)
        images = self._read_images()
        lift = self._visibility(flat)
        in_shares = self._find_shares(annotations, flat, images)
        self._refuse_corners(annotations, images)
        for annotation, values, shares in zip(annotations, flat, in_shares, strict=True):
            if shares:
                self._fault(annotation, f"it has {_SHARES}", _TO_PIXELS)
            self._add(annotation, values, names, images, lift, faulty=shares)
        return self.labels

    def _add(
        self,
        annotation: Mapping[str, Any],
        values: Sequence[float] | None,
        names: Mapping[str, tuple[str, tuple[str, ...]]],
        images: Mapping[str, LabelledImage],
        lift: Mapping[float, Visibility],
        *,
        faulty: bool,
    ) -> None:
        category, image = names.get(_key(annotation.get("category_id"))), images.get(_key(annotation.get("image_id")))
        if image is None or category is None:
            lacking = "image" if image is None else "category"
            self._fault(annotation, f"its {lacking}_id names no {lacking} of the file")
        else:
            n_faults = len(self.labels.faults) - faulty
            box = self._read_box(annotation)
            keypoints = self._read_keypoints(annotation, values, category[1], lift)
            if len(self.labels.faults) == n_faults:
                add_object(self.labels, image, category[0], box, keypoints, self.box_margin)
                return
        if image:
            image.faulty = True

    def _find_shares(
        self,
        annotations: Sequence[Mapping[str, Any]],
        flat: Sequence[Sequence[float] | None],
        images: Mapping[str, LabelledImage],
    ) -> list[bool]:
        """Tell for every annotation whether it is in shares of the image.

        Raises:
            AnnotationError: half of them are, or more.
        """
        found = [self._is_in_shares(*pair, images) for pair in zip(annotations, flat, strict=True)]
        if not any(found) or 2 * sum(found) < len(found):
            return found
        first = annotations[found.index(True)]
        image = images.get(_key(first.get("image_id")))
        name = repr(image.name) if image else f"id {_shown(first.get('image_id'))}"
        raise AnnotationError(
            f"{self.name}: {sum(found)} of {len(found)} annotations have {_SHARES}, such as id"
            f" {_shown(first.get('id'))} of the image {name}; {_TO_PIXELS}"
        )

    def _refuse_corners(self, annotations: Sequence[Mapping[str, Any]], images: Mapping[str, LabelledImage]) -> None:
        """Refuse a file whose boxes are left, top, right, bottom, as scripts write them.

        Raises:
            AnnotationError: all boxes fit their images in that way, and some lie far beyond them in COCO's.
        """
        boxes: list[tuple[Mapping[str, Any], list[float], LabelledImage]] = []
        for annotation in annotations:
            image, box = images.get(_key(annotation.get("image_id"))), annotation.get("bbox")
            if image and image.size_wh and isinstance(box, list) and len(box) == 4 and all(map(is_finite, box)):
                boxes.append((annotation, box, image))
        beyond = [entry for entry in boxes if _is_beyond(entry[1], entry[2].size_wh or (0, 0))]
        if 10 * len(beyond) < len(boxes) or not beyond:
            return
        if all(0 <= a < c <= image.size_wh[0] + 1 and 0 <= b < d <= image.size_wh[1] + 1
               for _, (a, b, c, d), image in boxes if image.size_wh):  # fmt: skip
            annotation, box, image = beyond[0]
            raise AnnotationError(
                f"{self.name}: the boxes are left, top, right, bottom, such as {_shown(box)} of annotation id"
                f" {_shown(annotation.get('id'))} on {image.name!r}; COCO's are left, top, width, height: subtract left"
                " from right and top from bottom"
            )

    def _is_in_shares(
        self, annotation: Mapping[str, Any], values: Sequence[float] | None, images: Mapping[str, LabelledImage]
    ) -> bool:
        """Tell whether the box or the keypoints of an annotation are shares of the image, as YOLO has them."""
        image = images.get(_key(annotation.get("image_id")))
        if self.own or (image and image.size_wh and min(image.size_wh) < _MIN_SIDE_PX):
            return False
        box = annotation.get("bbox")
        if isinstance(box, list) and len(box) == 4 and all(is_finite(value) and value >= 0 for value in box):
            left, top, width, height = box
            if width > 0 and height > 0 and max(left + width, top + height) <= _MAX_SHARE:
                return True
        step = 3 if len(values or ()) % 3 == 0 else 2
        points = [(values[at], values[at + 1]) for at in range(0, len(values) - 1, step)] if values else []
        labelled = [point for point in points if any(map(is_finite, point)) and any(point)]
        return len({*labelled}) > 1 and all(0 <= value <= _MAX_SHARE for point in labelled for value in point)

    def _fault(self, annotation: Mapping[str, Any], found: str, fix: str = "correct it, or leave it out") -> None:
        ids = [_shown(annotation.get(key)) for key in ("id", "image_id")]
        found = f"annotation id {ids[0]} of image id {ids[1]}: {found}"
        self.labels.faults.append(EntryFault(self.name, None, "bad-annotation", found, fix))

    def _keep_objects(self) -> list[dict[str, Any]]:
        """Leave crowds out, and count what annotations hold besides boxes and keypoints."""
        kept: list[dict[str, Any]] = []
        known = _ANNOTATION_KEYS | {"keypoint"}
        for annotation in self.document["annotations"]:
            if annotation.get("iscrowd") == 1:
                self.labels.losses["regions of crowds (iscrowd)"] += 1
                continue
            kept.append(annotation)
            self.labels.losses.update(
                f"`{key}` of annotations" for key, value in annotation.items() if key not in known and value
            )
        for image in self.document["images"]:
            self.labels.losses.update(
                f"`{key}` of images" for key, value in image.items() if key not in _IMAGE_KEYS and value
            )
        return kept

    def _flatten(self, annotation: Mapping[str, Any]) -> list[float] | None:
        """Return x, y, visibility in a row, NaN for ``null``; None when they are something else."""
        spelt = [annotation[key] for key in _KEYPOINT_SPELLINGS if annotation.get(key) is not None]
        raw: Any = spelt[0] if spelt else []
        if "keypoints" not in annotation and "keypoint" in annotation:
            self.labels.repairs["`keypoint` of annotations read as `keypoints`"] += 1
        if isinstance(raw, list) and raw and all(isinstance(entry, list) for entry in raw):
            self.labels.repairs["nested keypoints"] += 1
            if any(len(entry) == 2 for entry in raw):
                raw = [[*entry, 2 if any(entry) else 0][:3] for entry in raw]
                self.labels.repairs["keypoints without visibility taken as visible, (0, 0) as not labelled"] += 1
            raw = [value for entry in raw for value in entry]
        if not isinstance(raw, list) or not all(value is None or is_number(value) for value in raw):
            return None
        values: list[float] = [math.nan if value is None else value for value in raw]
        n_labelled = sum(value > 0 for value in values[2::3])
        if values and annotation.get("num_keypoints") != n_labelled:
            self.labels.repairs["`num_keypoints` absent or wrong; counted anew"] += 1
        return values

    def _read_categories(
        self, annotations: Sequence[Mapping[str, Any]], flat: Sequence[Sequence[float] | None]
    ) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return class and keypoint names by the category's id, and set the schema."""
        longest: Counter[str] = Counter()
        for annotation, values in zip(annotations, flat, strict=True):
            key = _key(annotation.get("category_id"))
            longest[key] = max(longest[key], len(values or ()) // 3)
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        entries: dict[str, Mapping[str, Any]] = {}
        classes: dict[str, Skeleton] = {}
        for category in self.document["categories"]:
            key, class_name = _key(category.get("id")), _name(category.get("name"))
            if not class_name:
                raise AnnotationError(f"{self.name}: the category with the id {_shown(category.get('id'))} has no name")
            if key in found and entries[key] != category:
                both = " and ".join(repr(_shown(entry.get("name"))) for entry in (entries[key], category))
                raise AnnotationError(
                    f"{self.name}: categories {both} both have the id {key}; give each an id of its own, in their"
                    " annotations too; joined exports can be imported one by one"
                )
            entries[key] = category
            raw = next((category[key] for key in _KEYPOINT_SPELLINGS if isinstance(category.get(key), list)), None)
            if raw is not None and "keypoints" not in category:
                self.labels.repairs["`keypoint` of categories read as `keypoints`"] += 1
            if raw is None and longest[key]:
                raw = list(range(1, longest[key] + 1))
                self.labels.repairs["categories without keypoint names; numbered"] += 1
            names = tuple(_name(name) for name in raw or ())
            if "" in names:
                place = names.index("") + 1
                raise AnnotationError(f"{self.name}: keypoint {place} of category {class_name!r} has no name")
            if len({*names}) < len(names):
                raise AnnotationError(f"{self.name}: category {class_name!r} has a keypoint's name twice: {names}")
            found[key] = (class_name, names)
            if names:
                if class_name in classes and {*classes[class_name].keypoints} != {*names}:
                    raise AnnotationError(
                        f"{self.name}: two categories are called {class_name!r} and have other keypoints; rename one"
                    )
                classes[class_name] = Skeleton(names, self._read_edges(category, names), find_pairs(names))
            else:
                self.labels.losses["classes without keypoints: their boxes are kept, schema.classes has no place"] += 1
        self.labels.schema = parse_carried_schema(self.info.get(SCHEMA_KEY)) or Schema(classes)
        return found

    def _read_edges(self, category: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        raw = category.get("skeleton")
        listed = [pair for pair in raw if isinstance(pair, list) and len(pair) == 2] if isinstance(raw, list) else []
        pairs = [pair for pair in listed if all(isinstance(end, str) for end in pair) or all(map(_is_whole, pair))]
        if any(isinstance(end, str) for pair in pairs for end in pair):
            self.labels.repairs["edges given by name"] += 1
            pairs = [
                [names.index(end) + 1 if end in names else 0 for end in map(normal_form, pair)]
                for pair in pairs
                if isinstance(pair[0], str)
            ]
        elif any(end == 0 for pair in pairs for end in pair):
            self.labels.repairs["edges counted from 0"] += 1
            pairs = [[end + 1 for end in pair] for pair in pairs]
        edges = tuple(
            (names[a - 1], names[b - 1]) for a, b in pairs if a != b and min(a, b) >= 1 and max(a, b) <= len(names)
        )
        if len(edges) < len(listed):
            self.labels.losses["edges to keypoints that are not there"] += len(listed) - len(edges)
        return edges

    def _read_images(self) -> dict[str, LabelledImage]:
        by_id: dict[str, LabelledImage] = {}
        by_name: dict[str, LabelledImage] = {}
        fix = "give each an id of its own, in their annotations too; joined exports can be imported one by one"
        for image in self.document["images"]:
            is_named = isinstance(image.get("file_name"), str) and image["file_name"].strip() != ""
            if not is_named:
                found = f"the image with the id {_shown(image.get('id'))} has no file_name"
                self.labels.faults.append(EntryFault(self.name, None, "no-name", found, "write its file's name there"))
            name = PureWindowsPath(_shown(image.get("file_name"))).as_posix()
            width, height = image.get("width"), image.get("height")
            size = (int(width), int(height)) if _is_size(width) and _is_size(height) else None
            if name in by_name:
                self.labels.repairs["images listed twice"] += 1
            entry = by_name.setdefault(name, LabelledImage(name, [], size, origin=self.name))
            entry.faulty |= not is_named
            key = _key(image.get("id"))
            first = by_id.setdefault(key, entry) if key else entry
            if first is not entry:  # annotations of the id may be of either
                first.faulty = entry.faulty = True
                found = f"images {first.name!r} and {name!r} both have the id {_shown(image['id'])}"
                self.labels.faults.append(EntryFault(self.name, None, "repeated-id", found, fix))
        self.labels.images = list(by_name.values())
        return by_id

    def _visibility(self, flat: Iterable[Sequence[float] | None]) -> dict[float, Visibility]:
        """Return what each visibility in the file stands for."""
        seen = {value for values in flat if values and len(values) % 3 == 0 for value in values[2::3]}
        return read_visibilities(seen, self.labels.repairs, trusted=self.own)

    def _read_box(self, annotation: Mapping[str, Any]) -> Box | None:
        """Return left, top, right, bottom; None, with a fault, or if it is absent and may be derived."""
        box = annotation.get("bbox")
        if box is None or box == [] or (isinstance(box, list) and all(_is_absent(value) for value in box)):
            if not annotation.get("keypoints") and not annotation.get("keypoint"):
                self._fault(annotation, f"it has neither a box (bbox is {_shown(box)}) nor keypoints")
            return None
        if not isinstance(box, list) or len(box) != 4 or not all(is_finite(value) for value in box):
            self._fault(annotation, f"bbox must be left, top, width, height, and is {_shown(box)}")
            return None
        left, top, width, height = (float(value) for value in box)
        if min(width, height) < 0:
            self._fault(annotation, f"bbox must be left, top, width, height, and has the size {width:g} x {height:g}")
        area = annotation.get("area")
        if (area is None or (is_number(area) and area in {0, 1})) and width * height != 1:
            self.labels.repairs["`area` absent or 1.0; computed from the box"] += 1
        return left, top, left + width, top + height

    def _read_keypoints(
        self,
        annotation: Mapping[str, Any],
        values: Sequence[float] | None,
        names: Sequence[str],
        visibility: Mapping[float, Visibility],
    ) -> dict[str, Keypoint]:
        """Return the labelled keypoints; what cannot be read is a fault."""
        if values is None:
            self._fault(annotation, "its keypoints are not all numbers")
            return {}
        if names and len(values) == 2 * len(names):
            self.labels.repairs["keypoints without visibility taken as visible, (0, 0) as not labelled"] += 1
            triples = [(x, y, 2.0 if x or y else 0.0) for x, y in zip(values[::2], values[1::2], strict=True)]
            visibility = dict(enumerate(Visibility))
        elif len(values) in {0, 3 * len(names)}:
            triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
        else:
            self._fault(annotation, f"expected {3 * len(names)} values for its keypoints, got {len(values)}")
            return {}
        keypoints: dict[str, Keypoint] = {}
        for name, (x, y, seen) in zip(names, triples, strict=False):
            state = Visibility.NOT_LABELLED if _is_absent(seen) else visibility.get(seen)
            if state is None:
                self._fault(annotation, f"{name!r} has the visibility {_shown(seen)}")
            elif state is Visibility.NOT_LABELLED:
                if x or y:
                    self.labels.losses["positions of keypoints that are not labelled (visibility 0)"] += 1
            elif not (is_finite(x) and is_finite(y)):
                self._fault(
                    annotation, f"{name!r} is at ({_shown(x)}, {_shown(y)}) and has the visibility {_shown(seen)}"
                )
            else:
                keypoints[name] = Keypoint(float(x), float(y), state)
        return keypoints


def _is_beyond(box: Sequence[float], size_wh: tuple[int, int]) -> bool:
    """Tell whether a box of left, top, width, height ends by more than a twentieth outside of the image."""
    return box[0] + box[2] > 1.05 * size_wh[0] or box[1] + box[3] > 1.05 * size_wh[1]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_size(value: object) -> bool:
    return is_finite(value) and 1 <= value < MAX_PX


def _key(value: object) -> str:
    """Return an id as text: 1, 1.0 and "1" are the same one."""
    if is_finite(value) and value == int(value):
        return str(int(value))
    return value if isinstance(value, str) else ""


def _name(value: object) -> str:
    """Return a name in its normal form; empty if there is none."""
    return "" if value is None else normal_form(_shown(value))


def _shown(value: object) -> str:
    """Return a value of any kind as text of some length."""
    if isinstance(value, list):
        return "[" + ", ".join(_shown(item) if not isinstance(item, list | dict) else "..." for item in value[:8]) + "]"
    return "{...}" if isinstance(value, dict) else str(value)[:200]
