"""A folder of labelme files to annotated images: finds each JSON's image and accounts for every file."""

from __future__ import annotations

import difflib
import hashlib
import operator
import os
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, overload

import msgspec

from keypipe import errors
from keypipe.annotations import cache as parse_cache
from keypipe.annotations import derived_boxes as boxes
from keypipe.annotations import labelme, linking, placement
from keypipe.annotations.cache import Signature, Store, hash_code, read_records, read_signed, sign_file, write_records
from keypipe.annotations.labelme import (
    RECTANGLES,
    LabelmeError,
    LabelmeFile,
    LabelmeOptions,
    ParsedShapes,
    decode_image_data,
    parse_labelme,
    parse_shapes,
)
from keypipe.annotations.placement import Places, learn_places
from keypipe.errors import AnnotationError, Fault
from keypipe.images import header as image
from keypipe.images.header import IMAGE_SUFFIXES, ImageHeader, parse_image_header, repair_image
from keypipe.keypoints import instances as annotation
from keypipe.keypoints import packed, skeleton
from keypipe.keypoints.instances import AnnotatedImage, InstanceShapes
from keypipe.keypoints.packed import Packed, pack, unpack
from keypipe.keypoints.skeleton import Schema

_FILES_PER_PROCESS = 1000  # below this a pool costs more than it saves
_CHUNK = 250  # files a task


