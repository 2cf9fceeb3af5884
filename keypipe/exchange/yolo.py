"""YOLO-pose folders of other tools to the neutral model, mending what scripts in circulation get wrong.

Apart from ``yolo.py``, so that a better reader of foreign files does not make the stages stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from keypipe.errors import ConfigError, Fault
from keypipe.exchange.labels import SCHEMA_KEY, LabelledImage, LabelSet, parse_carried_schema, read_visibilities
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.skeleton import Schema, Skeleton, find_pairs

COCO_KEYPOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""COCO's keypoints of a person (https://cocodataset.org/#keypoints-2020)."""

_KNOWN_DATA_KEYS = {"path", "train", "val", "test", "nc", "names", "kpt_shape", "flip_idx", "kpt_names", SCHEMA_KEY}


class Row(msgspec.Struct, frozen=True):
    """One line of a label file.

    Attributes:
        number: zero-based position of the line.
        class_id: from 0.
        values: what follows it: centre x, centre y, width, height as shares of the image, then the keypoints.
    """

    number: int
    class_id: int
    values: tuple[float, ...]


class YoloTexts(msgspec.Struct):
    """The texts of a YOLO-pose folder.

    Attributes:
        labels: image name -> text of its label file, None where it has none.
        sizes_wh: image name -> width and height in pixels, upright.
        label_files: image name -> name of its label file, for faults.
        data: what ``data.yaml`` holds.
        classes: lines of ``classes.txt``.
    """

    labels: dict[str, str | None]
    sizes_wh: dict[str, tuple[int, int]]
    label_files: dict[str, str]
    data: dict[str, Any] = {}
    classes: list[str] = []


def parse_yolo_labels(texts: YoloTexts, class_names: Sequence[str] = (), keypoints: Sequence[str] = ()) -> LabelSet:
    """Read the label files of a YOLO-pose folder.

    Mended or assumed, and counted: several blanks between values; ids such as ``0.0``; visibility counted from 1, or 1
    for every keypoint there is; labelled keypoints at (0, 0); ``kpt_shape`` from the number of columns; names that are
    nowhere written.

    Args:
        texts: the folder's texts.
        class_names: names by class id; default: those of ``data.yaml``, else of ``classes.txt``, else the ids.
        keypoints: names of the keypoints; default: those of ``data.yaml``, else COCO's where their number and
            ``flip_idx`` are COCO's, else numbers from 1.

    Returns:
        One image for every name, boxes and keypoints in pixels.

    Raises:
        ConfigError: the names given do not fit the data.
    """
    labels = LabelSet(Schema({}), [], Counter(), Counter(), [])
    rows: dict[str, list[Row]] = {}
    faulty: set[str] = set()
    for name, text in texts.labels.items():
        n_faults = len(labels.faults)
        rows[name] = _parse_rows(text or "", texts.label_files.get(name, name), labels)
        faulty |= {name} if len(labels.faults) > n_faults else set()
    n_slots, n_values = _read_shape(texts.data, [row for found in rows.values() for row in found], labels.repairs)
    names = _read_slot_names(texts.data, n_slots, keypoints, labels.repairs)
    schema = _read_schema(texts, names, rows.values(), class_names, labels.repairs)
    labels.schema = schema
    for key in texts.data.keys() - _KNOWN_DATA_KEYS:
        labels.losses[f"`{key}` of data.yaml"] += 1
    seen = {
        value
        for found in rows.values()
        for row in found
        if n_values == 3
        for value in row.values[6 : 4 + 3 * n_slots : 3]
    }
    visibility = read_visibilities(
        seen, labels.repairs, trusted=parse_carried_schema(texts.data.get(SCHEMA_KEY)) is not None
    )
    reader = _RowReader(schema, names, n_values, visibility, labels)
    for name, found in rows.items():
        n_faults = len(labels.faults)
        instances = [reader.to_instance(row, texts.sizes_wh[name], texts.label_files.get(name, name)) for row in found]
        kept = [instance for instance in instances if instance is not None]
        is_faulty = name in faulty or len(labels.faults) > n_faults
        labels.images.append(LabelledImage(name, kept, texts.sizes_wh[name], faulty=is_faulty))
        if texts.labels[name] is None:
            labels.repairs["images without a label file, taken as images without objects"] += 1
    return labels


def _parse_rows(text: str, file: str, labels: LabelSet) -> list[Row]:
    rows: list[Row] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if not line.strip():
            continue
        if "  " in line.strip() or "\t" in line or "," in line:
            labels.repairs["lines with several blanks, tabs or commas between values"] += 1
        try:
            first, *rest = (float(field) for field in line.replace(",", " ").split())
        except ValueError as error:
            labels.faults.append(Fault(file, number, "bad-row", str(error), _FIX))
            continue
        if first != int(first) or first < 0:
            labels.faults.append(Fault(file, number, "bad-row", f"{first:g} is no class id", _FIX))
            continue
        rows.append(Row(number, int(first), tuple(rest)))
    return rows


_FIX = "correct the line, or delete it"


