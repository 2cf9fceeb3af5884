"""A folder of labelme files to annotated images: finds each JSON's image and accounts for every file."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import msgspec

from keypipe import annotation, boxes, errors, image, labelme, linking, parse_cache, placement, skeleton
from keypipe.annotation import AnnotatedImage
from keypipe.errors import AnnotationError, Fault
from keypipe.image import IMAGE_SUFFIXES, ImageHeader, parse_image_header, repair_image
from keypipe.labelme import (
    RECTANGLES,
    InstanceShapes,
    LabelmeError,
    LabelmeFile,
    LabelmeOptions,
    ParsedShapes,
    decode_image_data,
    parse_labelme,
    parse_shapes,
)
from keypipe.parse_cache import Signature, hash_code, read_entries, read_signed, sign_file, write_entries
from keypipe.placement import Places, learn_places
from keypipe.skeleton import Schema

_FILES_PER_PROCESS = 1000  # below this a pool costs more than it saves
_CHUNK = 250  # files a task


class Ingested(msgspec.Struct, array_like=True):
    """One JSON after reading.

    Attributes:
        source: the JSON, relative to the raw folder.
        image: the annotated image, or None when a fault stopped it.
        derived: bytes to write to ``image.path`` when the image is not usable where it lies, else None.
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
    derived: bytes | None = None
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


class _Reading(msgspec.Struct, array_like=True):
    """What reading a file gave, and the signatures of that file and of its image."""

    file: Ingested
    signature: Signature
    image_signature: Signature | None

    def may_be_kept(self) -> bool:
        """Tell whether the same would be read again while the signatures hold; faulty files are read every time."""
        settled = self.signature.is_settled() and self.image_signature is not None and self.image_signature.is_settled()
        return settled and not self.file.faults and self.file.derived is None


class Folder(msgspec.Struct):
    """Everything found in a raw folder.

    Attributes:
        files: one entry per JSON, by path.
        unlabelled: images that no JSON speaks of, relative to the raw folder.
        faults: all faults, those between files included.
    """

    files: list[Ingested]
    unlabelled: list[str]
    faults: list[Fault]

    @property
    def ignored(self) -> Counter[str]:
        """Number of shapes passed over, by type and label."""
        return _total(file.ignored for file in self.files)

    @property
    def aliased(self) -> Counter[str]:
        """Number of shapes read by an alias, by label and name."""
        return _total(file.aliased for file in self.files)


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total


def list_files(folder: Path) -> list[str]:
    """List all files below a folder as sorted relative paths with forward slashes; hidden ones are left out."""
    found: list[str] = []
    for base, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = Path(base).relative_to(folder).as_posix()
        found += [name if prefix == "." else f"{prefix}/{name}" for name in names if not name.startswith(".")]
    return sorted(found)


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
    sources = [name for name in names if name.lower().endswith(".json")]
    if not sources:
        raise AnnotationError(f"{raw}: no labelme JSON in it ({len(names)} other files); save annotations there first")
    images = frozenset(name for name in names if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)
    key = _cache_key(schema, options)
    kept = {reading.file.source: reading for reading in read_entries(cache, key, _Reading)} if cache else {}
    reader = _Reader(os.fspath(raw), images, schema, options)
    readings = _read_changed(reader, sources, kept, processes, progress)
    unlabelled = sorted(images - {reading.file.raw_image for reading in readings})
    if unlabelled_images == "negative":
        readings += _read_changed(reader, unlabelled, kept, processes, progress)
        unlabelled = []
    if cache and any(kept.get(reading.file.source) is not reading for reading in readings):
        write_entries(cache, key, [reading for reading in readings if reading.may_be_kept()])
    files = [reading.file for reading in readings]
    if any(file.contested for file in files):
        files = _read_contested_again(files, reader, processes)
    faults = [fault for file in files for fault in file.faults] + _claimed_twice(files)
    return Folder(files, unlabelled, faults)


_READERS = (annotation, boxes, errors, image, labelme, linking, parse_cache, placement, skeleton)
"""Modules that reading a file runs, besides this one; a test holds them to the imports."""


def _cache_key(schema: Schema, options: LabelmeOptions) -> str:
    code = hash_code(__file__, *(str(module.__file__) for module in _READERS))
    return hashlib.sha256(msgspec.json.encode([code, schema, options], order="deterministic")).hexdigest()


def _read_changed(
    reader: _Reader,
    sources: Sequence[str],
    kept: Mapping[str, _Reading],
    processes: int | None,
    progress: Callable[[int, int], None] | None,
) -> list[_Reading]:
    same = {source: kept[source] for source in sources if source in kept and reader.still_holds(kept[source])}
    todo = [source for source in sources if source not in same]
    read = {reading.file.source: reading for reading in _map(reader, todo, processes, progress)}
    return [same.get(source) or read[source] for source in sources]