class Ingested(msgspec.Struct, array_like=True):
    """One JSON after reading.

    Attributes:
        source: the JSON, relative to the raw folder.
        image: the annotated image, or None when a fault stopped it.
        derived: whether the image is not usable where it lies; ``read_derived`` returns the bytes for ``image.path``.
        faults: what is wrong with it.
        ignored: shapes passed over, by type and label.
        aliased: shapes read by an alias, by label and name.
        derived_boxes: first shape of every object whose box was derived from its points.
        by_place: shapes in overlapping boxes whose object their place decided.
        by_list_order: shapes whose object only list order could decide.
        clipped: boxes and keypoints moved onto the image.
        occluded_ignored: occluded keypoints treated as not labelled.
        raw_image: the image file it uses, relative to the raw folder, or None when embedded or not found.
        shapes: for every instance of the image its shape indices.
        image_format: Pillow's name of the format in the image's bytes; "" when it could not be read.
        image_path: the JSON's ``imagePath``.
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
    clipped: int = 0
    occluded_ignored: int = 0
    raw_image: str | None = None
    shapes: list[InstanceShapes] = []
    image_format: str = ""
    image_path: str | None = None

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


_DECODER = msgspec.msgpack.Decoder(Reading)


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
        return _DECODER.decode(self._store[self._numbers[index]]).unpack(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Files) and len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def readings(self, order: Iterable[int] | None = None) -> Iterator[Reading]:
        """Yield the files with their objects packed.

        Args:
            order: numbers of the files; default: all, in their order.
        """
        for number in self._numbers if order is None else (self._numbers[index] for index in order):
            yield _DECODER.decode(self._store[number])


class Folder(msgspec.Struct):
    """Everything found in a raw folder.

    Attributes:
        files: one entry per JSON, by path.
        unlabelled: images that no JSON speaks of, relative to the raw folder.
        faults: all faults, those between files included.
        ignored: number of shapes passed over, by type and label.
        aliased: number of shapes read by an alias, by label and name.
    """

    files: Files
    unlabelled: list[str]
    faults: list[Fault]
    ignored: Counter[str]
    aliased: Counter[str]


def list_files(folder: Path) -> list[str]:
    """List all files below a folder as sorted relative paths with forward slashes; hidden ones are left out."""
    found: list[str] = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(base).relative_to(folder).as_posix()
        found += [name if prefix == "." else f"{prefix}/{name}" for name in names if not name.startswith(".")]
    return sorted(found)


def _check_names(raw: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise AnnotationError(f"{raw}: the file name {name!a} is not UTF-8; rename it") from error


def read_folder(
    raw: Path,
    schema: Schema,
    options: LabelmeOptions,
    unlabelled_images: Literal["ignore", "negative"] = "ignore",
    processes: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Folder:
    """Read every labelme JSON of a folder and the header of the image it belongs to.

    Files in which boxes overlap such that a keypoint could belong to either are read once more, when all others have
    taught where keypoints lie in their boxes.

    Args:
        raw: the folder; nothing in it is changed.
        schema: classes and keypoints to look for.
        options: how labels become keypoints.
        unlabelled_images: ``negative`` takes an image without a JSON as one without objects.
        processes: at most this many; default all cores.
        cache: file that keeps what was read, so that next time only what changed is read; None: none.
        progress: called with the number of files read, and to read.

    Returns:
        Images, counts and faults; the same in any file order, with and without a cache.

    Raises:
        AnnotationError: the folder is absent or holds no JSON.
    """
    if not raw.is_dir():
        raise AnnotationError(f"{raw}: no such folder; put your labelme JSON files and images there")
    names = list_files(raw)
    _check_names(raw, names)
    sources = [name for name in names if name.lower().endswith(".json")]
    if not sources:
        raise AnnotationError(f"{raw}: no labelme JSON in it ({len(names)} other files); save annotations there first")
    images = frozenset(name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)  # noqa: PTH122
    reader = _Reader(os.fspath(raw), images, schema, options)
    reading = _FolderReading(reader, processes, cache, progress)
    reading.read(sources)
    unlabelled = reading.list_unlabelled()
    if unlabelled_images == "negative":
        reading.read(unlabelled)
        unlabelled = []
    reading.keep()
    reading.read_contested_again()
    return reading.finish(unlabelled)


_READERS = (annotation, boxes, errors, image, labelme, linking, packed, parse_cache, placement, skeleton)
"""Modules that reading a file runs, besides this one; a test holds them to the imports."""


def _cache_key(schema: Schema, options: LabelmeOptions) -> str:
    code = hash_code(__file__, *(str(module.__file__) for module in _READERS))
    return hashlib.sha256(msgspec.json.encode([code, schema, options], order="deterministic")).hexdigest()


class _FolderReading:
    """The reading of one folder: which record belongs to which file, and what all files have in common."""

    def __init__(
        self,
        reader: _Reader,
        processes: int | None,
        cache: Path | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._reader = reader
        self._processes = processes
        self._cache = cache
        self._key = _cache_key(reader.schema, reader.options) if cache else ""
        self._progress = progress
        self._store = Store(cache.parent if cache else None)
        self._sources: list[str] = []
        self._numbers = array("q")  # of each source's record
        self._to_keep = bytearray()  # 1 where the same would be read again
        self._any_new = False
        self._contested: list[int] = []  # positions of files
        self._faults: dict[int, list[Fault]] = {}
        self._ignored: Counter[str] = Counter()
        self._aliased: Counter[str] = Counter()
        self._claimed: dict[str, str] = {}  # image -> first file that uses it
        self._claimed_twice: list[Fault] = []

    def read(self, sources: Sequence[str]) -> None:
        """Read files: those from the cache that did not change, and all others."""
        numbers = array("q", [-1]) * len(sources)
        for record in read_records(self._cache, self._key) if self._cache and sources else ():
            try:
                reading = _DECODER.decode(record)
            except msgspec.DecodeError:  # damaged
                break
            source = reading.file.source
            position = bisect_left(sources, source)
            if position < len(sources) and sources[position] == source and self._reader.still_holds(reading):
                numbers[position] = self._store.append(record)
        todo = [position for position, number in enumerate(numbers) if number < 0]
        first_new = len(self._store)
        records = _map(self._reader, [sources[position] for position in todo], self._processes, self._progress)
        for position, record in zip(todo, records, strict=True):
            numbers[position] = self._store.append(record)
        for position, number in enumerate(numbers, start=len(self._sources)):
            reading = _DECODER.decode(self._store[number])
            self._to_keep.append(reading.signature is not None)
            self._any_new |= number >= first_new and reading.signature is not None
            self._claim(reading.file)
            if reading.file.contested:
                self._contested.append(position)
            else:
                self._count(position, reading.file)
        self._sources += sources
        self._numbers += numbers

    def _claim(self, file: Ingested) -> None:
        image = file.raw_image or (file.image.path if file.image else None)
        if image is None:
            return
        first = self._claimed.setdefault(image, file.source)
        if first != file.source:
            found = f"{image} is annotated by {first} as well"
            fix = "keep one of the two, or correct imagePath"
            self._claimed_twice.append(Fault(file.source, None, "image-claimed-twice", found, fix))

    def _count(self, position: int, file: Ingested) -> None:
        if file.faults:
            self._faults[position] = file.faults
        self._ignored.update(file.ignored)
        self._aliased.update(file.aliased)

    def list_unlabelled(self) -> list[str]:
        """Return the images that no file read so far speaks of."""
        return sorted(self._reader.images - self._claimed.keys())

    def keep(self) -> None:
        """Keep what was read, for next time."""
        if self._cache and self._any_new:
            kept = (self._store[number] for number, keep in zip(self._numbers, self._to_keep, strict=True) if keep)
            write_records(self._cache, self._key, kept)

    def read_contested_again(self) -> None:
        """Read the files in which boxes overlap once more, with what all others taught."""
        if not self._contested:
            return
        contested = set(self._contested)
        others = [number for position, number in enumerate(self._numbers) if position not in contested]
        files = Files(self._store, others, self._reader.schema)
        images = (file.image for file in files if file.image)
        if places := learn_places(instance for image in images for instance in image.instances):
            sources = [self._sources[position] for position in self._contested]
            records = _map(self._reader.taught(places), sources, self._processes)
            for position, record in zip(self._contested, records, strict=True):
                self._numbers[position] = self._store.append(record)
        for position in self._contested:
            self._count(position, _DECODER.decode(self._store[self._numbers[position]]).file)

    def finish(self, unlabelled: list[str]) -> Folder:
        """Return all of it."""
        faults = [fault for position in sorted(self._faults) for fault in self._faults[position]]
        files = Files(self._store, self._numbers, self._reader.schema)
        return Folder(files, unlabelled, faults + self._claimed_twice, self._ignored, self._aliased)


def _map(
    reader: _Reader,
    sources: Sequence[str],
    processes: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[bytes]:
    """Yield a record for every source, in order."""
    chunks = [sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK)]
    workers = min(processes or os.cpu_count() or 1, max(1, len(sources) // _FILES_PER_PROCESS))
    with ProcessPoolExecutor(workers, initializer=_take, initargs=(reader,)) if workers > 1 else nullcontext() as pool:
        done = 0
        for records in pool.map(_read_chunk, chunks) if pool else map(reader.read_chunk, chunks):
            yield from records
            done += len(records)
            if progress:
                progress(done, len(sources))


_taken: list[_Reader] = []
"""The reader of a process of the pool: handed over once, since it names every image of the folder."""


def _take(reader: _Reader) -> None:
    _taken[:] = [reader]


def _read_chunk(sources: Sequence[str]) -> list[bytes]:
    return _taken[0].read_chunk(sources)


class _Reader(msgspec.Struct, frozen=True):
    """Reads the files of one folder.

    Attributes:
        raw: the folder.
        images: every image file of it, relative to it.
        schema: classes and keypoints to look for.
        options: how labels become keypoints.
        places: where keypoints lie in their boxes, as learnt from other files.
    """

    raw: str
    images: frozenset[str]
    schema: Schema
    options: LabelmeOptions
    places: Places | None = None

    def taught(self, places: Places) -> _Reader:
        """Return a reader that knows where keypoints usually lie."""
        return msgspec.structs.replace(self, places=places)

    def read_chunk(self, sources: Sequence[str]) -> list[bytes]:
        """Read some files; encoded, since pickling thousands of small objects would take longer than reading them."""
        return [msgspec.msgpack.encode(self.read(source)) for source in sources]

    def still_holds(self, reading: Reading) -> bool:
        """Tell whether a file, the image that it would be joined to and that image's file are what they were."""
        file = reading.file
        if sign_file(f"{self.raw}/{file.source}") != reading.signature or file.raw_image is None:
            return False
        if file.source == file.raw_image:
            return True
        found, _ = _find_image(file.source, file.image_path, self.images)
        return found == file.raw_image and sign_file(f"{self.raw}/{found}") == reading.image_signature

    def read(self, source: str) -> Reading:
        """Read a JSON and its image; or an image alone, as one without objects.

        Raises:
            AnnotationError: a file is not there any more.
        """
        try:
            return self._read(source)
        except FileNotFoundError as error:
            raise AnnotationError(
                f"{error.filename}: gone since it was listed, or a link to nothing; run again"
            ) from error

    def _read(self, source: str) -> Reading:
        content, signature = read_signed(f"{self.raw}/{source}")
        if source in self.images:
            return self._to_reading(_to_negative(source, content), Packed(), signature, signature)
        try:
            file = parse_labelme(content)
        except LabelmeError as error:
            fix = "open it in labelme and save it again, or restore it"
            fault = Fault(source, error.shape, "broken-json", str(error), fix)
            name, _ = _find_image(source, None, self.images)  # which is not one without objects
            return Reading(Ingested(source, faults=[fault], raw_image=name))
        name, refused = _find_image(source, file.image_path, self.images)
        content, image_signature = read_signed(f"{self.raw}/{name}") if name else (b"", None)
        result, objects = self._join(source, file, name, refused, content)
        return self._to_reading(result, objects, signature, image_signature)

    @staticmethod
    def _to_reading(file: Ingested, objects: Packed, signature: Signature, image: Signature | None) -> Reading:
        """Sign what would be read again in the same way; faulty files and images made anew are read every time."""
        settled = signature.is_settled() and image is not None and image.is_settled()
        if not settled or file.faults or file.derived:
            return Reading(file, objects)
        return Reading(file, objects, signature, image)

    def _join(
        self, source: str, file: LabelmeFile, name: str | None, refused: str, content: bytes
    ) -> tuple[Ingested, Packed]:
        try:
            if name is None:
                content = _embedded_image(file, refused)
            header = parse_image_header(content)
            derived = name is None or not header.complete
            if not header.complete:
                content = repair_image(content)
        except AnnotationError as error:
            fault = Fault(source, None, "bad-image" if name else "no-image", _of(name, error), _IMAGE_FIX)
            return Ingested(source, faults=[fault], raw_image=name), Packed()
        mismatch = _size_mismatch(source, file, header)
        shapes = parse_shapes(file, header.size_wh, self.schema, self.options, source, self.places)
        result = _to_ingested(source, name, shapes)
        result.image_format = header.format
        result.image_path = file.image_path
        if mismatch:
            result.faults = [mismatch, *result.faults]
        objects = Packed()
        if not result.faults:
            path = f"derived/{_derived_name(source, name, header)}" if derived else f"raw/{name}"
            result.image = AnnotatedImage(path, header.size_wh, _md5(content), (), source)
            result.derived = derived
            objects = pack(shapes.instances, shapes.shapes, self.schema)
        return result, objects


