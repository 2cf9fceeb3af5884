"""The command sigmas: how far people who annotate the same images are apart, and the sigmas that follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from keypipe.annotations.folder import read_folder
from keypipe.errors import ConfigError, DatasetError, FaultsError, format_count
from keypipe.evaluation.oks import AreaRule
from keypipe.evaluation.sigmas import (
    FEW_REPETITIONS,
    SIGMAS_FILE,
    KeypointSigma,
    estimate_sigmas,
    format_sigmas,
    match_annotators,
)
from keypipe.files.atomic import write_text
from keypipe.keypoints.instances import AnnotatedImage
from keypipe.keypoints.skeleton import Schema
from tasks.convert import ConvertParams
from tasks.validate import ValidateParams
from tasks.workspace import params as read

_SLIP = 10  # distances of normal deviations exceed ten times their median once in 2**100 cases


class Estimated(msgspec.Struct, frozen=True):
    """What came of the folders.

    Attributes:
        sigmas: an entry for each keypoint.
        images: images that two people or more annotated.
        objects: objects that they have in common.
        alone: objects on these images that one person alone has.
        set_aside: files that were left out for their faults, under ``convert.on_error: quarantine``.
        area_rule: by which the object's area was taken.
        area_factor: share of the box, under the rule ``box``.
        warnings: what to know before the sigmas are used.
        path: the file that was written.
    """

    sigmas: list[KeypointSigma]
    images: int
    objects: int
    alone: int
    set_aside: int
    area_rule: AreaRule
    area_factor: float
    warnings: list[str]
    path: Path


def estimate(root: Path, folders: Sequence[Path], output: Path | None = None, encoding: str | None = None) -> Estimated:
    """Estimate sigmas from folders of labelme files, by the workspace's schema and area rule, and write them.

    Args:
        root: the workspace.
        folders: one for each person, with copies of the same images.
        output: the YAML file; default: ``data/sigmas.yaml``.
        encoding: of files that are neither UTF-8 nor UTF-16, instead of ``convert.encoding``.

    Raises:
        ConfigError: fewer than two folders, or one twice.
        FaultsError: annotations that cannot be read.
        DatasetError: the folders have nothing in common, or are copies of each other.
    """
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise ConfigError("sigmas: give two folders or more, a different one for each person")
    document = read.read_params(root)
    schema = read.load_schema(document)
    convert = read.load_section(document, "convert", ConvertParams)
    convert = convert.model_copy(update={"encoding": encoding or convert.encoding})
    validate = read.load_section(document, "validate", ValidateParams)
    read_folders = [_read(folder, schema, convert) for folder in folders]
    found = match_annotators([images for images, _ in read_folders])
    set_aside = sum(count for _, count in read_folders)
    if not found.objects:
        left_out = f"; {format_count(set_aside, 'file')} with faults left out" if set_aside else ""
        raise DatasetError(
            f"{found.images} images are in two folders, and no box of them overlaps another's by half{left_out}"
        )
    # The boxes' whole area is what the files of this pipeline have as COCO's area.
    factor = validate.area_factor if validate.area_rule == "box" else 1.0
    sigmas = estimate_sigmas(found.objects, schema, factor)
    if not any(entry.sigma for entry in sigmas):
        raise DatasetError("no keypoint differs between the folders: they look like copies of one person's work")
    path = output or root / SIGMAS_FILE
    write_text(path, format_sigmas(sigmas, validate.area_rule, validate.area_factor))
    return Estimated(
        sigmas,
        found.images,
        len(found.objects),
        found.alone,
        set_aside,
        validate.area_rule,
        validate.area_factor,
        list(_warn(sigmas)),
        path,
    )


def _read(folder: Path, schema: Schema, convert: ConvertParams) -> tuple[list[AnnotatedImage], int]:
    """Return the images of a folder, and the number of files that were left out for their faults."""
    read_files = read_folder(folder, schema, convert.options(), "ignore")
    if read_files.faults and convert.on_error == "fail":
        raise FaultsError(read_files.faults, f"in {folder}; mend them, or set convert.on_error: quarantine")
    faulty = {fault.file for fault in read_files.faults}
    images = [file.image for file in read_files.files if file.image is not None and file.source not in faulty]
    return images, len(faulty)


def _warn(sigmas: Sequence[KeypointSigma]) -> list[str]:
    warnings: list[str] = []
    missing = [entry.keypoint for entry in sigmas if not entry.repetitions]
    same = [entry.keypoint for entry in sigmas if entry.repetitions and not entry.sigma]
    few = [f"{entry.keypoint} ({entry.repetitions})" for entry in sigmas if 0 < entry.repetitions < FEW_REPETITIONS]
    if missing:
        warnings.append(f"no repetition of {', '.join(missing)}: left out")
    if same:
        warnings.append(f"not a pixel apart, as copies are: {', '.join(same)}; left out")
    if few:
        warnings.append(f"fewer than {FEW_REPETITIONS} repetitions: {', '.join(few)}; their sigmas may be far off")
    warnings += [
        f"{entry.keypoint}: the largest distance is {entry.largest_px / entry.median_px:.0f} times the median, in"
        f" {entry.largest_path}; look whether it is a slip"
        for entry in sigmas
        if entry.largest_px and entry.median_px and entry.largest_px > _SLIP * entry.median_px
    ]
    return warnings
