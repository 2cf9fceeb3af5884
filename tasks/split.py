"""Stage split: every image gets a side and keeps it; the sides' COCO files, data.yaml and the YOLO view."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from keypipe.annotation import AnnotatedImage
from keypipe.coco import CocoFile, format_coco, parse_coco, subset, to_images
from keypipe.duplicates import find_duplicates
from keypipe.errors import DatasetError
from keypipe.findings import Finding, find_lacking_sides, sort_findings
from keypipe.pixels import CHANGED, PixelFacts, near_duplicates, read_pixels
from keypipe.report import Cell, Figure, GroupedBarChart, KeyValues, Note, Notes, Report, Section, Table, render_report
from keypipe.skeleton import Schema
from keypipe.split import (
    ABSENT,
    USED,
    Manifest,
    ManifestLine,
    Split,
    assign_sides,
    check_ratios,
    count_features,
    find_group,
    format_manifest,
    look_up_groups,
    parse_groups,
    parse_manifest,
    start_over,
)
from keypipe.yolo import SIDES, to_data_yaml, to_fold_yaml
from tasks import params as read
from tasks.dataset import ANNOTATIONS, DATA_YAML, FOLDS, MANIFEST, check_images, refresh_view
from tasks.loss_sigma import read_final_sigmas
from tasks.stage import STATE, replacing, run_program, say, tell_progress, write_json
from tasks.verdict import DoctorParams, stop_at, to_section, without_ignored

COCO = Path("data/coco/keypoints.json")
GROUPS = Path("data/groups.csv")
RAW = Path("data/raw")
REPORT = Path("reports/split")
PIXELS = STATE / "cache/pixels.jsonl"
_MAX_ROWS = 200
_TOLERANCE = 0.02  # of all images; a side that misses its share by more is worth a warning


class SplitParams(read.Section):
    """The section ``split`` of ``params.yaml``."""

    train: float = 0.7
    val: float = 0.15
    test: float = 0.15
    group_by: str | None = Field(default=None, description="folder, or a regular expression on the path below data/raw")
    group_column: str | None = Field(default=None, description="a column of data/groups.csv")
    near_duplicates: bool = True
    folds: int = Field(default=0, description="0, or the number of folds")
    reset: bool = False

    @field_validator("group_by")
    @classmethod
    def _is_regex(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression ({error})") from error
        return value

    @field_validator("folds")
    @classmethod
    def _are_several(cls, value: int) -> int:
        if value < 0 or value == 1:
            raise ValueError("expected 0, or 2 and more")
        return value

    @model_validator(mode="after")
    def _add_up(self) -> SplitParams:
        try:
            check_ratios(self.ratios)
        except Exception as error:
            raise ValueError(str(error)) from error
        if self.group_by is not None and self.group_column is not None:
            raise ValueError("split: give group_by or group_column, not both")
        return self

    @property
    def ratios(self) -> dict[str, float]:
        """Share of each side."""
        return {"train": self.train, "val": self.val, "test": self.test}


def run(
    params: SplitParams,
    doctor: DoctorParams,
    seed: int,
    schema: Schema,
    loss_sigmas: Sequence[float],
    root: Path,
) -> None:
    """Split the converted dataset.

    Args:
        params: the stage's parameters.
        doctor: which findings are reported, and which stop the stage.
        seed: of the draw.
        schema: classes and slots.
        loss_sigmas: sigmas that the pose loss ends with, one a slot.
        root: the workspace.

    Raises:
        DatasetError: too few images, an image without a group, a manifest with a line that is none, or a finding as
            grave as ``doctor.fail_on``.
    """
    if not (root / COCO).exists():
        raise DatasetError(f"{COCO}: not there; run the convert stage first")
    coco = parse_coco((root / COCO).read_bytes())
    images = to_images(coco, keypoints=False)
    check_images(root, (image.path for image in images))
    manifest_path = root / MANIFEST
    written = parse_manifest(manifest_path.read_text(encoding="utf-8")) if manifest_path.exists() else Manifest()
    before = start_over(written, params.reset)
    pixels = look_at_new(root, images, before.lines)
    groups = find_groups(params, images, root)
    split = assign_sides(
        images, params.ratios, seed, before.lines, groups, pixels if params.near_duplicates else {}, params.folds
    )
    used = [line for line in split.lines if line.state == USED]
    side_of = {line.image: line.side for line in used}
    sides = [side for side in SIDES if side in side_of.values()]
    _check_objects(images, side_of)
    data_yaml = to_data_yaml(schema, sides, loss_sigmas)
    findings = without_ignored(sort_findings(find_leaks(coco, used, pixels, schema)), doctor)
    stop_at(findings, doctor)
    summary = summarise(images, split, before, written, params) | {"findings": findings}
    with (
        replacing(root, ANNOTATIONS) as annotations,
        replacing(root, DATA_YAML) as data,
        replacing(root, FOLDS) as folds,
        replacing(root, MANIFEST) as manifest,
        replacing(root, REPORT) as report,
    ):
        annotations.mkdir()
        for side in SIDES:  # an empty one as well, since later stages depend on the files by name
            (annotations / f"{side}.json").write_bytes(format_coco(_subset(coco, _on_side(used, side))))
        data.write_text(_format_yaml(data_yaml), encoding="utf-8")
        folds.mkdir()
        write_json(folds / "index.json", {"folds": params.folds})  # DVC warns of an empty folder
        for fold in range(1, params.folds + 1):
            _write_fold(folds / str(fold), fold, coco, used, to_fold_yaml(data_yaml, fold))
        lines = Manifest(split.lines, before.draw, before.reset)
        manifest.write_text(format_manifest(lines), encoding="utf-8")
        report.mkdir()
        write_json(report / "report.json", summary)
        (report / "report.html").write_text(render_report(to_report(summary, findings)), encoding="utf-8")
    refresh_view(root)
    for warning in summary["warnings"]:
        say(f"split: {warning}")
    say(f"split: {summary['headline']}")


def look_at_new(root: Path, images: Sequence[AnnotatedImage], known: Sequence[ManifestLine]) -> dict[str, PixelFacts]:
    """Return md5 -> pixel facts of the images whose hash is not in the manifest.

    Raises:
        DatasetError: a picture is not the one that was converted.
    """
    hashed = {line.md5 for line in known if line.phash}
    files = {image.md5: root / "data" / image.path for image in images if image.md5 not in hashed}
    progress = tell_progress("split", "images looked at")
    facts = read_pixels(files, root / PIXELS, progress=progress)
    changed = sorted(str(files[md5].relative_to(root)) for md5, fact in facts.items() if fact.error == CHANGED)
    if changed:
        raise DatasetError(f"{len(changed)} images differ from what was converted, such as {changed[0]}; run convert")
    return facts


def find_leaks(
    coco: CocoFile, used: Sequence[ManifestLine], pixels: Mapping[str, PixelFacts], schema: Schema
) -> list[Finding]:
    """Find images that are the same, or look the same, on two sides, and classes that a side lacks.

    Images that look the same are on one side, unless ``split.near_duplicates`` is off.

    Args:
        coco: the dataset.
        used: the images on a side.
        pixels: md5 -> facts of images whose hash is not in the manifest.
        schema: its classes.
    """
    side_of = {line.image: line.side for line in used}
    hashed = {line.md5: PixelFacts(line.md5, int(line.phash, 16), "") for line in used if line.phash}
    clusters = near_duplicates(hashed | {line.md5: pixels[line.md5] for line in used if line.md5 in pixels})
    sides_of: dict[str, set[str]] = defaultdict(set)
    for line in used:
        sides_of[line.md5].add(line.side)
    crossing = [cluster for cluster in clusters if len(set().union(*(sides_of[md5] for md5 in cluster))) > 1]
    suspects = {md5 for md5, sides in sides_of.items() if len(sides) > 1}.union(*crossing)
    images = to_images(subset(coco, (image.id for image in coco.images if image.md5 in suspects)))
    images = [image for image in images if image.path in side_of]
    findings = [found for found in find_duplicates(images, side_of, crossing) if found.kind.endswith("across-sides")]
    categories = {category.id: category.name for category in coco.categories}
    image_of = {image.id: image.file_name for image in coco.images}
    objects: dict[str, Counter[str]] = {name: Counter() for name in schema.class_names}
    for annotation in coco.annotations:
        objects[categories[annotation.category_id]][side_of.get(image_of[annotation.image_id], "")] += 1
    for name, by_side in objects.items():
        if by_side:
            findings += find_lacking_sides(name, by_side, set(side_of.values()))
    return findings


def find_groups(params: SplitParams, images: Sequence[AnnotatedImage], root: Path) -> dict[str, str]:
    """Return path -> group of every image; empty: none.

    Raises:
        DatasetError: an image that the expression or the table says nothing of.
    """
    if params.group_column is None:
        return {image.path: find_group(image.path, params.group_by) for image in images}
    if not (root / GROUPS).exists():
        raise DatasetError(f"{GROUPS}: not there, but split.group_column names a column of it")
    table = parse_groups((root / GROUPS).read_text(encoding="utf-8"), params.group_column)
    return look_up_groups(images, table)


def _on_side(lines: Sequence[ManifestLine], *sides: str) -> set[str]:
    return {line.image for line in lines if line.side in sides}


def _subset(coco: CocoFile, paths: Collection[str]) -> CocoFile:
    return subset(coco, (image.id for image in coco.images if image.file_name in paths))


def _format_yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


def _write_fold(folder: Path, fold: int, coco: CocoFile, used: Sequence[ManifestLine], data: dict[str, Any]) -> None:
    """Write one fold's dataset: it is validated on the fold, and trained on the others."""
    (folder / "annotations").mkdir(parents=True)
    val = {line.image for line in used if line.fold == str(fold)}
    for side, paths in {"train": _on_side(used, "train", "val") - val, "val": val}.items():
        (folder / "annotations" / f"{side}.json").write_bytes(format_coco(_subset(coco, paths)))
    (folder / "data.yaml").write_text(_format_yaml(data), encoding="utf-8")


