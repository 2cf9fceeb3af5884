"""A page for whoever annotates next: the skeleton, good examples of every keypoint, and how visibility is marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from keypipe.annotations.labelme import LabelmeOptions
from keypipe.annotations.reader import read_derived
from keypipe.annotations.readings import Folder
from keypipe.dataset.coco import to_coco
from keypipe.diagnosis.columns import ClassObjects, Located
from keypipe.diagnosis.outliers import Examiner
from keypipe.drawing.colours import keypoint_colours
from keypipe.drawing.layer import Layer
from keypipe.drawing.markings import draw_rings
from keypipe.drawing.pictures import RgbImage, draw_instances, encode_jpeg
from keypipe.drawing.text import draw_caption
from keypipe.errors import AnnotationError, DatasetError, format_count
from keypipe.evaluation.gallery import find_typical_pose
from keypipe.images.media import decode_image, read_image
from keypipe.keypoints.instances import AnnotatedImage, Visibility
from keypipe.keypoints.skeleton import Schema, Skeleton
from keypipe.ranking.examples import choose_examples, rate_objects
from keypipe.report.page import (
    Chapter,
    Figure,
    Gallery,
    Note,
    Notes,
    Picture,
    Report,
    Section,
    SkeletonDot,
    SkeletonPlot,
    SkeletonPlots,
    Table,
)
from tasks.convert import ConvertParams, read_raw
from tasks.labelling.gathered import gather_objects, learn_examiners
from tasks.pages.reports import write_report
from tasks.progress import Progress
from tasks.workspace import params as read
from tasks.workspace.places import RAW, REPORT_HTML, report_folder
from tasks.workspace.program import replacing

REPORT = report_folder("guide")
_VISIBLE = 2  # examples of each keypoint
_WHOLE = 6  # objects as a whole
_CLOSE_UP_PX = 180
_CLOSE_UP = 0.22  # box diagonals around a keypoint
_WHOLE_PX = 480
_POSES = 300  # objects that the typical pose is looked for among


class Guide(msgspec.Struct, frozen=True):
    """What was written: the page, and of how many keypoints it has an example."""

    page: Path
    keypoints: int
    shown: int

    def __str__(self) -> str:
        text = f"examples of {self.shown} of {format_count(self.keypoints, 'keypoint')}"
        return text if self.shown == self.keypoints else f"{text}; of the others none is labelled well inside a picture"


def write_guide(root: Path, progress: Progress) -> Guide:
    """Write the page.

    Args:
        root: the workspace.
        progress: is told how far it is.

    Raises:
        ConfigError: the parameters are wrong.
        AnnotationError: nothing is annotated.
        DatasetError: no object of the schema is annotated.
    """
    document = read.read_params(root)
    params = read.load_section(document, "convert", ConvertParams)
    schema = read.load_schema(document)
    folder = read_raw(params, schema, root, progress)
    objects = gather_objects(folder)
    if not any(len(of_class) for of_class in objects.values()):
        raise DatasetError(f"no object of {', '.join(schema.class_names)} is annotated in {RAW}; annotate some first")
    examiners = learn_examiners(objects, schema)
    pixels = _Pixels(root, folder, params)
    sections: list[Section] = [Notes("How to mark what you see", list(visibility_rules(params)))]
    shown, facts = 0, {}
    for number, (name, skeleton) in enumerate(schema.classes.items()):
        progress("classes drawn", number, len(schema.classes))
        of_class = _ClassGuide(name, skeleton, schema, objects[name], examiners.get(name), pixels)
        sections += of_class.sections()
        shown += of_class.shown
        facts[name] = of_class.facts()
    n_keypoints = sum(len(skeleton.keypoints) for skeleton in schema.classes.values())
    n_objects = sum(len(of_class) for of_class in objects.values())
    figures = [
        Figure("Classes", len(schema.classes)),
        Figure("Keypoints", n_keypoints),
        Figure("Annotated objects", n_objects),
    ]
    headline = f"{', '.join(schema.class_names)}: what to label, and how"
    with replacing(root, REPORT) as report:
        report.mkdir()
        page = Report("How to annotate", headline, sections, figures, "guide")
        write_report(report, {"headline": headline, "classes": facts}, page)
    return Guide(root / REPORT / REPORT_HTML, n_keypoints, shown)


def visibility_rules(params: ConvertParams) -> Iterator[Note]:
    """Say in words what convert makes of each way to mark a keypoint."""
    yield Note(
        "info", "An object is a rectangle with the class's name; each of its keypoints a point with its own name."
    )
    yield Note(
        "info", "Give a rectangle and its points one group_id where objects overlap: then nothing has to be guessed."
    )
    yield Note("good", "Seen: put the point on it.")
    ways = list(_ways_to_occlude(params.options()))
    if not ways:
        yield Note(
            "warning", "Hidden: this workspace has no way to mark it (convert.occluded_flag and the like are empty)."
        )
    elif params.occluded == "train":
        yield Note("good", f"Hidden, but you can tell where it is: put the point there and {', or '.join(ways)}.")
    else:
        yield Note("info", f"Hidden: nothing is learnt from such points. If you put them, {', or '.join(ways)}.")
    yield Note(
        "warning", "Not in the picture, or anybody's guess: no point at all. Never one at the edge or in a corner."
    )
    yield Note(
        "info", "A class that is in the picture is annotated wherever it is: what is left out is learnt as background."
    )


def _ways_to_occlude(options: LabelmeOptions) -> Iterator[str]:
    if options.occluded_flag:
        yield f"tick its flag {options.occluded_flag!r}"
    if options.occluded_suffix:
        yield f"end its label in {options.occluded_suffix!r}"
    if options.occluded_description:
        yield f"write {options.occluded_description!r} into its description"
    if options.difficult == "occluded":
        yield "tick X-AnyLabeling's difficult"


class _Pixels:
    """Reads the images of the folder, also those that lie in a JSON alone."""

    def __init__(self, root: Path, folder: Folder, params: ConvertParams) -> None:
        self._raw, self._params = root / RAW, params
        self._derived = {file.image.path: file for file in folder.files if file.image and file.derived}
        self._encoding = folder.encoding

    def read(self, image: AnnotatedImage) -> RgbImage | None:
        """Return uint8 (height, width, 3), RGB; None where the pixels cannot be read, which doctor tells."""
        try:
            if image.path in self._derived:
                content = read_derived(self._raw, self._derived[image.path], self._params.depth, self._encoding)
                bgr = decode_image(content)
            else:
                bgr = read_image(self._raw / image.path.partition("/")[2], self._params.depth)
        except (AnnotationError, OSError):
            return None
        return np.ascontiguousarray(bgr[..., ::-1])


class _ClassGuide:
    """The part of the page on one class."""

    def __init__(
        self,
        name: str,
        skeleton: Skeleton,
        schema: Schema,
        objects: ClassObjects,
        examiner: Examiner | None,
        pixels: _Pixels,
    ) -> None:
        self.name, self.skeleton, self.schema, self.objects, self.pixels = name, skeleton, schema, objects, pixels
        self.rows = objects.rows
        self.ratings = rate_objects(self.rows, examiner)
        self.shown = 0

    def sections(self) -> list[Section]:
        """Return them; for a class without objects, its names alone."""
        head = [Chapter(self.name, f"{format_count(len(self.objects), 'object')} annotated so far.")]
        if not len(self.objects):
            return [*head, self._table()]
        whole = self._draw_whole()
        close = self._draw_keypoints()
        close_note = "Cut from the data: the ring marks the keypoint. Good examples, not the only right ones."
        return [
            *head,
            *self._plot(),
            *([Gallery("Whole objects", whole, min_width_px=300)] if whole else []),
            *([Gallery("Every keypoint", close, note=close_note, min_width_px=400)] if close else []),
            self._table(),
        ]

    def facts(self) -> dict[str, dict[str, float | str | None]]:
        """Return for each keypoint its partner, and how often it was labelled how."""
        partners = self.skeleton.partners()
        states = self.rows.states
        shares = [(states == state).mean(axis=0) if len(states) else None for state in (2, 1, 0)]
        return {
            keypoint: {
                "partner": partners.get(keypoint, ""),
                **{
                    what: None if share is None else round(float(share[column]), 4)
                    for what, share in zip(("visible", "occluded", "not_labelled"), shares, strict=True)
                },
            }
            for column, keypoint in enumerate(self.skeleton.keypoints)
        }

    def _table(self) -> Section:
        rows = [
            [
                keypoint,
                fact["partner"],
                *(
                    "–" if fact[what] is None else f"{fact[what]:.0%}"
                    for what in ("visible", "occluded", "not_labelled")
                ),
            ]
            for keypoint, fact in self.facts().items()
        ]
        note = "How often each keypoint of an object is labelled so far. Partners exchange when a picture is mirrored."
        return Table("Visibility so far", ["Keypoint", "Partner", "Visible", "Occluded", "Not labelled"], rows, note)

    def _plot(self) -> list[Section]:
        """Draw the skeleton as a typical object has it."""
        best = choose_examples(self.rows, self.ratings, self.objects.file_numbers, _POSES)
        images = [
            msgspec.structs.replace(item.image, instances=(item.instance,), path=f"{item.image.path}#{row}")
            for row, item in ((row, self.objects[row]) for row in best)
        ]
        truth = to_coco(images, self.schema)
        pose = find_typical_pose(truth, self.schema.class_names.index(self.name) + 1)
        if pose is None:
            return []
        colours = keypoint_colours(self.schema)
        names = [name for name in self.skeleton.keypoints if name in pose.points]
        dots = [
            SkeletonDot(name, pose.points[name], None, None, "", "#{:02x}{:02x}{:02x}".format(*colours[name]))
            for name in names
        ]
        edges = [(names.index(a), names.index(b)) for a, b in self.skeleton.edges if a in names and b in names]
        note = "As a typical object has it. In the pictures left keypoints have cool colours, right ones warm ones."
        return [SkeletonPlots("The skeleton", [SkeletonPlot("", pose.size, dots, edges)], note)]

    def _draw_whole(self) -> list[Picture]:
        pictures: list[Picture] = []
        for row in choose_examples(self.rows, self.ratings, self.objects.file_numbers, _WHOLE):
            item = self.objects[row]
            image = self.pixels.read(item.image)
            if image is not None:
                part, moved = _cut_out(image, item)
                drawn = draw_instances(part, [moved.instance], self.schema, longest_side_px=_WHOLE_PX)
                pictures.append(Picture(encode_jpeg(drawn), item.image.source))
        return pictures

    def _draw_keypoints(self) -> list[Picture]:
        """Draw for each keypoint a strip of examples: seen ones, and a hidden one where there is any."""
        pictures: list[Picture] = []
        for column, keypoint in enumerate(self.skeleton.keypoints):
            strip: list[RgbImage] = []
            hidden = 0
            for state, count in ((Visibility.VISIBLE, _VISIBLE), (Visibility.OCCLUDED, 1)):
                rows = choose_examples(self.rows, self.ratings, self.objects.file_numbers, count, column, state)
                for row in rows:
                    drawn = self._draw_close(self.objects[row], keypoint)
                    if drawn is not None and state is Visibility.OCCLUDED:
                        draw_caption(drawn, "hidden")
                        hidden += 1
                    strip += [] if drawn is None else [drawn]
            if strip:
                self.shown += 1
                said = f"{len(strip) - hidden} seen" + (", 1 hidden and labelled all the same" if hidden else "")
                pictures.append(Picture(encode_jpeg(_join(strip)), keypoint, said))
        return pictures

    def _draw_close(self, item: Located, keypoint: str) -> RgbImage | None:
        """Cut the surroundings of a keypoint out of its image, and put a ring around it."""
        image = self.pixels.read(item.image)
        if image is None:
            return None
        point = item.instance.keypoints[keypoint]
        left, top, right, bottom = item.instance.box_xyxy
        reach = _CLOSE_UP * float(np.hypot(right - left, bottom - top))
        size_px = _CLOSE_UP_PX / 2 / max(reach, 1.0)
        # What lies beyond the edge of the image is left white, so that the keypoint is in the middle.
        view = (point.x - reach, point.y - reach, point.x + reach, point.y + reach)
        cut = Image.fromarray(image).transform(
            (_CLOSE_UP_PX, _CLOSE_UP_PX), Image.Transform.EXTENT, view, Image.Resampling.BICUBIC, fillcolor="white"
        )
        picture = np.array(cut)
        layer = Layer(picture, (0, 0, _CLOSE_UP_PX, _CLOSE_UP_PX))
        draw_rings(layer, [(size_px * reach, size_px * reach)], 9.0, 2.2)
        layer.paste()
        return picture


def _join(strip: Sequence[RgbImage]) -> RgbImage:
    """Put pictures of one size beside each other, as many places wide as there may be."""
    gap = np.full((_CLOSE_UP_PX, 4, 3), 255, dtype=np.uint8)
    empty = np.full((_CLOSE_UP_PX, _CLOSE_UP_PX, 3), 255, dtype=np.uint8)
    padded = [*strip, *[empty] * (_VISIBLE + 1 - len(strip))]
    return np.concatenate([part for picture in padded for part in (picture, gap)][:-1], axis=1)


def _cut_out(image: RgbImage, item: Located) -> tuple[RgbImage, Located]:
    """Cut an object out of its image, with a margin; its keypoints may lie outside its box."""
    points = item.instance.keypoints.values()
    left, top, right, bottom = item.instance.box_xyxy
    xs: Sequence[float] = [left, right, *(point.x for point in points)]
    ys: Sequence[float] = [top, bottom, *(point.y for point in points)]
    margin = 0.1 * max(max(xs) - min(xs), max(ys) - min(ys))
    height, width = image.shape[:2]
    x0, y0 = max(round(min(xs) - margin), 0), max(round(min(ys) - margin), 0)
    x1, y1 = min(round(max(xs) + margin), width), min(round(max(ys) + margin), height)
    return np.ascontiguousarray(image[y0:y1, x0:x1]), _move(item, x0, y0)


def _move(item: Located, x0: int, y0: int) -> Located:
    left, top, right, bottom = item.instance.box_xyxy
    points = {
        name: msgspec.structs.replace(point, x=point.x - x0, y=point.y - y0)
        for name, point in item.instance.keypoints.items()
    }
    moved = msgspec.structs.replace(
        item.instance, box_xyxy=(left - x0, top - y0, right - x0, bottom - y0), keypoints=points
    )
    return msgspec.structs.replace(item, instance=moved)
