"""Stage split: every image gets a split and keeps it; the splits' COCO files, data.yaml and the YOLO view."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from sys import intern
from typing import Any

import msgspec
import numpy as np
import yaml
from pydantic import Field, field_validator, model_validator

from keypipe.dataset.coco import to_images
from keypipe.dataset.coco_stream import CocoLines, parse_image, pick, write_parts
from keypipe.dataset.yolo import SPLITS, to_data_yaml, to_fold_yaml
from keypipe.diagnosis.duplicates import find_duplicates
from keypipe.diagnosis.findings import Finding, find_lacking_splits, sort_findings
from keypipe.errors import ConfigError, DatasetError
from keypipe.files.texts import AS_UTF8, decode_text
from keypipe.images.near_duplicates import label_near_duplicates
from keypipe.images.pixels import CHANGED, read_pixels
from keypipe.keypoints.names import find_look_alikes, normal_form
from keypipe.keypoints.skeleton import Schema
from keypipe.splits.assignment import Split, assign_splits, check_ratios
from keypipe.splits.balance import IMAGES, Feature, Features, count_features, sum_features
from keypipe.splits.contents import Sample
from keypipe.splits.groups import find_group, find_version_group, look_up_groups, parse_groups
from keypipe.splits.manifest import (
    ABSENT,
    USED,
    Manifest,
    ManifestLine,
    format_phash,
    name_units,
    parse_phash,
    read_manifest,
    start_over,
    write_manifest,
)
from keypipe.splits.power import Power, find_power
from tasks.grading.loss_sigma import read_final_sigmas
from tasks.pages.reports import write_report
from tasks.pages.split import to_report
from tasks.progress import tell_in_lines
from tasks.workspace import params as read
from tasks.workspace.dataset import check_images, refresh_view
from tasks.workspace.places import (
    ANNOTATIONS,
    COCO,
    DATA_YAML,
    FOLDS,
    GROUPS,
    MANIFEST,
    PIXELS,
    report_folder,
)
from tasks.workspace.program import replacing, run_program, say, write_json
from tasks.workspace.verdict import DoctorParams, stop_at, without_ignored

REPORT = report_folder("split")
_TOLERANCE = 0.02  # of all images; a split that misses its share by more is worth a warning


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
        """Share of each split."""
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
        DatasetError: another schema than was converted with, too few images, an image without a group, a manifest
            with a line that cannot be parsed, or a finding as grave as ``doctor.fail_on``.
    """
    summary = split_dataset(params, doctor, seed, schema, loss_sigmas, root)
    refresh_view(root)
    for warning in summary["warnings"]:
        say(f"split: {warning}")
    if summary["power"] is not None:
        say(f"split: comparing models: {summary['power'].text}")
    say(f"split: {summary['headline']}")


def split_dataset(
    params: SplitParams,
    doctor: DoctorParams,
    seed: int,
    schema: Schema,
    loss_sigmas: Sequence[float],
    root: Path,
) -> dict[str, Any]:
    """Write ``data/dataset`` and the report, and return what the report says; see ``run``."""
    if not (root / COCO).exists():
        raise DatasetError(f"{COCO}: not there; run the convert stage first")
    coco = CocoLines(root / COCO)
    _check_schema(coco, schema)
    samples = read_samples(coco, params, root)
    check_images(root, (sample.path for sample in samples))
    written = read_manifest(root / MANIFEST)
    before = start_over(written, params.reset)
    phashes = look_at_new(root, samples, before.lines)
    known = before.lines if params.group_column is None else tuple(map(_put_into_normal_form, before.lines))
    assigned = assign_splits(
        samples, params.ratios, seed, known, phashes if params.near_duplicates else {}, params.folds
    )
    used = [line for line in assigned.lines if line.state == USED]
    division = divide(samples, used, params.folds)
    _check_objects(division.counts)
    found = [*find_leaks(coco, used, phashes), *find_lacking_classes(schema, division.counts)]
    findings = without_ignored(sort_findings(found), doctor)
    stop_at(findings, doctor)
    summary = summarise(assigned, division, before, written, params) | {"findings": findings}
    data_yaml = to_data_yaml(schema, [split for split in SPLITS if division.counts[split]], loss_sigmas)
    _write(root, coco, division, data_yaml, Manifest(assigned.lines, before.draw, before.reset), summary)
    return summary