def read_derived(raw: Path, file: Ingested) -> bytes:
    """Return the bytes of an image that is not usable where it lies: mended, or taken out of the JSON.

    Args:
        raw: the raw folder.
        file: one of its files, with ``derived``.

    Raises:
        AnnotationError: it is not the image any more that was read.
    """
    assert file.image is not None
    if file.raw_image:
        content = repair_image((raw / file.raw_image).read_bytes())
    else:
        content = decode_image_data(parse_labelme((raw / file.source).read_bytes()))
        content = content if parse_image_header(content).complete else repair_image(content)
    if _md5(content) != file.image.md5:
        raise AnnotationError(f"{file.source}: changed while it was read; run again")
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


_IMAGE_FIX = "put the image beside the JSON under the same name, or restore it"


def _to_ingested(source: str, name: str | None, shapes: ParsedShapes) -> Ingested:
    return Ingested(
        source,
        faults=shapes.faults,
        ignored=dict(shapes.ignored),
        aliased=dict(shapes.aliased),
        derived_boxes=shapes.derived_boxes,
        by_place=shapes.by_place,
        by_list_order=shapes.by_list_order,
        clipped=shapes.clipped,
        occluded_ignored=shapes.occluded_ignored,
        raw_image=name,
    )


def _of(name: str | None, error: AnnotationError) -> str:
    return f"{name}: {error}" if name else str(error)


