"""YOLO-pose folders of other tools to the neutral model, mending what scripts in circulation get wrong.

Apart from ``dataset/yolo.py``, so that a better reader of foreign files does not make the stages stale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from keypipe.errors import ConfigError, Fault
from keypipe.exchange.labels import (
    SCHEMA_KEY,
    LabelledImage,
    LabelSet,
    LineFault,
    add_object,
    parse_carried_schema,
    put_into_normal_form,
    read_visibilities,
)
from keypipe.exchange.yolo_rows import (
    FIX,
    MAX_IDS,
    Row,
    Shape,
    are_shares,
    check_shares,
    is_broken,
    parse_rows,
    read_shape,
    to_int,
)
from keypipe.keypoints.instances import Keypoint, Visibility
from keypipe.keypoints.names import normal_form
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
_NO_LABEL_FILE = "images without a label file, taken as images without objects"


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


class YoloOptions(msgspec.Struct, frozen=True):
    """What a user says of a YOLO-pose folder; it goes before what the folder says.

    Attributes:
        class_names: names by class id; default: those of ``data.yaml``, else of ``classes.txt``, else the ids.
        keypoints: names of the keypoints of every class; default: those of ``data.yaml``, else COCO's where their
            number and ``flip_idx`` are COCO's, else numbers from 1.
        shape: ``kpt_shape``; default: that of ``data.yaml``, else from the number of columns.
        box_margin: margin of boxes derived where a row's box has no area, as a share of the longer side of the
            points' extent.
    """

    class_names: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    shape: Shape | None = None
    box_margin: float = 0.1


def parse_yolo_labels(texts: YoloTexts, options: YoloOptions | None = None) -> LabelSet:
    """Read the label files of a YOLO-pose folder.

    Mended or assumed, and counted: several blanks between values; ids such as ``0.0``; visibility counted from 1, or 1
    for every keypoint there is, or none; labelled keypoints at (0, 0); boxes of no area; ``kpt_shape`` from the number
    of columns; names that are nowhere written.

    Args:
        texts: the folder's texts.
        options: what the user says of it.

    Returns:
        One image for every name, boxes and keypoints in pixels.

    Raises:
        ConfigError: names or ``kpt_shape`` do not fit the data, or the rows as a whole are no YOLO-pose labels.
    """
    options = options or YoloOptions()
    labels = LabelSet(Schema({}), [], Counter(), Counter(), [])
    files = {name: texts.label_files.get(name, name) for name in texts.labels}
    rows: dict[str, list[Row]] = {}
    faulty: set[str] = set()
    for name, text in texts.labels.items():
        n_faults = len(labels.faults)
        rows[name] = parse_rows(text or "", files[name], labels)
        faulty |= {name} if len(labels.faults) > n_faults else set()
    every = [*chain.from_iterable(rows.values())]
    shape = read_shape(texts.data, every, options.shape, labels.repairs)
    fitting = [row for row in every if len(row.keypoints) == shape[0] * shape[1]]
    check_shares(fitting, shape, {files[name]: size for name, size in texts.sizes_wh.items()})
    reader = _RowReader(_Names(texts, options, shape, fitting, labels), shape, fitting, labels, options.box_margin)
    for name, found in rows.items():
        image = LabelledImage(name, [], texts.sizes_wh[name])
        n_faults = len(labels.faults)
        reader.read_file(found, image)
        image.faulty = name in faulty or len(labels.faults) > n_faults
        labels.images.append(image)
        labels.repairs[_NO_LABEL_FILE] += texts.labels[name] is None
    labels.repairs += Counter()  # drops what was counted 0 times
    return labels


# ------------------------------------------------------------------------------------------------- names


class _Names:
    """Classes by id, and the names of each one's keypoints; sets the schema of the label set."""

    def __init__(
        self, texts: YoloTexts, options: YoloOptions, shape: Shape, rows: Sequence[Row], labels: LabelSet
    ) -> None:
        self._data, self._labels = texts.data, labels
        self.classes, self.are_listed = self._read_classes(texts, options, rows)
        self.keypoints = self._read_keypoints(options.keypoints, shape[0])
        carried = parse_carried_schema(texts.data.get(SCHEMA_KEY))
        self.trusted = carried is not None
        if carried and {*self.keypoints.values()} == {carried.slots} and not options.class_names:
            labels.schema = carried
            self.classes = dict(enumerate(carried.class_names))
            self.keypoints = dict.fromkeys(self.classes, carried.slots)
        else:
            labels.schema = self._to_schema()
        for key in texts.data.keys() - _KNOWN_DATA_KEYS:
            labels.losses[f"`{key}` of data.yaml"] += 1

    def _read_classes(self, texts: YoloTexts, options: YoloOptions, rows: Sequence[Row]) -> tuple[dict[int, str], bool]:
        listed = read_names(list(options.class_names), "--classes")
        listed = listed or read_names(texts.data.get("names"), "data.yaml: names")
        listed = listed or read_names(texts.classes, "classes.txt")
        repeated = [name for name, count in Counter(listed.values()).items() if count > 1]
        if repeated:
            raise ConfigError(f"two classes are called {repeated[0]!r}; give --classes other names")
        if listed:
            return listed, True
        ids = sorted({int(row.values[0]) for row in rows if is_class_id(row.values[0])})
        if ids:
            self._labels.repairs["class names not written; the ids stand for them (--classes gives them names)"] += len(
                ids
            )
        return {number: str(number) for number in ids}, False

    def _read_keypoints(self, given: Sequence[str], n_slots: int) -> dict[int, tuple[str, ...]]:
        if given:
            if len(given) != n_slots:
                raise ConfigError(f"expected the names of {n_slots} keypoints, got {len(given)}: {', '.join(given)}")
            names = tuple(map(normal_form, given))
            if len({*names}) < len(names) or "" in names:
                odd = next(name for name in names if names.count(name) > 1 or not name)
                raise ConfigError(f"--keypoints: {f'{odd!r} is there twice' if odd else 'a name is empty'}")
            return dict.fromkeys(self.classes, names)
        written = self._data.get("kpt_names")
        if isinstance(written, list | tuple):
            written = dict.fromkeys(self.classes, written)
        by_class = written if isinstance(written, dict) else {}
        found: dict[int, tuple[str, ...]] = {}
        for number, name in self.classes.items():
            own = next((by_class[key] for key in (number, str(number), name) if key in by_class), None)
            found[number] = self._check_names(own, name, n_slots) if own is not None else self._name_anew(n_slots)
        return found

    @staticmethod
    def _check_names(value: Any, class_name: str, n_slots: int) -> tuple[str, ...]:
        names = tuple(read_names(value, f"data.yaml: kpt_names of {class_name}").values())
        if not names:
            raise ConfigError(f"data.yaml: kpt_names of {class_name} is empty")
        if len(names) > n_slots:
            raise ConfigError(f"data.yaml: kpt_names of {class_name} are {len(names)}, kpt_shape says {n_slots}")
        if len({*names}) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"data.yaml: kpt_names of {class_name} has {twice!r} twice")
        return names

    def _name_anew(self, n_slots: int) -> tuple[str, ...]:
        person = Schema({"person": Skeleton(COCO_KEYPOINTS, (), find_pairs(COCO_KEYPOINTS))})
        if n_slots == len(COCO_KEYPOINTS) and self._flip() == list(person.flip_idx):
            self._labels.repairs["keypoint names not written; taken as COCO's, whose number and flip_idx they have"] = 1
            return COCO_KEYPOINTS
        self._labels.repairs[
            "keypoint names not written; numbered from 1 (--keypoints, or kpt_names in data.yaml, gives them names)"
        ] = 1
        return tuple(str(number) for number in range(1, n_slots + 1))

    def _flip(self) -> list[int]:
        flip = self._data.get("flip_idx")
        numbers = [to_int(item) for item in flip] if isinstance(flip, list | tuple) else []
        return [number for number in numbers if number is not None] if None not in numbers else []

    def _to_schema(self) -> Schema:
        flip = self._flip()
        undoes_itself = sorted(flip) == list(range(len(flip))) and all(flip[j] == i for i, j in enumerate(flip))
        classes: dict[str, Skeleton] = {}
        for number, name in self.classes.items():
            names = self.keypoints[number]
            pairs = find_pairs(names)
            if flip and undoes_itself and len(flip) >= len(names):
                pairs = tuple((names[i], names[j]) for i, j in enumerate(flip) if i < j < len(names))
            classes[name] = Skeleton(names, (), pairs)
        return put_into_normal_form(Schema(classes))