def _put_into_normal_form(line: ManifestLine) -> ManifestLine:
    """Return a line with its group as tables have it now: one that is absent may have been written with blanks."""
    group = normal_form(line.group)
    return line if group == line.group else msgspec.structs.replace(line, group=group)


def _write(
    root: Path,
    coco: CocoLines,
    division: Division,
    data_yaml: dict[str, Any],
    manifest: Manifest,
    summary: dict[str, Any],
) -> None:
    with (
        replacing(root, ANNOTATIONS) as annotations,
        replacing(root, DATA_YAML) as data,
        replacing(root, FOLDS) as folds,
        replacing(root, MANIFEST) as manifest_path,
        replacing(root, REPORT) as report,
    ):
        annotations.mkdir()
        # an empty one as well, since later stages depend on the files by name
        parts = {annotations / f"{split}.json": bytes(at == split for at in division.splits) for split in SPLITS}
        data.write_text(_format_yaml(data_yaml), encoding="utf-8")
        folds.mkdir()
        write_json(folds / "index.json", {"folds": len(division.folds)})  # DVC warns of an empty folder
        for fold, chosen in division.folds.items():
            folder = folds / str(fold)
            (folder / "annotations").mkdir(parents=True)
            parts |= {folder / f"annotations/{split}.json": some for split, some in chosen.items()}
            (folder / "data.yaml").write_text(_format_yaml(to_fold_yaml(data_yaml, fold)), encoding="utf-8")
        write_parts(coco, parts)
        with manifest_path.open("w", encoding="utf-8", newline="") as file:
            write_manifest(file, manifest)
        report.mkdir()
        write_report(report, summary, to_report(summary, summary["findings"]))


def _check_schema(coco: CocoLines, schema: Schema) -> None:
    wanted = [(name, list(skeleton.keypoints)) for name, skeleton in schema.classes.items()]
    if [(category.name, category.keypoints) for category in coco.categories] != wanted:
        raise DatasetError(
            f"{COCO}: converted with other classes or keypoints than `schema` has; run the convert stage"
        )


def read_samples(coco: CocoLines, params: SplitParams, root: Path) -> list[Sample]:
    """Read what splits are chosen by, in the order of the file.

    Raises:
        AnnotationError: an annotation cannot be parsed.
        DatasetError: an image that has no group, see ``find_groups``.
    """
    names = {category.id: category.name for category in coco.categories}
    by_classes: dict[tuple[str, ...], Features] = {}  # images that are alike share one
    samples: list[Sample] = []
    for group, (image_line, lines) in zip(find_groups(params, coco, root), coco.entries(), strict=True):
        image = parse_image(image_line)
        classes = tuple([names[annotation.category_id] for annotation in coco.annotations(lines)])
        features = by_classes.get(classes) or by_classes.setdefault(classes, count_features(classes))
        samples.append(Sample(image.file_name, image.md5, features, group))
    return samples


def find_groups(params: SplitParams, coco: CocoLines, root: Path) -> Iterable[str]:
    """Return the group of every image, in the order of the file; empty: none.

    An image that is in no group of the user's, and is one of several versions of a picture, is in the group of these.

    Raises:
        DatasetError: an image that the expression or the table says nothing of.
    """
    if params.group_column is None:
        paths = (image.file_name for image in coco.images())
        return (intern(find_group(path, params.group_by) or find_version_group(path)) for path in paths)
    if not (root / GROUPS).exists():
        raise DatasetError(f"{GROUPS}: not there, but split.group_column names a column of it")
    table = parse_groups(decode_text((root / GROUPS).read_bytes(), str(GROUPS), advice=AS_UTF8), params.group_column)
    groups = look_up_groups(((image.file_name, image.source) for image in coco.images()), table)
    return (group or find_version_group(image.file_name) for group, image in zip(groups, coco.images(), strict=True))


def look_at_new(root: Path, samples: Sequence[Sample], known: Sequence[ManifestLine]) -> dict[str, str]:
    """Return md5 -> perceptual hash, as the manifest has it, of the images whose hash is not in the manifest.

    Raises:
        DatasetError: a picture is not the one that was converted.
    """
    hashed = {line.md5 for line in known if line.phash}
    files = {sample.md5: sample.path for sample in samples if sample.md5 not in hashed}
    progress = partial(tell_in_lines("split"), "images looked at")
    facts = read_pixels(files, root / PIXELS, progress=progress, folder=root / "data")
    changed = sorted(f"data/{files[md5]}" for md5, fact in facts.items() if fact.error == CHANGED)
    if changed:
        raise DatasetError(f"{len(changed)} images differ from what was converted, such as {changed[0]}; run convert")
    return {md5: format_phash(facts.pop(md5).phash) for md5 in files}


