"""COCO-keypoints files a line at a time, so that the memory that they take does not grow with the dataset.

``coco.format_coco`` writes one line an entry: the sections ``info``, ``categories``, ``images`` and ``annotations`` in
this order, and the annotations grouped by image, in the order of the images. Lines of such a file can be passed on
as they are.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import msgspec

from keypipe.dataset.coco import CUT, DEPTH, CocoAnnotation, CocoCategory, CocoFile, CocoImage, format_coco, parse_coco
from keypipe.errors import AnnotationError

_BUFFER = 1 << 20  # bytes read at once
_TRUNCATED = "it ends where more must come"
_IMAGE = re.compile(rb'\{"id":(\d+),"file_name":')
_ANNOTATION = re.compile(rb'\{"id":\d+,"image_id":(\d+),"category_id":')
_parse_category = msgspec.json.Decoder(CocoCategory).decode
_decode_image = msgspec.json.Decoder(CocoImage).decode
_decode_annotation = msgspec.json.Decoder(CocoAnnotation).decode


class CocoLines:
    """A COCO-keypoints file that is read a line at a time, as often as one likes.

    A file with another layout, made by hand or by another program, is parsed as a whole and laid out in memory.

    Attributes:
        path: of the file.
        info: the first line, as it is.
        category_lines: one a category.
        categories: the classes.
        n_images: number of images.
    """

    def __init__(self, path: Path) -> None:
        """Read the head of a file, and find where its annotations start.

        Raises:
            AnnotationError: it is no COCO-keypoints file.
        """
        self.path = path
        self._open: Callable[[], BinaryIO] = lambda: path.open("rb", _BUFFER)
        if not self._find_sections():
            content = format_coco(_group(parse_coco(path.read_bytes())))
            self._open = lambda: io.BytesIO(content)
            if not self._find_sections():
                raise AssertionError("format_coco has another layout than CocoLines reads")
        self.categories = [_parse_category(line) for line in self.category_lines]
        self._n_values = {category.id: 3 * len(category.keypoints) for category in self.categories}

    def _find_sections(self) -> bool:
        with self._open() as file:
            self.info = file.readline()
            if not self.info.startswith(b'{"info":') or file.readline() != b'"categories":[\n':
                return False
            self.category_lines = list(_section(file))
            if file.readline() != b'"images":[\n':
                return False
            self._images_at = file.tell()
            self.n_images = sum(1 for _ in _section(file))
            if file.readline() != b'"annotations":[\n':
                return False
            self._annotations_at = file.tell()
            return True

    @property
    def depth(self) -> str:
        """What became of images with more than 8 bits a sample."""
        info: dict[str, str] = msgspec.json.decode(self.info.rstrip(b",\n") + b"}")["info"]
        return info.get(DEPTH, CUT)

    def image_lines(self) -> Iterator[bytes]:
        """Yield the line of every image."""
        with self._open() as file:
            file.seek(self._images_at)
            yield from _section(file)

    def images(self) -> Iterator[CocoImage]:
        """Yield every image.

        Raises:
            AnnotationError: a line cannot be parsed.
        """
        return map(parse_image, self.image_lines())

    def entries(self) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield the line of every image with those of its annotations.

        Raises:
            AnnotationError: an annotation that is on no image, or not where that image's are.
        """
        with self._open() as images, self._open() as annotations:  # spelt out, since it is most of what a pass takes
            images.seek(self._images_at)
            annotations.seek(self._annotations_at)
            line = annotations.readline()
            found = _ANNOTATION.match(line)
            for image_line in _section(images):
                image_id = _match(_IMAGE, image_line)[1]
                own: list[bytes] = []
                while found and found[1] == image_id:
                    own.append(line.rstrip(b",\n"))
                    line = annotations.readline()
                    found = _ANNOTATION.match(line)
                yield image_line, own
            if line.rstrip(b"\n") != b"]}" and line != b"\n":
                what = f"{_show(line)}: an annotation apart from the others of its image, or of no image of the file"
                raise AnnotationError(f"{self.path}: {what if line else _TRUNCATED}; run the stage again that wrote it")

    def annotations(self, lines: Iterable[bytes]) -> list[CocoAnnotation]:
        """Parse lines of annotations.

        Raises:
            AnnotationError: one cannot be parsed, or has another number of values than its category has keypoints.
        """
        parsed: list[CocoAnnotation] = []
        for line in lines:
            try:
                annotation = _decode_annotation(line)
            except msgspec.DecodeError as error:
                raise AnnotationError(f"{_show(line)}: not an annotation of a COCO file: {error}") from error
            n_values = self._n_values.get(annotation.category_id)
            if len(annotation.keypoints) != n_values:
                expected = "a category of the file" if n_values is None else f"{n_values} values for the keypoints"
                raise AnnotationError(f"{_show(line)}: expected {expected}, got {len(annotation.keypoints)} values")
            parsed.append(annotation)
        return parsed


