"""labelme JSON (versions 3 to 7, X-AnyLabeling's dialect too) to the neutral model and back: text and values."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from keypipe.errors import AnnotationError
from keypipe.files.foreign import describe_json
from keypipe.files.texts import decode_text
from keypipe.images.depth import Depth
from keypipe.keypoints.instances import Instance, Keypoint, Visibility
from keypipe.keypoints.names import normal_form

LABELME_VERSION: Final = "6.3.1"
"""Version whose files are written."""

OUTLINES: Final = frozenset({"polygon", "mask"})
"""Shape types that may outline an object; a mask's points are the corners around it."""

RECTANGLES: Final = frozenset({"rectangle", "rotation", "oriented_rectangle"})
"""Shape types that stand for an object's box: labelme's, X-AnyLabeling's turned one, labelme 7's turned one."""


MAX_SHARE: Final = 1.5
"""Shares of an image are no larger, objects beyond its edge included; pixels of a whole file are."""

MIN_SIDE_PX: Final = 8
"""Images that are smaller could have all their positions within the first pixels."""


class LabelmeShape(msgspec.Struct):
    """One entry of ``shapes``; keys that other tools add are passed over."""

    label: str | int | float
    points: list[tuple[float, float]]
    shape_type: str = "polygon"  # what labelme assumes when the key is absent
    group_id: int | float | str | None = None
    flags: dict[str, Any] | None = None
    description: str | None = None
    difficult: Any = None  # X-AnyLabeling's; true on a keypoint that is hidden
    score: Any = None  # X-AnyLabeling's, and of shapes that a model drew
    machine: Any = None  # what a model said; see keypipe.annotations.machine

    @property
    def name(self) -> str:
        """The label in its normal form; a number is a name too."""
        return normal_form(str(_whole(self.label)))

    @property
    def group(self) -> int | str | None:
        """The group in its normal form: ``1``, ``1.0`` and ``"1"`` are one; an empty text is none."""
        group = _whole(self.group_id)
        if isinstance(group, int) or group is None:
            return group
        name = normal_form(str(group))
        return int(float(name)) if _WHOLE_NUMBER.fullmatch(name) else name or None


_WHOLE_NUMBER = re.compile(r"-?\d{1,15}(\.0*)?")


def _whole(value: float | str | None) -> int | float | str | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value


class LabelmeFile(msgspec.Struct, rename="camel"):
    """A labelme JSON. ``image_data`` stays undecoded, since nearly nobody needs it."""

    shapes: list[LabelmeShape]
    image_path: str | None = None
    image_data: msgspec.Raw = msgspec.Raw(b"null")
    image_height: int | None = None
    image_width: int | None = None
    flags: Any = None  # of the image
    checked: Any = None  # X-AnyLabeling's; true on an image that somebody has looked through

    @property
    def has_image_data(self) -> bool:
        """Whether the image itself is embedded."""
        return bytes(self.image_data) not in (b"null", b'""')


class LabelmeOptions(msgspec.Struct, frozen=True):
    """How labels become keypoints.

    Attributes:
        occluded_flag: a shape flag of this name that is true marks a keypoint as occluded.
        occluded_suffix: a label suffix that does, such as ``_occ``; it is cut off. Empty: none.
        occluded_description: a word in the description that does. Empty: none.
        occluded: ``train`` keeps occluded keypoints (visibility 1), ``ignore`` treats them as not labelled.
        unknown_labels: ``ignore`` counts labels outside the schema, ``fail`` makes them faults.
        box_from_points: margin, as a share of the points' extent, of a box around points that have no rectangle;
            None: such points are a fault.
        box_from: ``rectangle``; ``outline`` takes the box around a polygon or a mask of a class as well.
        keypoint_from: ``point``; ``circle`` takes the centre of a circle with a keypoint's label as well.
        difficult: ``occluded`` takes keypoints with X-AnyLabeling's mark for occluded, ``ignore`` passes it over.
        machine: what becomes of images with shapes that a model drew and no person has touched or confirmed: ``skip``
            leaves them out, ``refuse`` makes them faults, ``take`` takes the shapes as if a person had drawn them.
        depth: what becomes of images whose samples have more than 8 bits.
        encoding: of files that are neither UTF-8 nor UTF-16.
    """

    occluded_flag: str = "occluded"
    occluded_suffix: str = ""
    occluded_description: str = "occluded"
    occluded: Literal["train", "ignore"] = "train"
    unknown_labels: Literal["ignore", "fail"] = "ignore"
    box_from_points: float | None = None
    depth: Depth = "cut"
    encoding: str | None = None
    box_from: Literal["rectangle", "outline"] = "rectangle"
    keypoint_from: Literal["point", "circle"] = "point"
    difficult: Literal["occluded", "ignore"] = "occluded"
    machine: Literal["skip", "refuse", "take"] = "skip"

    def is_box(self, shape_type: str) -> bool:
        """Tell whether shapes of a type are objects' boxes."""
        return shape_type in RECTANGLES or (self.box_from == "outline" and shape_type in OUTLINES)

    def is_keypoint(self, shape_type: str) -> bool:
        """Tell whether shapes of a type are keypoints."""
        return shape_type == "point" or (self.keypoint_from == "circle" and shape_type == "circle")