def _find_image(source: str, image_path: str | None, images: frozenset[str]) -> tuple[str | None, str]:
    """Find the JSON's image: by ``imagePath``, else by the JSON's stem; also say why there is none."""
    folder = source.rpartition("/")[0]
    refused = "the JSON names no image"
    if image_path:
        written = image_path.replace("\\", "/")
        named = os.path.normpath(f"{folder}/{written}" if folder else written)
        if named in images:
            return named, ""
        outside = named.startswith(("..", "/")) or PureWindowsPath(image_path).is_absolute()
        refused = f"imagePath {image_path!r} " + ("leaves the raw folder" if outside else "is not there")
    stem = source.rpartition(".")[0]
    beside = [name for suffix in IMAGE_SUFFIXES for name in (stem + suffix, stem + suffix.upper()) if name in images]
    return (beside[0], "") if beside else (None, refused)


def _embedded_image(file: LabelmeFile, refused: str) -> bytes:
    if not file.has_image_data:
        raise AnnotationError(f"{refused}, no image has the JSON's name, and none is embedded")
    return decode_image_data(file)


def _derived_name(source: str, name: str | None, header: ImageHeader) -> str:
    return name or str(PurePosixPath(source).with_suffix("")) + header.suffix


def _size_mismatch(source: str, file: LabelmeFile, header: ImageHeader) -> Fault | None:
    written = (file.image_width, file.image_height)
    if None in written or written == header.size_wh:
        return None
    found = "the JSON is for {}x{} px, the image is {}x{} px".format(*written, *header.size_wh)
    fix = "restore the image that was annotated, or open the JSON in labelme, check the points and save it"
    return Fault(source, None, "size-mismatch", found, fix)


