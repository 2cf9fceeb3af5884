"""One labelme file and its image to an annotated image."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from keypipe.annotations.cache import Signature, read_signed, sign_file
from keypipe.annotations.labelme import (
    LabelmeError,
    LabelmeFile,
    LabelmeOptions,
    decode_image_data,
    parse_labelme,
)
from keypipe.annotations.linking.placement import Places
from keypipe.annotations.readings import Ingested, Reading
from keypipe.annotations.shapes import ParsedShapes, parse_shapes
from keypipe.errors import AnnotationError, Fault
from keypipe.images.header import IMAGE_SUFFIXES, ImageHeader, parse_image_header, repair_image
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.packed import Packed, pack
from keypipe.keypoints.skeleton import Schema


class FileReader(msgspec.Struct, frozen=True):
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

    def taught(self, places: Places) -> FileReader:
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
    """Find the JSON's image: by ``imagePath``, else by the JSON's stem; also say why none was found."""
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