def read_names(value: Any, where: str) -> dict[int, str]:
    """Return names by number, from a list or from numbers with names; nothing gives none.

    Args:
        value: as YAML has it.
        where: what it is, for the message.

    Raises:
        ConfigError: something else, such as lists in a list.
    """
    if value is None or value in ("", []):
        return {}
    items = list(enumerate(value)) if isinstance(value, list | tuple) else []
    if isinstance(value, Mapping):
        items = sorted((number, name) for key, name in value.items() if (number := to_int(key)) is not None)
        items = items if len(items) == len(value) else []
    if not items or any(isinstance(name, Mapping | list | tuple) or name is None for _, name in items):
        raise ConfigError(f"{where} must be a list of names, or numbers with names, and is {str(value)[:80]}")
    if items[-1][0] >= MAX_IDS:
        raise ConfigError(f"{where}: {items[-1][0]} is no class id")
    return {number: normal_form(str(name)) for number, name in items}


def is_class_id(value: float) -> bool:
    """Tell whether a number can be a class's id."""
    return value == int(value) and 0 <= value < MAX_IDS


# -------------------------------------------------------------------------------------------------- rows


class _RowReader:
    """What rows are read with."""

    def __init__(self, names: _Names, shape: Shape, rows: Sequence[Row], labels: LabelSet, box_margin: float) -> None:
        self._names, self._labels, self._margin = names, labels, box_margin
        self._n_slots, self._step = shape
        seen = {value for row in rows for value in row.keypoints[2::3]} if self._step == 3 else set()
        self._visibility = read_visibilities(seen, labels.repairs, trusted=names.trusted)
        if self._step == 2 and rows:
            labels.repairs[f"keypoints without visibility (kpt_shape {list(shape)}) taken as visible"] += len(rows)

    def _fault(self, row: Row, found: str, fix: str = FIX) -> None:
        self._labels.faults.append(LineFault(row.file, row.number, "bad-row", found, fix))

    def read_file(self, rows: Sequence[Row], image: LabelledImage) -> None:
        """Add the objects of a label file to its image, in pixels; what cannot be parsed becomes a fault."""
        n_values = self._n_slots * self._step
        if rows and is_broken(rows, n_values):
            found = f"its rows are broken over {len(rows)} lines"
            fix = f"write each object into one line: {self._describe_row()}"
            self._labels.faults.append(Fault(rows[0].file, None, "bad-row", found, fix))
            return
        for row in rows:
            if self._is_sound(row):
                self._add(row, image)

    def _describe_row(self) -> str:
        values = "x y" if self._step == 2 else "x y visibility"
        return f"class, centre x, centre y, width, height, then {values} of {self._n_slots} keypoints"

    def _is_sound(self, row: Row) -> bool:
        expected, class_id = 5 + self._n_slots * self._step, row.values[0]
        if len(row.values) != expected:
            shape = [self._n_slots, self._step]
            self._fault(row, f"expected {expected} values for kpt_shape {shape}, got {len(row.values)}")
        elif not is_class_id(class_id):
            self._fault(row, f"{class_id:g} is no class id")
        elif int(class_id) not in self._names.classes:
            known = ", ".join(f"{number} {name}" for number, name in [*self._names.classes.items()][:5])
            self._fault(
                row, f"no class has the id {class_id:g} (there are {known})", "name it with --classes, or " + FIX
            )
        elif not are_shares(row.box) or min(row.box[2:]) < 0:
            values = " ".join(f"{value:g}" for value in row.box)
            self._fault(row, f"the box {values} is no share of the image (0 to 1)")
        else:
            return True
        return False

    def _add(self, row: Row, image: LabelledImage) -> None:
        assert image.size_wh is not None
        width, height = image.size_wh
        x, y, w, h = row.box
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        number = int(row.values[0])
        class_name, names = self._names.classes[number], self._names.keypoints[number]
        own = self._labels.schema.classes[class_name].keypoints
        found: dict[str, Keypoint] = {}
        for slot in range(self._n_slots):
            values = row.keypoints[slot * self._step :][: self._step]
            name = names[slot] if slot < len(names) else ""
            state = self._state(values, name or f"keypoint {slot + 1}", row)
            if state is Visibility.NOT_LABELLED:
                continue
            if name in own:
                found[name] = Keypoint(values[0] * width, values[1] * height, state)
            else:
                self._labels.losses[f"keypoints of {class_name} that have no name in data.yaml"] += 1
        keypoints = {name: found[name] for name in own if name in found}
        add_object(self._labels, image, class_name, box, keypoints, self._margin)

    def _state(self, values: Sequence[float], name: str, row: Row) -> Visibility:
        at_origin = not values[0] and not values[1]
        state = Visibility.VISIBLE if self._step == 2 else self._visibility.get(values[2])
        if state is None:
            self._fault(row, f"the visibility of {name!r} is {values[2]:g}")
            return Visibility.NOT_LABELLED
        if state is not Visibility.NOT_LABELLED and at_origin:
            self._labels.repairs["keypoints at (0, 0) taken as not labelled"] += 1
            return Visibility.NOT_LABELLED
        if state is Visibility.NOT_LABELLED and not at_origin:
            self._labels.losses["positions of keypoints that are not labelled (visibility 0)"] += 1
        return state