def _to_negative(name: str, content: bytes) -> Ingested:
    """Take an image without a JSON as one without objects."""
    try:
        header = parse_image_header(content)
        derived = not header.complete
        content = repair_image(content) if derived else content
    except AnnotationError as error:
        return Ingested(name, faults=[Fault(name, None, "bad-image", str(error), _IMAGE_FIX)], raw_image=name)
    path = f"derived/{name}" if derived else f"raw/{name}"
    image = AnnotatedImage(path, header.size_wh, _md5(content), (), name)
    return Ingested(name, image=image, derived=derived, raw_image=name, image_format=header.format)


def near_misses(ignored: Iterable[str], schema: Schema) -> dict[str, str]:
    """Find ignored labels that look like a known one misspelt.

    Args:
        ignored: keys such as ``"point noze"``, shape type and label.
        schema: the known classes and keypoints.

    Returns:
        Label -> known name, for points against keypoints and for boxes against classes.
    """
    found: dict[str, str] = {}
    keypoints, classes = schema.keypoint_labels, schema.class_labels
    for key in ignored:
        shape_type, _, label = key.partition(" ")
        known = keypoints if shape_type == "point" else classes if shape_type in RECTANGLES else {}
        lower = {name.lower(): meant for name, meant in known.items()}
        close = difflib.get_close_matches(label.lower(), lower, n=1, cutoff=0.8)
        if close and label not in known:
            found[label] = lower[close[0]]
    return found