def find_leaks(coco: CocoLines, used: Sequence[ManifestLine], phashes: Mapping[str, str]) -> list[Finding]:
    """Find images that are the same, or look the same, in two splits.

    Images that look the same are in one split, unless ``split.near_duplicates`` is off.

    Args:
        coco: the dataset.
        used: the images that are in a split.
        phashes: md5 -> perceptual hash of images whose hash is not in the manifest.
    """
    split_of_copy: dict[str, str] = {}
    suspects = {line.md5 for line in used if split_of_copy.setdefault(line.md5, line.split) != line.split}
    hashes = (parse_phash(line.phash or phashes.get(line.md5, "")) for line in used)
    labels = label_near_duplicates(np.fromiter(hashes, np.uint64, len(used)))
    splits = np.fromiter((SPLITS.index(line.split) for line in used), np.int8, len(used))
    clusters: dict[int, set[str]] = defaultdict(set)
    for number in np.flatnonzero(np.isin(labels, labels[splits != splits[labels]])).tolist():
        clusters[labels[number]].add(used[number].md5)
    crossing = sorted(sorted(cluster) for cluster in clusters.values() if len(cluster) > 1)
    suspects = suspects.union(*crossing)
    split_of = {line.image: line.split for line in used if line.md5 in suspects}
    images = to_images(pick(coco, split_of))
    return [found for found in find_duplicates(images, split_of, crossing) if found.kind.endswith("across-sides")]


def find_lacking_classes(schema: Schema, counts: Mapping[str, Mapping[Feature, int]]) -> list[Finding]:
    """Find the classes of the dataset that a split lacks.

    Args:
        schema: the classes.
        counts: split -> features of its images; "" for those in none.
    """
    findings: list[Finding] = []
    for name in schema.class_names:
        by_split = {split: features.get(("objects", name), 0) for split, features in counts.items()}
        if any(by_split.values()):
            findings += find_lacking_splits(name, by_split, [split for split in SPLITS if counts[split]])
    return findings


def _format_yaml(values: dict[str, Any]) -> str:
    text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
    if yaml.safe_load(text) != values:  # or the training would be told of other names
        raise ConfigError("data.yaml would be read otherwise than it was written; rename the keypoints or classes")
    return text


class Division(msgspec.Struct):
    """What is where, in the order of the COCO file.

    Attributes:
        splits: of every image, empty for one in none.
        counts: split -> features of its images; "" for those in none.
        folds: fold -> split -> for each image whether it is there, 0 or 1.
        fold_counts: fold -> features of the images that it is validated on.
    """

    splits: list[str]
    counts: dict[str, Counter[Feature]]
    folds: dict[int, dict[str, bytes]]
    fold_counts: dict[int, Counter[Feature]]


def divide(samples: Sequence[Sample], used: Sequence[ManifestLine], n_folds: int) -> Division:
    """Look up where every image is.

    Args:
        samples: all images.
        used: the images that are in a split.
        n_folds: number of folds.
    """
    line_of = {line.image: line for line in used}
    lines = [line_of.get(sample.path) for sample in samples]
    splits = [line.split if line else "" for line in lines]
    fold_of = [line.fold if line else "" for line in lines]
    folds = {
        fold: {
            "train": bytes(at not in {"", str(fold)} for at in fold_of),
            "val": bytes(at == str(fold) for at in fold_of),
        }
        for fold in range(1, n_folds + 1)
    }

    def count(chosen: Iterable[bool | int]) -> Counter[Feature]:
        return sum_features(sample.features for sample in compress(samples, chosen))

    return Division(
        splits,
        {split: count(at == split for at in splits) for split in (*SPLITS, "")},
        folds,
        {fold: count(chosen["val"]) for fold, chosen in folds.items()},
    )


def _check_objects(counts: Mapping[str, Mapping[Feature, int]]) -> None:
    empty = [split for split in ("train", "val") if not any(kind == "objects" for kind, _ in counts[split])]
    if empty:
        raise DatasetError(
            f"no object at all in split {' and '.join(empty)}: too few images with objects;"
            " annotate more, or give it a larger share"
        )