def _read_contested_again(files: Sequence[Ingested], reader: _Reader, processes: int | None) -> list[Ingested]:
    images = (file.image for file in files if file.image and not file.contested)
    places = learn_places(instance for image in images for instance in image.instances)
    if not places:
        return list(files)
    contested = [file.source for file in files if file.contested]
    readings = _map(reader.taught(places), contested, processes)
    again = {reading.file.source: reading.file for reading in readings}
    return [again.get(file.source, file) for file in files]


def _map(
    reader: _Reader,
    sources: Sequence[str],
    processes: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[_Reading]:
    chunks = [sources[start : start + _CHUNK] for start in range(0, len(sources), _CHUNK)]
    workers = min(processes or os.cpu_count() or 1, max(1, len(sources) // _FILES_PER_PROCESS))
    decoder = msgspec.msgpack.Decoder(list[_Reading])
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        done = 0
        for encoded in pool.map(reader.read_chunk, chunks) if pool else map(reader.read_chunk, chunks):
            readings = decoder.decode(encoded)
            yield from readings
            done += len(readings)
            if progress:
                progress(done, len(sources))


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

    def read_chunk(self, sources: Sequence[str]) -> bytes:
        """Read some files; encoded, since pickling thousands of small objects would take longer than reading them."""
        return msgspec.msgpack.encode([self.read(source) for source in sources])

    def still_holds(self, reading: _Reading) -> bool:
        """Tell whether a file, the image that it would be joined to and that image's file are what they were."""
        file = reading.file
        if sign_file(f"{self.raw}/{file.source}") != reading.signature or file.raw_image is None:
            return False
        if file.source == file.raw_image:
            return True
        found, _ = _find_image(file.source, file.image_path, self.images)
        return found == file.raw_image and sign_file(f"{self.raw}/{found}") == reading.image_signature

    def read(self, source: str) -> _Reading:
        """Read a JSON and its image; or an image alone, as one without objects."""
        if source in self.images:
            content, signature = read_signed(f"{self.raw}/{source}")
            return _Reading(_to_negative(source, content), signature, signature)
        content, signature = read_signed(f"{self.raw}/{source}")
        try:
            file = parse_labelme(content)
        except LabelmeError as error:
            fix = "open it in labelme and save it again, or restore it"
            fault = Fault(source, error.shape, "broken-json", str(error), fix)
            return _Reading(Ingested(source, faults=[fault]), signature, None)
        name, refused = _find_image(source, file.image_path, self.images)
        content, image_signature = read_signed(f"{self.raw}/{name}") if name else (b"", None)
        return _Reading(self._join(source, file, name, refused, content), signature, image_signature)

    def _join(self, source: str, file: LabelmeFile, name: str | None, refused: str, content: bytes) -> Ingested:
        try:
            if name is None:
                content = _embedded_image(file, refused)
            header = parse_image_header(content)
            derived = None if name else content
            if not header.complete:
                content = derived = repair_image(content)
        except AnnotationError as error:
            fault = Fault(source, None, "bad-image" if name else "no-image", _of(name, error), _IMAGE_FIX)
            return Ingested(source, faults=[fault], raw_image=name)
        mismatch = _size_mismatch(source, file, header)
        shapes = parse_shapes(file, header.size_wh, self.schema, self.options, source, self.places)
        result = _to_ingested(source, name, shapes)
        result.image_format = header.format
        result.image_path = file.image_path
        if mismatch:
            result.faults = [mismatch, *result.faults]
        if not result.faults:
            path = f"raw/{name}" if derived is None else f"derived/{_derived_name(source, name, header)}"
            result.image = AnnotatedImage(path, header.size_wh, _md5(content), tuple(shapes.instances), source)
            result.derived = derived
        return result


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
        shapes=shapes.shapes,
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


def _claimed_twice(files: Iterable[Ingested]) -> list[Fault]:
    claims: dict[str, str] = {}
    faults: list[Fault] = []
    for file in files:
        if file.raw_image is None:
            continue
        first = claims.setdefault(file.raw_image, file.source)
        if first != file.source:
            found = f"{file.raw_image} is annotated by {first} as well"
            fix = "keep one of the two, or correct imagePath"
            faults.append(Fault(file.source, None, "image-claimed-twice", found, fix))
    return faults


def _to_negative(name: str, content: bytes) -> Ingested:
    """Take an image without a JSON as one without objects."""
    try:
        header = parse_image_header(content)
        derived = None if header.complete else repair_image(content)
    except AnnotationError as error:
        return Ingested(name, faults=[Fault(name, None, "bad-image", str(error), _IMAGE_FIX)], raw_image=name)
    path = f"raw/{name}" if derived is None else f"derived/{name}"
    image = AnnotatedImage(path, header.size_wh, _md5(derived or content), (), name)
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