_DECODER = msgspec.json.Decoder(LabelmeFile)
_SHAPE_IN_PATH = re.compile(r"\$\.shapes\[(\d+)\]")


RESTORE = "restore it from a copy, or delete it and annotate the image again: labelme cannot open it either"
CORRECT = "correct the value in a text editor, or restore the file"
NO_NUMBER = "write a number there in a text editor, or delete the shape; labelme would save it as it is"
TAKE_OUT = "it is no annotation of labelme's: take it out of the folder"
NAME_IT = "name the right one in convert.encoding (of another folder: with --encoding), or save the file as UTF-8"


class LabelmeError(AnnotationError):
    """A labelme JSON that cannot be parsed.

    ``shape`` is the index of the shape at fault, if one is; ``fix`` says what to do about it.
    """

    def __init__(self, message: str, shape: int | None = None, fix: str = RESTORE) -> None:
        super().__init__(message)
        self.shape, self.fix = shape, fix


class EncodingError(LabelmeError):
    """A labelme JSON that is neither UTF-8 nor UTF-16, nor what was named."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fix=NAME_IT)


class ForeignError(LabelmeError):
    """A JSON without shapes: of another tool, or no annotation at all."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fix=TAKE_OUT)


def parse_labelme(content: bytes, encoding: str | None = None) -> LabelmeFile:
    """Parse the text of a labelme JSON, checking the type of every value that is used.

    Args:
        content: of the file: UTF-8, with or without a byte order mark, or UTF-16.
        encoding: of a file that is neither.

    Returns:
        The file's values; numbers written as strings are refused.

    Raises:
        EncodingError: the encoding is neither known nor named.
        ForeignError: JSON without shapes.
        LabelmeError: broken JSON, or a value of the wrong type.
    """
    try:
        return _DECODER.decode(_to_json(content, encoding))
    except msgspec.ValidationError as error:
        if " - at `$" not in str(error):  # the file as a whole: no object, or one without shapes
            try:
                told = describe_json(json.loads(_to_json(content, encoding)))
            except (ValueError, RecursionError) as broken:  # what is wrong stands behind what was looked at
                raise LabelmeError(f"broken JSON: {broken}") from broken
            raise ForeignError(f"this is {told}" if told else f"not as labelme writes it: {error}") from error
        place = _SHAPE_IN_PATH.search(str(error))
        raise LabelmeError(f"not as labelme writes it: {error}", int(place[1]) if place else None, CORRECT) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _find_no_number(content, encoding) or LabelmeError(f"broken JSON: {error}") from error
    except RecursionError as error:
        raise LabelmeError("broken JSON: brackets in brackets by the hundred") from error


def _find_no_number(content: bytes, encoding: str | None) -> LabelmeError | None:
    """Return an error for a file that is JSON but for ``NaN`` or ``Infinity``, which Python and labelme write."""
    found: list[str] = []

    def take(constant: str) -> float:
        found.append(constant)
        return math.nan

    try:
        document = json.loads(_to_json(content, encoding), parse_constant=take)
    except (ValueError, RecursionError):
        return None
    if not found:
        return None
    shapes = document.get("shapes") if isinstance(document, dict) else None
    odd = (number for number, shape in enumerate(shapes if isinstance(shapes, list) else ()) if not _is_finite(shape))
    return LabelmeError(f"{found[0]} where a number belongs", next(odd, None), NO_NUMBER)


