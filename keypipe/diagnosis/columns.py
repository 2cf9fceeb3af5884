"""All objects of a class as columns: numbers that are no Python objects, and the way back to a file's shapes."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.annotations.readings import Files
from keypipe.diagnosis.findings import Finding, Point, Severity
from keypipe.keypoints.instances import AnnotatedImage, Instance, InstanceShapes
from keypipe.keypoints.packed import Packed, walk
from keypipe.keypoints.skeleton import Schema


class Located(msgspec.Struct, frozen=True):
    """An object of the dataset, its image, and where it stands in its file."""

    image: AnnotatedImage
    instance: Instance
    shapes: InstanceShapes | None

    def to_finding(
        self,
        kind: str,
        severity: Severity,
        message: str,
        fix: str,
        names: Sequence[str] = (),
        expected: tuple[Point, ...] = (),
    ) -> Finding:
        """Make a finding of the object, or of some of its keypoints."""
        points = [self.instance.keypoints[name] for name in names if name in self.instance.keypoints]
        shape = None
        if self.shapes:
            shape = self.shapes.keypoints.get(names[0], self.shapes.box) if names else self.shapes.box
        return Finding(
            kind=kind,
            severity=severity,
            file=self.image.source,
            shape=shape,
            message=message,
            fix=fix,
            class_name=self.instance.class_name,
            image=self.image.path,
            box_xyxy=self.instance.box_xyxy,
            keypoints=tuple(names),
            points=tuple((point.x, point.y) for point in points),
            expected=expected,
        )


class Rows(msgspec.Struct, frozen=True):
    """Some objects of a class, one after the other.

    Attributes:
        first: number of the first among all of the class.
        boxes_xyxy: float64 (n, 4), pixels.
        points: complex128 (n, n_keypoints), x + iy in pixels; NaN = not labelled.
        states: uint8 (n, n_keypoints), visibility.
        sizes_wh: int32 (n, 2), of the images, pixels.
    """

    first: int
    boxes_xyxy: NDArray[np.float64]
    points: NDArray[np.complex128]
    states: NDArray[np.uint8]
    sizes_wh: NDArray[np.int32]


class ClassObjects:
    """The objects of one class, in the order of the files.

    Attributes:
        name: the class.
        n_images: number of images with one.
        by_split: number of them in each split.
    """

    def __init__(self, name: str, n_keypoints: int, files: Files) -> None:
        self.name = name
        self.n_images = 0
        self.by_split: Counter[str] = Counter()
        self._n_keypoints = n_keypoints
        self._files = files
        self._numbers = bytearray()
        self._states = bytearray()
        self._sizes_wh = array("i")
        self._files_of = array("i")
        self._places = array("i")  # among the objects of the file

    def __len__(self) -> int:
        return len(self._files_of)

    def __getitem__(self, row: int) -> Located:
        file = self._files[self._files_of[row]]
        assert file.image is not None
        place = self._places[row]
        return Located(file.image, file.image.instances[place], file.shapes[place] if file.shapes else None)

    def add(self, file: int, place: int, size_wh: tuple[int, int], numbers: bytes, states: bytes) -> None:
        """Add an object.

        Args:
            file: number of its file.
            place: its number among the objects of the file.
            size_wh: of the image, pixels.
            numbers: its part of ``Packed.numbers``.
            states: its part of ``Packed.states``.
        """
        self.n_images += not self._files_of or self._files_of[-1] != file
        self._numbers += numbers
        self._states += states
        self._sizes_wh.extend(size_wh)
        self._files_of.append(file)
        self._places.append(place)

    @property
    def rows(self) -> Rows:
        """All of them; these are views, no copies."""
        n, width = len(self), 4 + 2 * self._n_keypoints
        numbers = np.frombuffer(self._numbers, dtype=np.float64).reshape(n, width)
        return Rows(
            0,
            numbers[:, :4],
            numbers[:, 4:].view(np.complex128),
            np.frombuffer(self._states, dtype=np.uint8).reshape(n, self._n_keypoints),
            np.frombuffer(self._sizes_wh, dtype=np.int32).reshape(n, 2),
        )

    @property
    def file_numbers(self) -> NDArray[np.int32]:
        """Number of the file of each; int32 (n,), ascending."""
        return np.frombuffer(self._files_of, dtype=np.int32)

    def blocks(self, size: int) -> Iterator[Rows]:
        """Yield all of them, ``size`` at a time: what is computed for each then needs little memory."""
        rows = self.rows
        for first in range(0, len(self), size):
            part = slice(first, first + size)
            yield Rows(first, rows.boxes_xyxy[part], rows.points[part], rows.states[part], rows.sizes_wh[part])


class Gathering:
    """Lays the objects of a folder's files together, class by class."""

    def __init__(self, files: Files) -> None:
        self._schema: Schema = files.schema
        self.by_class = {
            name: ClassObjects(name, len(skeleton.keypoints), files) for name, skeleton in files.schema.classes.items()
        }

    def add(self, file: int, size_wh: tuple[int, int], packed: Packed, split: str) -> None:
        """Add the objects of a file.

        Args:
            file: its number.
            size_wh: of its image, pixels.
            packed: the objects.
            split: of the image, or "".
        """
        for place, (number, at, state_at, n_keypoints) in enumerate(walk(packed, self._schema)):
            numbers = packed.numbers[8 * at : 8 * (at + 4 + 2 * n_keypoints)]
            of_class = self.by_class[self._schema.class_names[number]]
            of_class.add(file, place, size_wh, numbers, packed.states[state_at : state_at + n_keypoints])
            if split:
                of_class.by_split[split] += 1
