"""Stage split: every image gets a side and keeps it; the sides' COCO files, data.yaml and the YOLO view."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from keypipe.annotation import AnnotatedImage
from keypipe.coco import CocoFile, format_coco, parse_coco, subset, to_images
from keypipe.errors import DatasetError
from keypipe.report import Figure, GroupedBarChart, KeyValues, Report, Section, Table, render_report
from keypipe.skeleton import Schema
from keypipe.split import ManifestLine, assign_sides, check_ratios, format_manifest, parse_manifest
from keypipe.yolo import SIDES, expand_sigmas, to_data_yaml
from tasks import params as read
from tasks.dataset import ANNOTATIONS, DATA_YAML, MANIFEST, refresh_view
from tasks.stage import replacing, run_program, say, write_json

COCO = Path("data/coco/keypoints.json")
REPORT = Path("reports/split")


class SplitParams(read.Section):
    """The section ``split`` of ``params.yaml``."""

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15
    group_by: str | None = Field(default=None, description="regular expression on the path below data/raw")

    @field_validator("group_by")
    @classmethod
    def _is_regex(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from error
        return value

    @model_validator(mode="after")
    def _add_up(self) -> SplitParams:
        try:
            check_ratios(self.ratios)
        except Exception as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def ratios(self) -> dict[str, float]:
        """Share of each side."""
        return {"train": self.train, "val": self.val, "test": self.test}


def run(params: SplitParams, seed: int, schema: Schema, loss_sigma: float | list[float], root: Path) -> None:
    """Split the converted dataset.

    Args:
        params: the stage's parameters.
        seed: of the draw.
        schema: classes and slots.
        loss_sigma: sigma of the pose loss, one for all slots or one each.
        root: the workspace.

    Raises:
        DatasetError: too few images, a group on two sides, or a manifest that contradicts itself.
    """
    if not (root / COCO).exists():
        raise DatasetError(f"{COCO}: not there; run the convert stage first")
    coco = parse_coco((root / COCO).read_bytes())
    images = to_images(coco)
    manifest_path = root / MANIFEST
    known = parse_manifest(manifest_path.read_text(encoding="utf-8")) if manifest_path.exists() else []
    pattern = re.compile(params.group_by) if params.group_by else None
    lines = assign_sides(images, params.ratios, seed, known, pattern)
    side_of = {line.image: line.side for line in lines if line.present == "yes"}
    sides = [side for side in SIDES if side in side_of.values()]
    _check_objects(images, side_of)
    sigmas = expand_sigmas(loss_sigma, len(schema.slots), "train.loss_sigma")
    data_yaml = to_data_yaml(schema, sides, list(sigmas))
    summary = summarise(images, side_of, lines, known)
    with (
        replacing(root, ANNOTATIONS) as annotations,
        replacing(root, DATA_YAML) as data,
        replacing(root, MANIFEST) as manifest,
        replacing(root, REPORT) as report,
    ):
        annotations.mkdir()
        for side in SIDES:  # an empty one as well, since later stages depend on the files by name
            (annotations / f"{side}.json").write_bytes(format_coco(_side(coco, side_of, side)))
        data.write_text(yaml.safe_dump(data_yaml, allow_unicode=True, sort_keys=False), encoding="utf-8")
        manifest.write_text(format_manifest(lines), encoding="utf-8")
        report.mkdir()
        write_json(report / "report.json", summary)
        (report / "report.html").write_text(render_report(to_report(summary)), encoding="utf-8")
    refresh_view(root)
    say(f"split: {summary['headline']}")


def _side(coco: CocoFile, side_of: dict[str, str], side: str) -> CocoFile:
    return subset(coco, (image.id for image in coco.images if side_of[image.file_name] == side))


def _check_objects(images: list[AnnotatedImage], side_of: dict[str, str]) -> None:
    objects = Counter(side_of[image.path] for image in images for _ in image.instances)
    empty = [side for side in ("train", "val") if not objects[side]]
    if empty:
        raise DatasetError(
            f"no object at all on the side {' and '.join(empty)}: too few images with objects;"
            " annotate more, or give the side a larger share"
        )


def summarise(
    images: list[AnnotatedImage], side_of: dict[str, str], lines: list[ManifestLine], known: list[ManifestLine]
) -> dict[str, Any]:
    """Count images, objects and classes of each side, and what became of earlier images."""
    before = {line.md5 for line in known} | {line.image for line in known}
    by_side: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        here = [image for image in images if side_of[image.path] == side]
        instances = [instance for image in here for instance in image.instances]
        by_side[side] = {
            "images": len(here),
            "share": len(here) / len(images),
            "negatives": sum(not image.instances for image in here),
            "objects": len(instances),
            "objects_by_class": dict(sorted(Counter(instance.class_name for instance in instances).items())),
            "groups": len({line.group for line in lines if line.side == side and line.present == "yes"}),
        }
    return {
        "headline": " / ".join(f"{side} {by_side[side]['images']}" for side in SIDES if by_side[side]["images"]),
        "sides": by_side,
        "new_images": sum(image.path not in before and image.md5 not in before for image in images) if known else 0,
        "absent_images": sum(line.present == "no" for line in lines),
    }


def to_report(summary: dict[str, Any]) -> Report:
    """Build the page that a person reads."""
    sides = {side: figures for side, figures in summary["sides"].items() if figures["images"]}
    rows = [
        [side, f["images"], f"{f['share']:.1%}", f["negatives"], f["objects"], f["groups"]] for side, f in sides.items()
    ]
    classes = sorted({name for figures in sides.values() for name in figures["objects_by_class"]})
    class_rows = [[name, *(f["objects_by_class"].get(name, 0) for f in sides.values())] for name in classes]
    sections: list[Section] = [
        Table("Sides", ["Side", "Images", "Share", "Without objects", "Objects", "Groups"], rows),
        GroupedBarChart(
            "Images and objects",
            list(sides),
            {kind: [f[kind] for f in sides.values()] for kind in ("images", "objects")},
        ),
        Table("Objects by class", ["Class", *sides], class_rows),
        KeyValues(
            "Since the last run",
            [("New images", summary["new_images"]), ("Images absent now", summary["absent_images"])],
        ),
    ]
    figures = [Figure(side, f["images"], f"{f['share']:.1%} of the images") for side, f in sides.items()]
    return Report("Sides of the dataset", summary["headline"], sections, figures, "split")


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    params = read.load_section(document, "split", SplitParams)
    train = document.get("train") or {}
    sigma = train.get("loss_sigma", read.DEFAULT_LOSS_SIGMA)
    run(params, read.load_seed(document), read.load_schema(document), sigma, root)


if __name__ == "__main__":
    run_program("split", main)
