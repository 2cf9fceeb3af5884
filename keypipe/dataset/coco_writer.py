"""Writes COCO-keypoints JSON as a stream: any number of images takes the same memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from keypipe.dataset.coco import (
    CUT,
    DEPTH,
    INFO,
    NOT_LABELLED,
    CocoFile,
    format_head,
    to_annotation,
    to_categories,
    to_entry,
)
from keypipe.keypoints.boxes import Box
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.packed import Packed, walk
from keypipe.keypoints.skeleton import Schema


def write_coco(path: Path, images: Iterable[tuple[AnnotatedImage, Packed]], schema: Schema, depth: str = CUT) -> None:
    """Write the COCO file of annotated images, one of them in memory at a time.

    Args:
        path: where to write; the file is that of ``format_coco(to_coco(images, schema))``.
        images: in the order of their paths; each with its objects, packed under the schema.
        schema: gives the categories.
        depth: what became of images with more than 8 bits a sample; whoever trains on the images is to know it.
    """
    encode = msgspec.json.encode
    head = CocoFile([], [], to_categories(schema), INFO | ({} if depth == CUT else {DEPTH: depth}))
    annotation_id = 0
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as rest:
        file.write(format_head(head) + b',\n"images":[\n')
        rest.write(b'"annotations":[\n')
        for image_id, (image, packed) in enumerate(images, start=1):
            file.write((b",\n" if image_id > 1 else b"") + encode(to_entry(image_id, image)))
            for category, box, flat, labelled in _unpack(packed, schema):
                rest.write(b",\n" if annotation_id else b"")
                annotation_id += 1
                rest.write(encode(to_annotation(annotation_id, image_id, category, box, flat, labelled)))
        file.write(b"\n],\n")
        rest.write(b"\n]}\n")
        rest.seek(0)
        shutil.copyfileobj(rest, file, 1 << 20)


def _unpack(packed: Packed, schema: Schema) -> Iterator[tuple[int, Box, list[int | float], int]]:
    """Yield category, box, keypoints and number of labelled ones of every object."""
    numbers, states = memoryview(packed.numbers).cast("d").tolist(), packed.states
    for class_number, at, state_at, n_keypoints in walk(packed, schema):
        flat: list[int | float] = []
        labelled = 0
        for index in range(n_keypoints):
            state = states[state_at + index]
            place = at + 4 + 2 * index
            flat += (numbers[place], numbers[place + 1], state) if state else NOT_LABELLED
            labelled += state > 0
        left, top, right, bottom = numbers[at : at + 4]
        yield class_number + 1, (left, top, right, bottom), flat, labelled
