"""One labelme file and its image to an annotated image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from keypipe.annotations.cache import Signature, read_signed, sign_file
from keypipe.annotations.labelme import (
    LabelmeError,
    LabelmeFile,
    LabelmeOptions,
    decode_image_data,
    parse_labelme,
)
from keypipe.annotations.linking.drawing_order import Habit
from keypipe.annotations.linking.placement import Places
from keypipe.annotations.machine import find_untouched
from keypipe.annotations.readings import Ingested, Reading
from keypipe.annotations.shapes import ParsedShapes, parse_shapes
from keypipe.errors import AnnotationError, Fault, format_count
from keypipe.images.depth import Depth, NoRangeError
from keypipe.images.formats import UNREAD_FIX, UnreadFormatError, check_suffix
from keypipe.images.header import TOO_LARGE_FIX, ImageHeader, TooLargeError, parse_image_header
from keypipe.images.lookup import Found, ImageFolder
from keypipe.images.media import to_trainable
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.packed import Packed, pack
from keypipe.keypoints.skeleton import Schema


class FileReader(msgspec.Struct, frozen=True):
    """Reads the files of one folder.

    Attributes:
        raw: the folder.
        images: its files that may be images.
        schema: classes and keypoints to look for.
        options: how labels become keypoints.
        places: where keypoints lie in their boxes, as learnt from other files.
        habit: in what order boxes and points are drawn, as learnt from the files.
    """

    raw: str
    images: ImageFolder
    schema: Schema
    options: LabelmeOptions
    places: Places | None = None
    habit: Habit | None = None

    def taught(self, places: Places, habit: Habit) -> FileReader:
        """Return a reader that knows where keypoints usually lie, and in what order people draw."""
        return msgspec.structs.replace(self, places=places, habit=habit)

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
        found = self.images.find(file.source, file.image_path).name
        return found == file.raw_image and sign_file(f"{self.raw}/{found}") == reading.image_signature

    def read(self, source: str) -> Reading:
        """Read a JSON and its image; or an image alone, as one without objects.

        Raises:
            AnnotationError: a file is not there any more.
        """
        try:
            return self._read(source)
        except FileNotFoundError as error:
            raise AnnotationError(f"{error.filename}: gone since it was listed; run again") from error

    def _read(self, source: str) -> Reading:
        content, signature = read_signed(f"{self.raw}/{source}")
        if not source.lower().endswith(".json"):
            return self._to_reading(_to_negative(source, content, self.options.depth), Packed(), signature, signature)
        try:
            file = parse_labelme(content, self.options.encoding)
        except LabelmeError as error:
            fault = Fault(source, error.shape, "broken-json", str(error), error.fix)
            name = self.images.find(source, None).name  # which is not one without objects
            return Reading(Ingested(source, faults=[fault], raw_image=name))
        found = self.images.find(source, file.image_path, elsewhere=not file.has_image_data)
        content, image_signature = read_signed(f"{self.raw}/{found.name}") if found.name else (b"", None)
        result, objects = self._join(source, file, found, content)
        return self._to_reading(result, objects, signature, image_signature)

    @staticmethod
    def _to_reading(file: Ingested, objects: Packed, signature: Signature, image: Signature | None) -> Reading:
        """Sign what would be read again in the same way; faulty files and images made anew are read every time."""
        settled = signature.is_settled() and image is not None and image.is_settled()
        if not settled or file.faults or file.derived:
            return Reading(file, objects)
        return Reading(file, objects, signature, image)

    def _join(self, source: str, file: LabelmeFile, found: Found, content: bytes) -> tuple[Ingested, Packed]:
        name = found.name
        try:
            if name is None:
                content = _embedded_image(file, found)
            header = parse_image_header(content)
            check_suffix(name or "", header.format)
            usable = to_trainable(name or header.suffix, content, header, self.options.depth)
        except AnnotationError as error:
            return Ingested(source, faults=[_to_fault(source, found, error)], raw_image=name), Packed()
        mismatch = _size_mismatch(source, file, header)
        untouched = [] if self.options.machine == "take" else find_untouched(file)
        if untouched and not mismatch:
            return _to_unconfirmed(source, found, untouched, self.options), Packed()
        shapes = parse_shapes(file, header.size_wh, self.schema, self.options, source, self.places, self.habit)
        result = _to_ingested(source, name, shapes)
        result.image_format = header.format
        result.image_path, result.found_by = file.image_path, found.how
        if mismatch:
            result.faults = [mismatch, *result.faults]
        objects = Packed()
        if not result.faults:
            derived = name is None or usable is not content
            path = f"derived/{_derived_name(source, name, header)}" if derived else f"raw/{name}"
            result.image = AnnotatedImage(path, header.size_wh, _md5(usable), (), source)
            result.derived = derived
            objects = pack(shapes.instances, shapes.shapes, self.schema)
        return result, objects


def read_derived(raw: Path, file: Ingested, depth: Depth = "cut", encoding: str | None = None) -> bytes:
    """Return the bytes of an image that is not usable where it lies: mended, of 8 bits, or taken out of the JSON.

    Args:
        raw: the raw folder.
        file: one of its files, with ``derived``.
        depth: what becomes of samples of more than 8 bits.
        encoding: of the JSON, if it is neither UTF-8 nor UTF-16.

    Raises:
        AnnotationError: it is not the image any more that was read.
    """
    assert file.image is not None
    if file.raw_image:
        content = (raw / file.raw_image).read_bytes()
    else:
        content = decode_image_data(parse_labelme((raw / file.source).read_bytes(), encoding))
    header = parse_image_header(content)
    content = to_trainable(file.raw_image or header.suffix, content, header, depth)
    if _md5(content) != file.image.md5:
        raise AnnotationError(f"{file.source}: changed while it was read; run again")
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


_IMAGE_FIX = "put the image beside the JSON under the same name, or restore it"


class _SeveralImagesError(AnnotationError):
    """Nothing tells which image is meant."""


def _to_fault(source: str, found: Found, error: AnnotationError) -> Fault:
    """Make a fault of what is wrong with an image, or with the search for it."""
    if isinstance(error, UnreadFormatError):
        return Fault(source, None, "image-not-read", f"{found.name or 'imageData'}: {error}", UNREAD_FIX)
    if isinstance(error, NoRangeError):
        fix = "set convert.depth: scale, which brings the range that each image uses to 8 bits, or save it with 8 bits"
        return Fault(source, None, "image-without-range", f"{found.name or 'imageData'}: {error}", fix)
    if isinstance(error, _SeveralImagesError):
        return Fault(source, None, "several-images", str(error), "correct imagePath, or put the right one beside it")
    kind = "bad-image" if found.name else "no-image"
    fix = TOO_LARGE_FIX if isinstance(error, TooLargeError) else _IMAGE_FIX
    return Fault(source, None, kind, f"{found.name}: {error}" if found.name else str(error), fix)


def _to_unconfirmed(source: str, found: Found, untouched: Sequence[int], options: LabelmeOptions) -> Ingested:
    """Leave out an image that nobody has looked through, or make it a fault: half of it would teach that half."""
    result = Ingested(source, raw_image=found.name, machine=len(untouched))
    if options.machine == "refuse":
        count = format_count(len(untouched), "shape")
        message = f"{count} that a model drew and nobody has confirmed"
        result.faults = [Fault(source, untouched[0], "unconfirmed", message, CONFIRM_FIX)]
    return result


CONFIRM_FIX = "correct them in labelme, and tick the image's flag confirmed; or set convert.machine: skip"


def _to_ingested(source: str, name: str | None, shapes: ParsedShapes) -> Ingested:
    return Ingested(
        source,
        faults=shapes.faults,
        ignored=dict(shapes.ignored),
        aliased=dict(shapes.aliased),
        derived_boxes=shapes.derived_boxes,
        by_place=shapes.by_place,
        by_list_order=shapes.by_list_order,
        shared_groups=shapes.shared_groups,
        difficult=shapes.difficult,
        clipped=shapes.clipped,
        occluded_ignored=shapes.occluded_ignored,
        raw_image=name,
    )


def _embedded_image(file: LabelmeFile, found: Found) -> bytes:
    if file.has_image_data:
        return decode_image_data(file)
    if found.candidates:
        shown = ", ".join(found.candidates[:_SHOWN]) + (", ..." if len(found.candidates) > _SHOWN else "")
        raise _SeveralImagesError(f"{len(found.candidates)} images could be meant: {shown}")
    raise AnnotationError(f"{found.refused}, no image has the JSON's name, and none is embedded")


_SHOWN = 5  # images in a message


def _derived_name(source: str, name: str | None, header: ImageHeader) -> str:
    return name or str(PurePosixPath(source).with_suffix("")) + header.suffix


def _size_mismatch(source: str, file: LabelmeFile, header: ImageHeader) -> Fault | None:
    written = (file.image_width, file.image_height)
    if None in written or written == header.size_wh:
        return None
    found = "the JSON is for {}x{} px, the image is {}x{} px".format(*written, *header.size_wh)
    fix = "restore the image that was annotated, or open the JSON in labelme, check the points and save it"
    return Fault(source, None, "size-mismatch", found, fix)


def _to_negative(name: str, content: bytes, depth: Depth) -> Ingested:
    """Take an image without a JSON as one without objects."""
    try:
        header = parse_image_header(content)
        check_suffix(name, header.format)
        usable = to_trainable(name, content, header, depth)
    except AnnotationError as error:
        return Ingested(name, faults=[_to_fault(name, Found(name), error)], raw_image=name)
    derived = usable is not content
    path = f"derived/{name}" if derived else f"raw/{name}"
    image = AnnotatedImage(path, header.size_wh, _md5(usable), (), name)
    return Ingested(name, image=image, derived=derived, raw_image=name, image_format=header.format)
