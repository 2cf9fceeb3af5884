"""A folder of labelme files to annotated images: finds each JSON's image and accounts for every file."""

from __future__ import annotations

import difflib
import hashlib
import os
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import msgspec

from keypipe import errors
from keypipe.annotations import cache as parse_cache
from keypipe.annotations import labelme, machine, reader, readings, shapes
from keypipe.annotations.cache import Store, hash_code, read_records, write_records
from keypipe.annotations.labelme import OUTLINES, RECTANGLES, LabelmeOptions
from keypipe.annotations.linking import derived_boxes, drawing_order, linker, placement, values
from keypipe.annotations.linking.drawing_order import MAX_FILES, Drawing, Habit, learn_habit, rank_keypoints
from keypipe.annotations.linking.placement import learn_places
from keypipe.annotations.reader import FileReader
from keypipe.annotations.readings import Files, Folder, Ingested, decode_reading
from keypipe.errors import AnnotationError, Fault
from keypipe.files import atomic, foreign, listing, texts
from keypipe.files.listing import describe_others, look_through
from keypipe.images import depth, formats, header, lookup, media, opencv, samples
from keypipe.images.formats import name_unread
from keypipe.images.lookup import ImageFolder
from keypipe.keypoints import boxes, instances, names, packed, predictions, skeleton
from keypipe.keypoints.skeleton import Schema

_FILES_PER_PROCESS = 1000  # below this a pool costs more than it saves
_CHUNK = 250  # files a task


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
    taught where keypoints lie in their boxes, and in what order boxes and points are drawn.

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
    names, others = look_through(raw, leave=False)
    _check_names(raw, [*names, *others])
    sources = [name for name in names if name.lower().endswith(".json")]
    if not sources:
        lost = f", and {describe_others(others)}" if others else ""
        raise AnnotationError(
            f"{raw}: no labelme JSON in it ({len(names)} other files{lost}); save annotations there first"
        )
    images = ImageFolder(name for name in names if not name.lower().endswith(".json"))
    reader = FileReader(str(raw), images, schema, options)
    reading = _FolderReading(reader, processes, cache, progress)
    reading.read(sources)
    unlabelled, unread = reading.list_unlabelled()
    if unlabelled_images == "negative":
        reading.read(sorted([*unlabelled, *unread]))
        unlabelled, unread = [], []
    reading.keep()
    reading.read_contested_again()
    folder = reading.finish(unlabelled, unread)
    folder.faults[:0] = [Fault(name, None, "not-readable", what, NOT_READABLE_FIX) for name, what in others.items()]
    return folder


NOT_READABLE_FIX = "put the file itself there, or take it out of the folder"
"""What to do about links to nothing, to folders or out of the folder, pipes, and what nobody may read."""

_READERS = (
    atomic,
    boxes,
    depth,
    derived_boxes,
    drawing_order,
    errors,
    foreign,
    formats,
    header,
    instances,
    labelme,
    linker,
    listing,
    lookup,
    machine,
    media,
    names,
    opencv,
    packed,
    parse_cache,
    placement,
    predictions,
    reader,
    readings,
    samples,
    shapes,
    skeleton,
    texts,
    values,
)
"""Modules that reading a file runs, besides this one; a test holds them to the imports."""


def _cache_key(schema: Schema, options: LabelmeOptions) -> str:
    code = hash_code(__file__, *(str(module.__file__) for module in _READERS))
    return hashlib.sha256(msgspec.json.encode([code, schema, options], order="deterministic")).hexdigest()


class _FolderReading:
    """The reading of one folder: which record belongs to which file, and what all files have in common."""

    def __init__(
        self,
        reader: FileReader,
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
        self._several = array("q")  # positions of files with several objects
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
                reading = decode_reading(record)
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
            reading = decode_reading(self._store[number])
            self._to_keep.append(reading.signature is not None)
            self._any_new |= number >= first_new and reading.signature is not None
            self._claim(reading.file)
            if len(reading.objects) > 1 and not reading.file.derived_boxes:
                self._several.append(position)
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

    def list_unlabelled(self) -> tuple[list[str], list[str]]:
        """Return the images that no file read so far speaks of: those that can be read, and those that cannot."""
        unread = (name for name in self._reader.images.others if name_unread(name))
        return sorted(self._reader.images.images - self._claimed.keys()), sorted(set(unread) - self._claimed.keys())

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
        places = learn_places(instance for image in images for instance in image.instances)
        habit = self._learn_habit()
        if places or habit.any():
            sources = [self._sources[position] for position in self._contested]
            records = _map(self._reader.taught(places, habit), sources, self._processes)
            for position, record in zip(self._contested, records, strict=True):
                self._numbers[position] = self._store.append(record)
        for position in self._contested:
            self._count(position, decode_reading(self._store[self._numbers[position]]).file)

    def _learn_habit(self) -> Habit:
        """Learn in what order people draw, from the points that are beyond doubt; those of contested files as well."""
        schema = self._reader.schema
        chosen = self._several[:: 1 + len(self._several) // MAX_FILES]
        files = Files(self._store, [self._numbers[position] for position in chosen], schema)
        return learn_habit(_to_drawing(file, schema) for file in files)

    def finish(self, unlabelled: list[str], unread: list[str]) -> Folder:
        """Return all of it."""
        faults = [fault for position in sorted(self._faults) for fault in self._faults[position]]
        files = Files(self._store, self._numbers, self._reader.schema)
        encoding = self._reader.options.encoding
        return Folder(files, unlabelled, unread, faults + self._claimed_twice, self._ignored, self._aliased, encoding)


def _to_drawing(file: Ingested, schema: Schema) -> tuple[Drawing, dict[int, int]]:
    """Return the objects of a file as they were drawn, and the boxes of the points that are beyond doubt."""
    assert file.image is not None
    classes = [instance.class_name for instance in file.image.instances]
    boxes = {shapes.box: schema.classes[name].keypoints for shapes, name in zip(file.shapes, classes, strict=True)}
    points = {shape: name for shapes in file.shapes for name, shape in shapes.keypoints.items()}
    doubtful = {*file.by_place, *file.by_list_order}
    owner = {
        shape: shapes.box for shapes in file.shapes for shape in shapes.keypoints.values() if shape not in doubtful
    }
    return Drawing(boxes, points, rank_keypoints(schema)), owner


def _map(
    reader: FileReader,
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


_taken: list[FileReader] = []
"""The reader of a process of the pool: handed over once, since it names every image of the folder."""


def _take(reader: FileReader) -> None:
    _taken[:] = [reader]


def _read_chunk(sources: Sequence[str]) -> list[bytes]:
    return _taken[0].read_chunk(sources)


def near_misses(ignored: Iterable[str], schema: Schema) -> dict[str, str]:
    """Find ignored labels that look like a known one misspelt.

    Args:
        ignored: keys such as ``"point noze"``, shape type and label.
        schema: the known classes and keypoints.

    Returns:
        Label -> known name, for points and circles against keypoints, for boxes and outlines against classes.
    """
    found: dict[str, str] = {}
    keypoints, classes = schema.keypoint_labels, schema.class_labels
    for key in ignored:
        shape_type, _, label = key.partition(" ")
        is_object = shape_type in RECTANGLES | OUTLINES
        known = classes if is_object else keypoints if shape_type in ("point", "circle") else {}
        lower = {name.lower(): meant for name, meant in known.items()}
        close = difflib.get_close_matches(label.lower(), lower, n=1, cutoff=0.8)
        if close and label not in keypoints and label not in classes:
            found[label] = lower[close[0]]
    return found