def _is_finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _to_json(content: bytes, encoding: str | None) -> bytes | str:
    if content.isascii() and b"\0" not in content[:64]:  # nearly every file; UTF-16 has zeros
        return content
    try:
        return decode_text(content, encoding=encoding, advice="")
    except AnnotationError as error:
        raise EncodingError(str(error)) from error


IN_PIXELS: Final = "labelme's positions are pixels: multiply x by the image's width and y by its height"
"""What to do where positions are shares of the image."""


def is_in_shares(file: LabelmeFile, size_wh: tuple[int, int] | None = None) -> bool:
    """Tell whether all positions of a file are shares of the image, as scripts write them, instead of pixels.

    Args:
        file: its shapes; those of a file with one position, or none, tell nothing.
        size_wh: the image's width and height in pixels, where they are known.
    """
    positions = (value for shape in file.shapes for point in shape.points for value in point)
    if not all(0 <= value <= MAX_SHARE for value in positions) or (size_wh and min(size_wh) < MIN_SIDE_PX):
        return False
    points = [point for shape in file.shapes for point in shape.points]
    return len(points) > 1 and any(map(any, points))


def decode_image_data(file: LabelmeFile) -> bytes:
    """Return the bytes of the embedded image.

    Raises:
        LabelmeError: no image is embedded, or it is not base64.
    """
    try:
        text = msgspec.json.decode(file.image_data, type=str | None)
        if not text:
            raise LabelmeError("no image is embedded")
        return base64.b64decode(text.rpartition(",")[2], validate=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise LabelmeError(f"imageData is not a base64 image: {error}") from error


def to_shapes(instances: Iterable[Instance], occluded_flag: str = "occluded") -> list[LabelmeShape]:
    """Turn instances into shapes: each a rectangle and its points, under a ``group_id`` of their own.

    Args:
        instances: pixels.
        occluded_flag: the flag that says whether a keypoint is occluded.
    """
    shapes: list[LabelmeShape] = []
    for group, instance in enumerate(instances, start=1):
        left, top, right, bottom = instance.box_xyxy
        corners = [(left, top), (right, bottom)]
        shapes.append(LabelmeShape(instance.class_name, corners, "rectangle", group, {}))
        shapes += to_points(instance.keypoints, group, occluded_flag)
    return shapes


def to_points(
    keypoints: Mapping[str, Keypoint], group: int | None, occluded_flag: str = "occluded"
) -> list[LabelmeShape]:
    """Turn the keypoints of one object into point shapes.

    Args:
        keypoints: pixels, by name.
        group: what they share with their rectangle.
        occluded_flag: the flag that says whether a keypoint is occluded.
    """
    return [
        LabelmeShape(
            name, [(point.x, point.y)], "point", group, {occluded_flag: point.visibility is Visibility.OCCLUDED}
        )
        for name, point in keypoints.items()
    ]


def to_document(shapes: Sequence[LabelmeShape], image_path: str, size_wh: tuple[int, int]) -> dict[str, Any]:
    """Return what labelme saves, with its keys in its order.

    Args:
        shapes: in the order of labelme's list.
        image_path: the image, relative to the JSON file.
        size_wh: its width and height in pixels, upright.
    """
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": [
            {
                "label": str(shape.label),
                "points": [list(point) for point in shape.points],
                "group_id": shape.group_id,
                "description": shape.description or "",
                "shape_type": shape.shape_type,
                "flags": dict(shape.flags or {}),
                "mask": None,
                **({} if shape.score is None else {"score": shape.score}),
                **({} if shape.machine is None else {"machine": shape.machine}),
            }
            for shape in shapes
        ],
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": size_wh[1],
        "imageWidth": size_wh[0],
    }


def format_labelme(shapes: Sequence[LabelmeShape], image_path: str, size_wh: tuple[int, int]) -> str:
    """Format a labelme JSON as labelme itself does; arguments as for ``to_document``."""
    return json.dumps(to_document(shapes, image_path, size_wh), ensure_ascii=False, indent=2)
