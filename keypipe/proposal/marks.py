"""How people marked things in a folder: hidden keypoints, outlines and circles, points without boxes."""

from __future__ import annotations

import math
import re
from collections import Counter

import msgspec

from keypipe.annotations.labelme import OUTLINES, RECTANGLES, LabelmeFile, LabelmeOptions, LabelmeShape
from keypipe.errors import format_count
from keypipe.keypoints.boxes import Box, bounds, contains
from keypipe.proposal.values import Proposal

HIDDEN_WORDS = (
    "occluded", "occlusion", "occl", "occ", "hidden", "invisible", "notvisible", "covered", "obscured", "verdeckt",
    "verborgen", "unsichtbar", "cache", "caché", "masque", "masqué", "oculto", "oculta", "遮挡", "被遮挡", "不可见",
    "隐藏", "遮擋", "隠れ",
)  # fmt: skip
"""Words for a hidden keypoint, in lower case, without blanks, hyphens and underscores."""

_SUFFIX = re.compile(r"^(?P<name>.+?)(?P<suffix>[\W_]*(?P<word>[^\W\d_]+))$")
_BETWEEN = re.compile(r"[\W_]+")
_SHARE = 0.05
"""Of the points: what fewer do is an exception, and no habit."""
_MARGIN = 0.1
"""Around points without a rectangle, of their extent."""
OBJECT = "object"
"""Class of objects that are points alone."""