def _read_shape(data: Mapping[str, Any], rows: Sequence[Row], repairs: Counter[str]) -> tuple[int, int]:
    """Return the number of keypoints and of values for each: as data.yaml says, else from the number of columns."""
    shape = data.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(item, int) for item in shape):
        return shape[0], shape[1]
    widths = Counter(len(row.values) - 4 for row in rows if len(row.values) > 4)
    if not widths:
        raise ConfigError("no label line has keypoints; these are the labels of a detector, not of a pose model")
    width = widths.most_common(1)[0][0]
    third = {value for row in rows if len(row.values) == width + 4 for value in row.values[6::3]}
    n_values = 3 if width % 3 == 0 and (width % 2 or third <= {0, 1, 2, 3}) else 2
    repairs[f"kpt_shape [{width // n_values}, {n_values}] told from the number of columns"] += 1
    return width // n_values, n_values


def _read_slot_names(
    data: Mapping[str, Any], n_slots: int, given: Sequence[str], repairs: Counter[str]
) -> tuple[str, ...]:
    if given:
        if len(given) != n_slots:
            raise ConfigError(f"expected the names of {n_slots} keypoints, got {len(given)}: {', '.join(given)}")
        return tuple(given)
    written = data.get("kpt_names")
    lists = list(written.values()) if isinstance(written, dict) else [written]
    if lists and isinstance(lists[0], list) and len(lists[0]) == n_slots:
        return tuple(str(name) for name in lists[0])
    schema = Schema({"person": Skeleton(COCO_KEYPOINTS, (), find_pairs(COCO_KEYPOINTS))})
    if n_slots == len(COCO_KEYPOINTS) and data.get("flip_idx") == list(schema.flip_idx):
        repairs["keypoint names not written; taken as COCO's, whose number and flip_idx they have"] += 1
        return COCO_KEYPOINTS
    repairs["keypoint names not written; numbered from 1 (--keypoints gives them names)"] += 1
    return tuple(str(number) for number in range(1, n_slots + 1))


def _read_schema(
    texts: YoloTexts,
    names: Sequence[str],
    rows: Iterable[Sequence[Row]],
    class_names: Sequence[str],
    repairs: Counter[str],
) -> Schema:
    carried = parse_carried_schema(texts.data.get(SCHEMA_KEY))
    if carried is not None and carried.slots == tuple(names) and not class_names:
        return carried
    written = texts.data.get("names")
    listed = [written[key] for key in sorted(written)] if isinstance(written, dict) else written
    classes = [str(name) for name in class_names or listed or texts.classes]
    highest = max((row.class_id for found in rows for row in found), default=-1)
    if highest >= len(classes):
        repairs["class names not written; the ids stand for them (--classes gives them names)"] += (
            highest + 1 - len(classes)
        )
        classes += [str(number) for number in range(len(classes), highest + 1)]
    pairs = _read_pairs(texts.data, names)
    return Schema({name: Skeleton(tuple(names), (), pairs) for name in classes})


def _read_pairs(data: Mapping[str, Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    flip = data.get("flip_idx")
    if (
        isinstance(flip, list)
        and sorted(flip) == list(range(len(names)))
        and all(flip[j] == i for i, j in enumerate(flip))
    ):
        return tuple((names[i], names[j]) for i, j in enumerate(flip) if i < j)
    return find_pairs(names)


class _RowReader(msgspec.Struct):
    """What rows are read with."""

    schema: Schema
    names: tuple[str, ...]
    n_values: int
    visibility: dict[float, Visibility]
    labels: LabelSet

    def to_instance(self, row: Row, size_wh: tuple[int, int], file: str) -> Instance | None:
        """Return a row's object in pixels; None, with a fault, if it cannot be parsed."""
        expected = 4 + len(self.names) * self.n_values
        if len(row.values) != expected:
            shape = [len(self.names), self.n_values]
            found = f"expected {expected + 1} values for kpt_shape {shape}, got {len(row.values) + 1}"
            self.labels.faults.append(Fault(file, row.number, "bad-row", found, _FIX))
            return None
        width, height = size_wh
        x, y, w, h = row.values[:4]
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        class_name = self.schema.class_names[row.class_id]
        own = set(self.schema.classes[class_name].keypoints)
        keypoints: dict[str, Keypoint] = {}
        for index, name in enumerate(self.names):
            values = row.values[4 + index * self.n_values :][: self.n_values]
            state = self._state(values, name, row, file)
            if state is not Visibility.NOT_LABELLED and name in own:
                keypoints[name] = Keypoint(values[0] * width, values[1] * height, state)
        ordered = {name: keypoints[name] for name in self.schema.classes[class_name].keypoints if name in keypoints}
        return Instance(class_name, box, ordered)

    def _state(self, values: Sequence[float], name: str, row: Row, file: str) -> Visibility:
        at_origin = not values[0] and not values[1]
        if self.n_values == 2:
            return Visibility.NOT_LABELLED if at_origin else Visibility.VISIBLE
        state = self.visibility.get(values[2])
        if state is None:
            found = f"the visibility of {name!r} is {values[2]:g}"
            self.labels.faults.append(Fault(file, row.number, "bad-row", found, _FIX))
            return Visibility.NOT_LABELLED
        if state is not Visibility.NOT_LABELLED and at_origin:
            self.labels.repairs["keypoints at (0, 0) taken as not labelled"] += 1
            return Visibility.NOT_LABELLED
        if state is Visibility.NOT_LABELLED and not at_origin:
            self.labels.losses["positions of keypoints that are not labelled (visibility 0)"] += 1
        return state