def _check_objects(images: Sequence[AnnotatedImage], side_of: dict[str, str]) -> None:
    objects = Counter(side_of.get(image.path) for image in images for _ in image.instances)
    empty = [side for side in ("train", "val") if not objects[side]]
    if empty:
        raise DatasetError(
            f"no object at all on the side {' and '.join(empty)}: too few images with objects;"
            " annotate more, or give the side a larger share"
        )


def summarise(
    images: Sequence[AnnotatedImage], split: Split, before: Manifest, written: Manifest, params: SplitParams
) -> dict[str, Any]:
    """Say what is on each side, and what became of earlier images.

    Args:
        images: of the dataset.
        split: where they are now.
        before: the manifest that the split started from.
        written: the manifest as the last run left it; another one after a reset.
        params: the stage's parameters.

    Returns:
        The machine-readable report; equal input gives equal values.
    """
    used = [line for line in split.lines if line.state == USED]
    known = {line.md5 for line in before.lines}
    old_sides = {line.md5: line.side for line in written.lines if line.side}
    sides = {
        side: _describe([image for image in images if image.path in paths], len(used)) | {"wanted": ratio}
        for side, ratio in params.ratios.items()
        for paths in [_on_side(used, side)]
    }
    folds = {
        str(fold): _describe([image for image in images if image.path in paths], len(used))
        for fold in range(1, params.folds + 1)
        for paths in [{line.image for line in used if line.fold == str(fold)}]
    }
    headline = " / ".join(f"{side} {sides[side]['images']}" for side in SIDES if sides[side]["images"])
    summary = {
        "headline": headline + (f", {len(split.asides)} set aside" if split.asides else ""),
        "sides": sides,
        "folds": folds,
        "groups": len({line.group for line in used if line.group}),
        "kept_together": [list(paths) for paths in split.together],
        "set_aside": [{"image": aside.image, "touches": aside.touches} for aside in split.asides],
        "new_images": sum(line.md5 not in known for line in used) if known else 0,
        "absent_images": sum(line.state == ABSENT for line in split.lines),
        "draw": before.draw,
        "moved_by_reset": sum(old_sides.get(line.md5, line.side) != line.side for line in used),
    }
    return summary | {"warnings": find_warnings(summary, used, params, reset_done=before.draw != written.draw)}