class Marks:
    """Takes down how shapes are used, file by file, and proposes the section ``convert``.

    Attributes:
        n_files: files looked at.
        names: labels of all shapes.
    """

    def __init__(self) -> None:
        self.n_files = 0
        self.names: set[str] = set()
        self._flags: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._difficult = 0
        self._in_box = self._in_outline_alone = self._circles = self._boxes = self._bare_files = 0

    def add(self, file: LabelmeFile) -> None:
        """Look at a file."""
        self.n_files += 1
        shapes = [shape for shape in file.shapes if shape.name and shape.points]
        self.names.update(shape.name for shape in file.shapes)
        points = [shape for shape in shapes if shape.shape_type == "point"]
        boxes = [bounds(shape.points) for shape in shapes if shape.shape_type in RECTANGLES]
        outlines = [bounds(shape.points) for shape in shapes if shape.shape_type in OUTLINES]
        groups = {shape.group for shape in shapes if shape.shape_type in RECTANGLES} - {None}
        self._boxes += len(boxes)
        self._bare_files += bool(points) and not boxes and not outlines
        for point in points:
            self._labels[point.name] += 1
            self._add_marks(point)
            if _is_in(point, boxes) or point.group in groups:
                self._in_box += 1
            elif _is_in(point, outlines):
                self._in_outline_alone += 1
        self._circles += sum(_stands_alone(shape, points) for shape in shapes if shape.shape_type == "circle")

    def _add_marks(self, point: LabelmeShape) -> None:
        self._flags.update(name for name, value in (point.flags or {}).items() if value is True)
        self._difficult += point.difficult is True
        for word in re.findall(r"[^\W\d_]+", point.description or ""):
            self._words[word] += 1

    def propose(self, current: LabelmeOptions) -> list[Proposal]:
        """Propose the keys of the section ``convert`` that differ from what it says now.

        Args:
            current: how files are read now.
        """
        found = [*self._propose_hidden(current), *self._propose_shapes()]
        return [proposal for proposal in found if proposal.value != _value_of(current, proposal.key)]

    def _propose_hidden(self, current: LabelmeOptions) -> list[Proposal]:
        proposals: list[Proposal] = []
        if not self._flags[current.occluded_flag]:
            flag = next((name for name, _ in self._flags.most_common() if is_word_for_hidden(name)), None)
            if flag:
                count = format_count(self._flags[flag], "keypoint")
                proposals.append(Proposal("convert.occluded_flag", flag, f"this flag is ticked on {count}"))
            else:
                proposals += self._ask_about_flag(current)
        known = current.occluded_description.lower()
        if not any(known and known in word.lower() for word in self._words):
            word = next((word for word, _ in self._words.most_common() if is_word_for_hidden(word)), None)
            if word:
                count = format_count(self._words[word], "keypoint")
                proposals.append(Proposal("convert.occluded_description", word, f"the description of {count} says so"))
        suffixes = self._find_suffixes()
        if suffixes and not current.occluded_suffix:
            (suffix, n_labels), *_ = suffixes.most_common()
            example = next(label for label in self._labels if label.endswith(suffix))
            why = f"{format_count(n_labels, 'label')} end in it, such as {example!r}"
            proposals.append(Proposal("convert.occluded_suffix", suffix, why))
        return proposals

    def _ask_about_flag(self, current: LabelmeOptions) -> list[Proposal]:
        """Ask about the flag that is ticked on some of the points, whatever it is called."""
        n_points = self._labels.total()
        flags = [
            (name, count) for name, count in self._flags.most_common() if _SHARE * n_points <= count < n_points / 2
        ]
        if not flags:
            return []
        name, count = flags[0]
        why = f"this flag is ticked on {format_count(count, 'keypoint')}"
        question = f"The flag {name!r} is ticked on {count} of {n_points} points. Does it mean that they are hidden?"
        otherwise = f"{name}, if that flag, ticked on {format_count(count, 'keypoint')}, means hidden"
        return [
            Proposal("convert.occluded_flag", name, why, False, question, current.occluded_flag, otherwise),
        ]

    def _find_suffixes(self) -> Counter[str]:
        """Count the labels that are another label and a word for hidden."""
        found: Counter[str] = Counter()
        for label, count in self._labels.items():
            match = _SUFFIX.match(label)
            if match and match["name"] in self._labels and is_word_for_hidden(match["word"]):
                found[match["suffix"]] += count
        return found

    def _propose_shapes(self) -> list[Proposal]:
        n_points = self._labels.total()
        proposals: list[Proposal] = []
        if self._in_outline_alone > _SHARE * max(n_points, 1):
            count = format_count(self._in_outline_alone, "point")
            why = f"{count} in a polygon or mask and in no rectangle: its box is the object's"
            proposals.append(Proposal("convert.box_from", "outline", why))
        if self._circles > _SHARE * (n_points + self._circles):
            why = f"{format_count(self._circles, 'circle')} stand for keypoints: their centres"
            proposals.append(Proposal("convert.keypoint_from", "circle", why))
        if self._bare_files > _SHARE * max(self.n_files, 1):
            why = f"{format_count(self._bare_files, 'file')} have points alone: a box is drawn around them"
            proposals.append(Proposal("convert.box_from_points", _MARGIN, why))
        return proposals

    def prepare(self, file: LabelmeFile, options: LabelmeOptions) -> LabelmeFile:
        """Return a file as a draft of the schema should see it.

        Suffixes of hidden keypoints are cut off. Where no file has a box of any kind, points of one group, or of a
        whole file, get a rectangle of the class ``object``.

        Args:
            file: as it was read.
            options: how files are read.
        """
        shapes = file.shapes
        if suffix := options.occluded_suffix:
            shapes = [
                msgspec.structs.replace(shape, label=shape.name.removesuffix(suffix).rstrip())
                if shape.name != suffix and shape.name.endswith(suffix)
                else shape
                for shape in shapes
            ]
        if options.box_from_points is not None and not self._boxes and options.box_from == "rectangle":
            groups = {shape.group for shape in shapes if options.is_keypoint(shape.shape_type) and shape.points}
            shapes = [*(_draw_around(shapes, group, options) for group in groups), *shapes]
        return file if shapes is file.shapes else msgspec.structs.replace(file, shapes=shapes)


def is_word_for_hidden(text: str) -> bool:
    """Tell whether a word says that a keypoint cannot be seen."""
    return _BETWEEN.sub("", text).lower() in HIDDEN_WORDS


def _value_of(options: LabelmeOptions, key: str) -> object:
    return getattr(options, key.partition(".")[2])


def _is_in(point: LabelmeShape, boxes: list[Box]) -> bool:
    return any(contains(box, *point.points[0]) for box in boxes)


def _stands_alone(circle: LabelmeShape, points: list[LabelmeShape]) -> bool:
    """Tell whether a circle is not drawn around a point of its name."""
    centre, radius = circle.points[0], math.dist(circle.points[0], circle.points[-1])
    return not any(point.name == circle.name and math.dist(point.points[0], centre) <= radius for point in points)


def _draw_around(shapes: list[LabelmeShape], group: int | str | None, options: LabelmeOptions) -> LabelmeShape:
    members = [s for s in shapes if options.is_keypoint(s.shape_type) and s.points and s.group == group]
    left, top, right, bottom = bounds(shape.points[0] for shape in members)
    return LabelmeShape(OBJECT, [(left, top), (right, bottom)], "rectangle", group)