def summarise(
    assigned: Split, division: Division, before: Manifest, written: Manifest, params: SplitParams
) -> dict[str, Any]:
    """Say what is in each split, and what became of earlier images.

    Args:
        assigned: where the images are now.
        division: the same, in the order of the COCO file.
        before: the manifest that the split started from.
        written: the manifest as the last run left it; another one after a reset.
        params: the stage's parameters.

    Returns:
        The machine-readable report; equal input gives equal values.
    """
    used = [line for line in assigned.lines if line.state == USED]
    known = {line.md5 for line in before.lines}
    splits = {
        split: _describe(division.counts[split], len(used)) | {"wanted": ratio}
        for split, ratio in params.ratios.items()
    }
    headline = " / ".join(f"{split} {splits[split]['images']}" for split in SPLITS if splits[split]["images"])
    summary = {
        "headline": headline + (f", {len(assigned.asides)} set aside" if assigned.asides else ""),
        "sides": splits,
        "folds": {str(fold): _describe(features, len(used)) for fold, features in division.fold_counts.items()},
        "groups": len({line.group for line in used if line.group}),
        "kept_together": [list(paths) for paths in assigned.together],
        "set_aside": [{"image": aside.image, "touches": aside.touches} for aside in assigned.asides],
        "new_images": sum(line.md5 not in known for line in used) if known else 0,
        "absent_images": sum(line.state == ABSENT for line in assigned.lines),
        "draw": before.draw,
        "moved_by_reset": _count_moved(used, written) if before.draw != written.draw else 0,
        "power": tell_power(used),
    }
    return summary | {"warnings": find_warnings(summary, used, params, reset_done=before.draw != written.draw)}


def tell_power(used: Sequence[ManifestLine]) -> Power | None:
    """Say which difference of two models the test split can decide; None without one."""
    unit, units = name_units([line.image for line in used if line.split == "test"], used)
    return find_power(len(set(units)), unit) if units else None


def _count_moved(used: Sequence[ManifestLine], written: Manifest) -> int:
    old_splits = {line.md5: line.split for line in written.lines if line.split}
    return sum(old_splits.get(line.md5, line.split) != line.split for line in used)


def _describe(features: Mapping[Feature, int], n_images: int) -> dict[str, Any]:
    def part(kind: str) -> dict[str, int]:
        return {name: count for (of, name), count in sorted(features.items()) if of == kind}

    images, objects = features.get(IMAGES, 0), part("objects")
    return {
        "images": images,
        "share": images / n_images,
        "negatives": features.get(("images with", "0"), 0),
        "objects": sum(objects.values()),
        "objects_by_class": objects,
        "images_by_objects": part("images with"),
    }


def find_warnings(
    summary: dict[str, Any], used: Sequence[ManifestLine], params: SplitParams, reset_done: bool
) -> list[str]:
    """Return what a person should know, a sentence each."""
    warnings: list[str] = []
    n_images = len(used)
    missed = [
        f"{split} {f['share']:.0%} instead of {f['wanted']:.0%}"
        for split, f in summary["sides"].items()
        if abs(f["images"] - f["wanted"] * n_images) > max(1, _TOLERANCE * n_images)
    ]
    if missed:
        because = "images keep their split, and new ones fill the ratios over time"
        largest = summary["kept_together"][0] if summary["kept_together"] else []
        wanted = min(f["wanted"] for f in summary["sides"].values() if f["wanted"])
        if len(largest) > max(1, min(wanted, 2 * _TOLERANCE) * n_images):
            group = next((line.group for line in used if line.image == largest[0] and line.group), "")
            name = f"the group {group!r}" if group else f"the near duplicates of {largest[0]}"
            because = f"{name} holds {len(largest)} of {n_images} images ({len(largest) / n_images:.0%}), in one split"
        warnings.append(f"the ratios are not reached, {', '.join(missed)}: {because}")
    if params.group_column is not None:
        groups = sorted({line.group for line in used if line.group != find_version_group(line.image)})
        warnings += [
            f"{GROUPS}: the groups {' and '.join(map(repr, alike))} look like one; give them one name if they are one"
            for alike in find_look_alikes(groups)
        ]
    if summary["set_aside"]:
        first = summary["set_aside"][0]
        touches = " and ".join(f"{split} ({image})" for split, image in first["touches"].items())
        warnings.append(
            f"{len(summary['set_aside'])} images touch two splits and are set aside,"
            f" such as {first['image']}: {touches}"
        )
    if params.reset:
        done = "all splits were drawn anew" if reset_done else "was done already and does nothing any more"
        warnings.append(f"split.reset: {done}; set it back to false")
    return warnings


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