def _describe(images: Sequence[AnnotatedImage], n_images: int) -> dict[str, Any]:
    features = count_features(images)

    def part(kind: str) -> dict[str, int]:
        return {name: count for (of, name), count in sorted(features.items()) if of == kind}

    return {
        "images": len(images),
        "share": len(images) / n_images,
        "negatives": sum(not image.instances for image in images),
        "objects": sum(len(image.instances) for image in images),
        "objects_by_class": part("objects"),
        "images_by_objects": part("images with"),
    }


def find_warnings(
    summary: dict[str, Any], used: Sequence[ManifestLine], params: SplitParams, reset_done: bool
) -> list[str]:
    """Return what a person should know, a sentence each."""
    warnings: list[str] = []
    n_images = len(used)
    missed = [
        f"{side} {f['share']:.0%} instead of {f['wanted']:.0%}"
        for side, f in summary["sides"].items()
        if abs(f["images"] - f["wanted"] * n_images) > max(1, _TOLERANCE * n_images)
    ]
    if missed:
        because = "images keep their side, and new ones fill the ratios over time"
        largest = summary["kept_together"][0] if summary["kept_together"] else []
        wanted = min(f["wanted"] for f in summary["sides"].values() if f["wanted"])
        if len(largest) > max(1, min(wanted, 2 * _TOLERANCE) * n_images):
            group = next((line.group for line in used if line.image == largest[0] and line.group), "")
            name = f"the group {group!r}" if group else f"the near duplicates of {largest[0]}"
            because = f"{name} holds {len(largest)} of {n_images} images ({len(largest) / n_images:.0%}), on one side"
        warnings.append(f"the ratios are not reached, {', '.join(missed)}: {because}")
    if summary["set_aside"]:
        first = summary["set_aside"][0]
        touches = " and ".join(f"{side} ({image})" for side, image in first["touches"].items())
        warnings.append(
            f"{len(summary['set_aside'])} images touch two sides and are set aside, such as {first['image']}: {touches}"
        )
    if params.reset:
        done = "all sides were drawn anew" if reset_done else "was done already and does nothing any more"
        warnings.append(f"split.reset: {done}; set it back to false")
    return warnings