def _section(file: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the entries of a section, without the commas between them."""
    for line in file:
        if line == b"],\n":
            return
        if line != b"\n":
            yield line.rstrip(b",\n")
    raise AnnotationError(f"a COCO file: {_TRUNCATED}")


def _group(file: CocoFile) -> CocoFile:
    """Put annotations in the order of the images."""
    order = {image.id: number for number, image in enumerate(file.images)}
    annotations = sorted(file.annotations, key=lambda annotation: order.get(annotation.image_id, len(order)))
    return CocoFile(file.images, annotations, file.categories, file.info)


def _match(pattern: re.Pattern[bytes], line: bytes) -> re.Match[bytes]:
    match = pattern.match(line)
    if match is None:
        raise AnnotationError(f"{_show(line)}: not an entry as keypipe writes it into COCO files")
    return match


def _show(line: bytes) -> str:
    return line[:80].decode(errors="replace")


def parse_image(line: bytes) -> CocoImage:
    """Parse the line of an image.

    Raises:
        AnnotationError: it is none.
    """
    try:
        return _decode_image(line)
    except msgspec.DecodeError as error:
        raise AnnotationError(f"{_show(line)}: not an image of a COCO file: {error}") from error


def image_without_id(line: bytes) -> bytes:
    """Return what an image's line says, without its id, which changes when other images come and go."""
    return line.split(b",", 1)[1]


def annotation_without_ids(line: bytes) -> bytes:
    """Return what an annotation's line says, without its own id and that of its image."""
    return line.split(b",", 2)[2]


def pick(coco: CocoLines, paths: Iterable[str]) -> CocoFile:
    """Read some images and what lies on them.

    Args:
        coco: the file.
        paths: of the images.
    """
    wanted = set(paths)
    file = CocoFile([], [], coco.categories)
    if wanted:
        for image_line, lines in coco.entries():
            image = parse_image(image_line)
            if image.file_name in wanted:
                file.images.append(image)
                file.annotations += coco.annotations(lines)
    return file


def write_parts(coco: CocoLines, parts: Mapping[Path, Sequence[int]]) -> None:
    """Write parts of a dataset, each a COCO file; ids stay as they are.

    Args:
        coco: the dataset.
        parts: path -> for each image whether it belongs to that part, 0 or 1.
    """
    with ExitStack() as stack:
        files = [(stack.enter_context(path.open("wb", _BUFFER)), chosen) for path, chosen in parts.items()]

        def write(section: str, lines: Iterable[tuple[int, bytes]]) -> None:
            between = {file: b"" for file, _ in files}
            for file, _ in files:
                file.write(b'"%s":[\n' % section.encode())
            for number, line in lines:
                for file, chosen in files:
                    if chosen[number]:
                        file.write(between[file])
                        file.write(line)
                        between[file] = b",\n"

        for file, _ in files:
            file.write(coco.info + b'"categories":[\n' + b",\n".join(coco.category_lines) + b"\n],\n")
        write("images", enumerate(coco.image_lines()))
        for file, _ in files:
            file.write(b"\n],\n")
        write("annotations", ((number, line) for number, (_, own) in enumerate(coco.entries()) for line in own))
        for file, _ in files:
            file.write(b"\n]}\n")
