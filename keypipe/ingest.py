"""A folder of labelme files to annotated images: finds each JSON's image and accounts for every file."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import msgspec

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
from keypipe.placement import Places, learn_places
from keypipe.skeleton import Schema

_FILES_PER_PROCESS = 1000  # below this a pool costs more than it saves


class Ingested(msgspec.Struct):
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

    @property
    def contested(self) -> bool:
        """Whether boxes overlap such that knowing where keypoints usually lie could change the result."""
        ambiguous = any(fault.kind == "ambiguous-keypoint" for fault in self.faults)
        return bool(self.by_place or self.by_list_order or ambiguous)


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

    Returns:
        Images, counts and faults; the same in any file order.

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
    read = partial(read_annotated, raw, images=images, schema=schema, options=options)
    files = _map(read, sources, processes)
    if any(file.contested for file in files):
        files = _read_contested_again(files, read, processes)
    faults = [fault for file in files for fault in file.faults] + _claimed_twice(files)
    used = {file.raw_image for file in files}
    unlabelled = sorted(images - used)
    if unlabelled_images == "negative":
        negatives = [_read_negative(raw, name) for name in unlabelled]
        files += negatives
        faults += [fault for file in negatives for fault in file.faults]
        unlabelled = []
    return Folder(files, unlabelled, faults)


def _read_contested_again(
    files: Sequence[Ingested], read: Callable[..., Ingested], processes: int | None
) -> list[Ingested]:
    images = (file.image for file in files if file.image and not file.contested)
    places = learn_places(instance for image in images for instance in image.instances)
    if not places:
        return list(files)
    contested = [file.source for file in files if file.contested]
    again = {file.source: file for file in _map(partial(read, places=places), contested, processes)}
    return [again.get(file.source, file) for file in files]


def _map(read: Callable[[str], Ingested], sources: Sequence[str], processes: int | None) -> list[Ingested]:
    workers = min(processes or os.cpu_count() or 1, max(1, len(sources) // _FILES_PER_PROCESS))
    if workers == 1:
        return [read(source) for source in sources]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(read, sources, chunksize=200))


def read_annotated(
    raw: Path,
    source: str,
    images: frozenset[str],
    schema: Schema,
    options: LabelmeOptions,
    places: Places | None = None,
) -> Ingested:
    """Read one JSON and its image.

    Args:
        raw: the raw folder.
        source: the JSON, relative to it.
        images: every image file of the folder, relative to it.
        schema: classes and keypoints to look for.
        options: how labels become keypoints.
        places: where keypoints lie in their boxes, as learnt from other files.

    Returns:
        The image with its instances, or the faults.
    """
    try:
        file = parse_labelme((raw / source).read_bytes())
    except LabelmeError as error:
        fix = "open it in labelme and save it again, or restore it"
        return Ingested(source, faults=[Fault(source, error.shape, "broken-json", str(error), fix)])
    name, refused = _find_image(source, file, images)
    try:
        content = (raw / name).read_bytes() if name else _embedded_image(file, refused)
        header = parse_image_header(content)
        derived = None if name else content
        if not header.complete:
            content = derived = repair_image(content)
    except AnnotationError as error:
        fault = Fault(source, None, "bad-image" if name else "no-image", _of(name, error), _IMAGE_FIX)
        return Ingested(source, faults=[fault], raw_image=name)
    mismatch = _size_mismatch(source, file, header)
    shapes = parse_shapes(file, header.size_wh, schema, options, source, places)
    result = _to_ingested(source, name, shapes)
    result.image_format = header.format
    if mismatch:
        result.faults = [mismatch, *result.faults]
    if not result.faults:
        path = f"raw/{name}" if derived is None else f"derived/{_derived_name(source, name, header)}"
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        result.image = AnnotatedImage(path, header.size_wh, md5, tuple(shapes.instances), source)
        result.derived = derived
    return result


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


def _find_image(source: str, file: LabelmeFile, images: frozenset[str]) -> tuple[str | None, str]:
    """Find the JSON's image: by ``imagePath``, else by the JSON's stem; also say why there is none."""
    folder = PurePosixPath(source).parent
    refused = "the JSON names no image"
    if file.image_path:
        written = PureWindowsPath(file.image_path).as_posix()
        named = os.path.normpath(folder / written)
        if named in images:
            return named, ""
        outside = named.startswith("..") or PureWindowsPath(written).is_absolute() or written.startswith("/")
        refused = f"imagePath {file.image_path!r} " + ("leaves the raw folder" if outside else "is not there")
    stem = (folder / PurePosixPath(source).stem).as_posix()
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


def _read_negative(raw: Path, name: str) -> Ingested:
    """Take an image without a JSON as one without objects."""
    content = (raw / name).read_bytes()
    try:
        header = parse_image_header(content)
        derived = None if header.complete else repair_image(content)
    except AnnotationError as error:
        return Ingested(name, faults=[Fault(name, None, "bad-image", str(error), _IMAGE_FIX)], raw_image=name)
    path = f"raw/{name}" if derived is None else f"derived/{name}"
    md5 = hashlib.md5(derived or content, usedforsecurity=False).hexdigest()
    image = AnnotatedImage(path, header.size_wh, md5, (), name)
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