def to_report(summary: dict[str, Any], findings: Sequence[Finding] = ()) -> Report:
    """Build the page that a person reads."""
    sides = {side: figures for side, figures in summary["sides"].items() if figures["images"]}
    rows = [
        [side, f["images"], f"{f['share']:.1%}", f"{f['wanted']:.1%}", f["negatives"], f["objects"]]
        for side, f in sides.items()
    ]
    sections: list[Section] = [
        *(
            [Notes("Worth a look", [Note("warning", text) for text in summary["warnings"]])]
            if summary["warnings"]
            else []
        ),
        Table("Sides", ["Side", "Images", "Share", "Wanted", "Without objects", "Objects"], rows),
        GroupedBarChart(
            "Images and objects",
            list(sides),
            {kind: [f[kind] for f in sides.values()] for kind in ("images", "objects")},
        ),
        _shares("Objects by class", "Class", "objects_by_class", sides),
        _shares("Images by their number of objects", "Objects", "images_by_objects", sides),
    ]
    if findings:
        sections.append(to_section(findings, {}, RAW.as_posix()))
    if summary["folds"]:
        fold_rows = [[fold, f["images"], f["objects"]] for fold, f in summary["folds"].items()]
        sections.append(Table("Folds of train and val", ["Fold", "Images", "Objects"], fold_rows))
    if summary["set_aside"]:
        aside_rows: list[list[Cell]] = [
            [aside["image"], *next(iter(aside["touches"].items())), *list(aside["touches"].items())[-1]]
            for aside in summary["set_aside"]
        ]
        columns = ["Image", "Touches", "by", "and", "by"]
        note = "Images that belong to two sides are in none, until the manifest or the groups are mended."
        sections.append(Table("Set aside", columns, aside_rows, note))
    if summary["kept_together"]:
        together: list[list[Cell]] = [
            [len(paths), ", ".join(paths[:4]) + (" …" if len(paths) > 4 else "")] for paths in summary["kept_together"]
        ]
        title = "Kept together: groups and near duplicates"
        sections.append(Table(title, ["Images", "Which"], together[:_MAX_ROWS], f"{len(together)} in all."))
    sections.append(
        KeyValues(
            "Since the last run",
            [
                ("New images", summary["new_images"]),
                ("Images absent now", summary["absent_images"]),
                ("Draw of all sides", summary["draw"]),
                ("Images moved by the reset", summary["moved_by_reset"]),
            ],
        )
    )
    figures = [Figure(side, f["images"], f"{f['share']:.1%} of the images") for side, f in sides.items()]
    return Report("Sides of the dataset", summary["headline"], sections, figures, "split")


def _shares(title: str, what: str, key: str, sides: dict[str, Any]) -> Table:
    names = sorted({name for f in sides.values() for name in f[key]}, key=_by_number)
    rows: list[list[Cell]] = []
    for name in names:
        counts = [f[key].get(name, 0) for f in sides.values()]
        rows.append([name, *counts, " / ".join(f"{count / sum(counts):.0%}" for count in counts)])
    return Table(title, [what, *sides, "Shares"], rows)


def _by_number(name: str) -> tuple[int, str]:
    number = name.partition("-")[0]
    return (int(number) if number.isdecimal() else 0, name)


def main(root: Path) -> None:
    """Run the stage with the workspace's parameters."""
    document = read.read_params(root)
    params = read.load_section(document, "split", SplitParams)
    schema = read.load_schema(document)
    sigmas = read_final_sigmas(document, len(schema.slots)).tolist()
    doctor = read.load_section(document, "doctor", DoctorParams)
    run(params, doctor, read.load_seed(document), schema, sigmas, root)


if __name__ == "__main__":
    run_program("split", main)
