"""COCO-keypoints files of other tools to the neutral model, mending what scripts in circulation get wrong.

Apart from ``coco.py``, so that a better reader of foreign files does not make the stages stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

import msgspec

from keypipe.errors import AnnotationError, Fault
from keypipe.exchange.labels import SCHEMA_KEY, LabelledImage, LabelSet, parse_carried_schema, read_visibilities
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema, Skeleton, find_pairs

_IMAGE_KEYS = {"id", "file_name", "width", "height", "md5", "source"}
_ANNOTATION_KEYS = {"id", "image_id", "category_id", "bbox", "area", "keypoints", "num_keypoints", "iscrowd"}
_KEYPOINT_SPELLINGS = ("keypoints", "keypoint")


def parse_coco_labels(content: bytes, name: str = "annotations.json") -> LabelSet:
    """Read a COCO-keypoints JSON of any tool, mending what the scripts in circulation get wrong.

    Mended, and counted: ``keypoint`` for ``keypoints``; names that are absent or numbers; edges counted from 0 or by
    name; nested keypoints, or without visibility; visibility counted from 1, or 1 for every keypoint there is;
    ``area`` and ``num_keypoints`` that do not fit, which keypipe computes itself; ids that are texts; an image listed
    twice.

    Args:
        content: the text of the file.
        name: the file's name, for faults.

    Returns:
        Images as the file names them, boxes and keypoints in its pixels.

    Raises:
        AnnotationError: no JSON, or one without the lists of images, annotations and categories.
    """
    try:
        document = msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.DecodeError as error:
        raise AnnotationError(f"{name}: broken JSON: {error}") from error
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) and all(isinstance(entry, dict) for entry in document[key])
        for key in ("images", "annotations", "categories")
    ):
        raise AnnotationError(f"{name}: not a COCO JSON: images, annotations and categories must be lists of entries")
    return _CocoReader(document, name).read()


class _CocoReader:
    """The state of reading one COCO file of another tool."""

    def __init__(self, document: dict[str, Any], name: str) -> None:
        self.document = document
        self.name = name
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
        for (index, annotation), values in zip(annotations, flat, strict=True):
            category = names.get(str(annotation.get("category_id")))
            image = images.get(str(annotation.get("image_id")))
            if image is None or category is None:
                self._fault(index, "it names an image or a category that is not in the file")
                box = keypoints = None
            else:
                box = self._read_box(index, annotation)
                keypoints = self._read_keypoints(index, values, category[1], lift)
            if category and image and box is not None and keypoints is not None:
                image.instances.append(Instance(category[0], box, keypoints))
            elif image:
                image.faulty = True
        return self.labels

    def _fault(self, index: int | None, found: str) -> None:
        self.labels.faults.append(Fault(self.name, index, "bad-annotation", found, "correct it, or leave it out"))

    def _keep_objects(self) -> list[tuple[int, dict[str, Any]]]:
        """Leave crowds out, and count what annotations hold besides boxes and keypoints."""
        kept: list[tuple[int, dict[str, Any]]] = []
        known = _ANNOTATION_KEYS | {"keypoint"}
        for index, annotation in enumerate(self.document["annotations"]):
            if annotation.get("iscrowd") == 1:
                self.labels.losses["regions of crowds (iscrowd)"] += 1
                continue
            kept.append((index, annotation))
            self.labels.losses.update(
                f"`{key}` of annotations" for key, value in annotation.items() if key not in known and value
            )
        for image in self.document["images"]:
            self.labels.losses.update(
                f"`{key}` of images" for key, value in image.items() if key not in _IMAGE_KEYS and value
            )
        return kept

    def _flatten(self, item: tuple[int, dict[str, Any]]) -> list[float] | None:
        """Return x, y, visibility in a row; None when they are something else."""
        _, annotation = item
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
        if not isinstance(raw, list) or not all(_is_number(value) for value in raw):
            return None
        n_labelled = sum(value > 0 for value in raw[2::3])
        if raw and annotation.get("num_keypoints") != n_labelled:
            self.labels.repairs["`num_keypoints` absent or wrong; counted anew"] += 1
        return raw

    def _read_categories(
        self, annotations: Sequence[tuple[int, dict[str, Any]]], flat: Sequence[Sequence[float] | None]
    ) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return class and keypoint names by the category's id, and set the schema."""
        longest: Counter[str] = Counter()
        for (_, annotation), values in zip(annotations, flat, strict=True):
            key = str(annotation.get("category_id"))
            longest[key] = max(longest[key], len(values or ()) // 3)
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        classes: dict[str, Skeleton] = {}
        for category in self.document["categories"]:
            key, class_name = str(category.get("id")), str(category.get("name"))
            raw = next((category[key] for key in _KEYPOINT_SPELLINGS if isinstance(category.get(key), list)), None)
            if raw is not None and "keypoints" not in category:
                self.labels.repairs["`keypoint` of categories read as `keypoints`"] += 1
            if raw is None and longest[key]:
                raw = list(range(1, longest[key] + 1))
                self.labels.repairs["categories without keypoint names; numbered"] += 1
            names = tuple(str(name) for name in raw or ())
            found[key] = (class_name, names)
            if names:
                classes[class_name] = Skeleton(names, self._read_edges(category, names), find_pairs(names))
            else:
                self.labels.losses["classes without keypoints: their boxes are kept, schema.classes has no place"] += 1
        self.labels.schema = parse_carried_schema(self.info.get(SCHEMA_KEY)) or Schema(classes)
        return found

    def _read_edges(self, category: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
        raw = category.get("skeleton")
        pairs = [pair for pair in raw if isinstance(pair, list) and len(pair) == 2] if isinstance(raw, list) else []
        if any(isinstance(end, str) for pair in pairs for end in pair):
            self.labels.repairs["edges given by name"] += 1
            pairs = [[names.index(end) + 1 if end in names else 0 for end in pair] for pair in pairs]
        elif any(end == 0 for pair in pairs for end in pair):
            self.labels.repairs["edges counted from 0"] += 1
            pairs = [[end + 1 for end in pair] for pair in pairs]
        edges = tuple(
            (names[a - 1], names[b - 1])
            for a, b in pairs
            if isinstance(a, int) and isinstance(b, int) and a != b and min(a, b) >= 1 and max(a, b) <= len(names)
        )
        if len(edges) < len(pairs):
            self.labels.losses["edges to keypoints that are not there"] += len(pairs) - len(edges)
        return edges

    def _read_images(self) -> dict[str, LabelledImage]:
        by_id: dict[str, LabelledImage] = {}
        by_name: dict[str, LabelledImage] = {}
        for image in self.document["images"]:
            name = PureWindowsPath(str(image.get("file_name"))).as_posix()
            width, height = image.get("width"), image.get("height")
            size = (int(width), int(height)) if _is_number(width) and _is_number(height) else None
            if name in by_name:
                self.labels.repairs["images listed twice"] += 1
            by_id[str(image.get("id"))] = by_name.setdefault(name, LabelledImage(name, [], size))
        self.labels.images = list(by_name.values())
        return by_id

    def _visibility(self, flat: Iterable[Sequence[float] | None]) -> dict[float, Visibility]:
        """Return what each visibility in the file stands for."""
        seen = {value for values in flat if values and len(values) % 3 == 0 for value in values[2::3]}
        return read_visibilities(seen, self.labels.repairs, trusted=self.own)

    def _read_box(self, index: int, annotation: Mapping[str, Any]) -> Box | None:
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
            self._fault(index, f"bbox must be left, top, width, height, and is {box!r}")
            return None
        left, top, width, height = (float(value) for value in box)
        if annotation.get("area") in {0, 1, None} and width * height != 1:
            self.labels.repairs["`area` absent or 1.0; computed from the box"] += 1
        return left, top, left + width, top + height

    def _read_keypoints(
        self,
        index: int,
        values: Sequence[float] | None,
        names: Sequence[str],
        visibility: Mapping[float, Visibility],
    ) -> dict[str, Keypoint] | None:
        if values is None:
            self._fault(index, "its keypoints are not all numbers")
            return None
        if names and len(values) == 2 * len(names):
            self.labels.repairs["keypoints without visibility taken as visible, (0, 0) as not labelled"] += 1
            triples = [(x, y, 2.0 if x or y else 0.0) for x, y in zip(values[::2], values[1::2], strict=True)]
            visibility = dict(enumerate(Visibility))
        elif len(values) in {0, 3 * len(names)}:
            triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
        else:
            self._fault(index, f"expected {3 * len(names)} values for its keypoints, got {len(values)}")
            return None
        keypoints: dict[str, Keypoint] = {}
        for name, (x, y, seen) in zip(names, triples, strict=False):
            state = visibility.get(seen)
            if state is None:
                self._fault(index, f"{name!r} has the visibility {seen:g}")
                return None
            if state is Visibility.NOT_LABELLED:
                if x or y:
                    self.labels.losses["positions of keypoints that are not labelled (visibility 0)"] += 1
            else:
                keypoints[name] = Keypoint(float(x), float(y), state)
        return keypoints


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
