"""What was found on many images in one file: Parquet, a row for each image, or COCO. It is written as it grows."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from keypipe.dataset.coco import INFO, CocoAnnotation, CocoFile, CocoImage, format_head, to_categories
from keypipe.drift.segments import import_arrow
from keypipe.files.atomic import replacing_file
from keypipe.inference.results import Heading
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema

Format = Literal["json", "parquet", "coco"]
RESULT_FORMATS: tuple[Format, ...] = ("json", "parquet", "coco")
"""How what is found on images is written: a JSON file for each, or one file for all of them."""

NAMES = {"parquet": "predictions.parquet", "coco": "predictions.coco.json"}
"""The one file's name in the output folder."""

_ROWS = 1000  # images whose rows are held in memory
_SEEN, _HIDDEN = 2, 1  # COCO's visibility


def check_format(kind: Format) -> None:
    """Check that a format can be written here.

    Raises:
        PoseError: pyarrow is not installed.
    """
    if kind == "parquet":
        import_arrow()


class OneFile(Protocol):
    """Takes what was found on one image after the other."""

    def put(self, file: str, size_wh: tuple[int, int], predictions: list[Prediction]) -> None:
        """Add an image.

        Args:
            file: as it was named.
            size_wh: width and height of the upright image, pixels.
            predictions: pixels.
        """
        ...


@contextmanager
def open_one_file(kind: Format, folder: Path, heading: Heading, schema: Schema) -> Iterator[OneFile | None]:
    """Open the one file of all images; None where each has its own. One of another format and an earlier run goes.

    Args:
        kind: the format.
        folder: of the results.
        heading: the model, the thresholds and the names of keypoints, which the file says as well.
        schema: the model's classes and skeletons.

    Yields:
        What takes the images; whatever ends the block, the file then holds what it was given.
    """
    for other in NAMES.keys() - {kind}:
        (folder / NAMES[other]).unlink(missing_ok=True)  # it would be taken for a result of this run
    if kind == "json":
        yield None
        return
    with replacing_file(folder / NAMES[kind]) as path:
        writer = ParquetFile(path, heading) if kind == "parquet" else CocoPredictions(path, heading, schema)
        try:
            yield writer
        except BaseException:
            writer.close()
            path.replace(folder / NAMES[kind])  # what was found until then is kept, as in all formats
            raise
        writer.close()


class ParquetFile:
    """Rows of images with their objects in a list; the heading is JSON in the schema's metadata, under ``keypipe``."""

    def __init__(self, path: Path, heading: Heading) -> None:
        """Open the file."""
        self._arrow = import_arrow()
        metadata = {"keypipe": msgspec.json.encode(heading.fields())}
        self._schema = _row_schema(self._arrow).with_metadata(metadata)
        self._writer = self._arrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[dict[str, Any]] = []

    def put(self, file: str, size_wh: tuple[int, int], predictions: list[Prediction]) -> None:
        """Add an image; see ``OneFile``."""
        objects = msgspec.to_builtins(predictions)
        self._rows.append({"file": file, "width": size_wh[0], "height": size_wh[1], "objects": objects})
        if len(self._rows) >= _ROWS:
            self._write()

    def close(self) -> None:
        """Write what is left."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def _row_schema(arrow: Any) -> Any:
    number, text = arrow.float64(), arrow.string()
    keypoint = arrow.struct([("name", text), *((name, number) for name in ("x", "y", "confidence"))])
    found = arrow.struct(
        [
            ("class_name", text),
            ("score", number),
            ("box_xyxy", arrow.list_(number)),
            ("keypoints", arrow.list_(keypoint)),
        ]
    )
    sides = [(name, arrow.int32()) for name in ("width", "height")]
    return arrow.schema([("file", text), *sides, ("objects", arrow.list_(found))])


class _Found(CocoAnnotation):
    """An annotation as a model makes it: with its score, and the confidence of every keypoint."""

    score: float = 0.0
    keypoint_scores: list[float] = msgspec.field(default_factory=list)


class CocoPredictions:
    """A COCO file of what was found; ``info`` holds the heading.

    A keypoint's visibility is 2 from the confidence on that is drawn, and 1 below.
    """

    def __init__(self, path: Path, heading: Heading, schema: Schema) -> None:
        """Open the file."""
        self._conf = heading.thresholds.keypoint_conf
        self._categories = {name: number for number, name in enumerate(schema.class_names, start=1)}
        self._images = self._objects = 0
        self._file = path.open("wb")
        self._rest = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - closed with the other
        head = CocoFile([], [], to_categories(schema), INFO | {"keypipe": msgspec.to_builtins(heading.fields())})
        self._file.write(format_head(head) + b',\n"images":[\n')

    def put(self, file: str, size_wh: tuple[int, int], predictions: list[Prediction]) -> None:
        """Add an image; see ``OneFile``."""
        encode = msgspec.json.encode
        self._file.write((b",\n" if self._images else b"") + encode(CocoImage(self._images + 1, file, *size_wh)))
        self._images += 1
        for found in predictions:
            self._rest.write((b",\n" if self._objects else b"") + encode(self._to_annotation(found)))
            self._objects += 1

    def close(self) -> None:
        """Write the objects behind the images."""
        with self._file as file, self._rest as rest:
            file.write(b'\n],\n"annotations":[\n')
            rest.seek(0)
            shutil.copyfileobj(rest, file, 1 << 20)
            file.write(b"\n]}\n")

    def _to_annotation(self, found: Prediction) -> _Found:
        left, top, right, bottom = found.box_xyxy
        width, height = round(right - left, 2), round(bottom - top, 2)
        flat: list[int | float] = []
        for point in found.keypoints:
            flat += (point.x, point.y, _SEEN if point.confidence >= self._conf else _HIDDEN)
        return _Found(
            self._objects + 1,
            self._images,
            self._categories[found.class_name],
            (left, top, width, height),
            round(width * height, 2),
            flat,
            len(found.keypoints),
            score=found.score,
            keypoint_scores=[point.confidence for point in found.keypoints],
        )
