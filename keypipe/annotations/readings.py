"""What reading files gave, kept outside memory and decoded when it is looked at."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import msgspec

from keypipe.annotations.cache import Signature, Store
from keypipe.errors import Fault
from keypipe.keypoints.instances import AnnotatedImage, InstanceShapes
from keypipe.keypoints.packed import Packed, unpack
from keypipe.keypoints.skeleton import Schema


class Ingested(msgspec.Struct, array_like=True):
    """One JSON after reading.

    Attributes:
        source: the JSON, relative to the raw folder.
        image: the annotated image, or None when a fault stopped it.
        derived: whether the image is not usable where it lies; ``read_derived`` returns the bytes for ``image.path``.
        faults: what is wrong with it.
        ignored: shapes passed over, by type and label.
        aliased: shapes read by an alias or in another spelling, by label and name.
        derived_boxes: first shape of every object whose box was derived from its points.
        by_place: shapes in overlapping boxes whose object their place decided.
        by_list_order: shapes whose object only list order could decide.
        shared_groups: boxes whose group is an earlier box's as well; containment told whose the points are.
        difficult: keypoints that X-AnyLabeling's mark made occluded.
        clipped: boxes and keypoints moved onto the image.
        occluded_ignored: occluded keypoints treated as not labelled.
        raw_image: the image file it uses, relative to the raw folder, or None when embedded or not found.
        shapes: for every instance of the image its shape indices.
        image_format: Pillow's name of the format in the image's bytes; "" when it could not be read.
        image_path: the JSON's ``imagePath``.
        found_by: what found the image where it is neither named nor beside the JSON: its letter case, place or name.
        machine: shapes that a model drew and no person has touched; the image is left out because of them.
    """

    source: str
    image: AnnotatedImage | None = None
    derived: bool = False
    faults: list[Fault] = []
    ignored: dict[str, int] = {}
    aliased: dict[str, int] = {}
    derived_boxes: list[int] = []
    by_place: list[int] = []
    by_list_order: list[int] = []
    shared_groups: list[int] = []
    difficult: int = 0
    clipped: int = 0
    occluded_ignored: int = 0
    raw_image: str | None = None
    shapes: list[InstanceShapes] = []
    image_format: str = ""
    image_path: str | None = None
    found_by: str = ""
    machine: int = 0

    @property
    def contested(self) -> bool:
        """Whether boxes overlap such that knowing where keypoints usually lie could change the result."""
        ambiguous = any(fault.kind == "ambiguous-keypoint" for fault in self.faults)
        return bool(self.by_place or self.by_list_order or ambiguous)


class Reading(msgspec.Struct, array_like=True):
    """What reading a file gave, as it is stored.

    Attributes:
        file: what was found, but for the objects.
        objects: the image's objects, and where they stand in the file.
        signature: of the file; None where it must be read again next time.
        image_signature: of its image.
    """

    file: Ingested
    objects: Packed = Packed()
    signature: Signature | None = None
    image_signature: Signature | None = None

    def unpack(self, schema: Schema) -> Ingested:
        """Return the file with its objects."""
        if not self.objects:
            return self.file
        instances, shapes = unpack(self.objects, schema)
        image = self.file.image and msgspec.structs.replace(self.file.image, instances=tuple(instances))
        return msgspec.structs.replace(self.file, image=image, shapes=shapes)


decode_reading = msgspec.msgpack.Decoder(Reading).decode


class Files(Sequence[Ingested]):
    """The files of a folder, decoded when they are looked at, so that any number of them takes little memory."""

    def __init__(self, store: Store, numbers: Sequence[int], schema: Schema) -> None:
        """Take records of a store.

        Args:
            store: holds encoded readings.
            numbers: of the records, in the order of the files.
            schema: by which they were read.
        """
        self.schema = schema
        self._store = store
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Ingested: ...

    @overload
    def __getitem__(self, index: slice) -> list[Ingested]: ...

    def __getitem__(self, index: int | slice) -> Ingested | list[Ingested]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return decode_reading(self._store[self._numbers[index]]).unpack(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def readings(self, order: Iterable[int] | None = None) -> Iterator[Reading]:
        """Yield the files with their objects packed.

        Args:
            order: numbers of the files; default: all, in their order.
        """
        for number in self._numbers if order is None else (self._numbers[index] for index in order):
            yield decode_reading(self._store[number])


class Folder(msgspec.Struct):
    """Everything found in a raw folder.

    Attributes:
        files: one entry per JSON, by path.
        unlabelled: images that no JSON speaks of, relative to the raw folder.
        unread: images of formats that are not read that no JSON speaks of.
        faults: all faults, those between files included.
        ignored: number of shapes passed over, by type and label.
        aliased: number of shapes read by an alias or in another spelling, by label and name.
        encoding: of files that are neither UTF-8 nor UTF-16, where it was named.
    """

    files: Files
    unlabelled: list[str]
    unread: list[str]
    faults: list[Fault]
    ignored: Counter[str]
    aliased: Counter[str]
    encoding: str | None = None
