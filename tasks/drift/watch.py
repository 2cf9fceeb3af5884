"""A window of the prediction log beside the validation side: has it drifted, and how accurate is the model there?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from keypipe.drift.closeness import Closeness, Expected, Reliability, expect, learn_closeness, list_keypoints
from keypipe.drift.comparison import MIN_UNITS, Comparison, compare
from keypipe.drift.features import Feature, extract_features
from keypipe.drift.novelty import Novelty, tell_apart
from keypipe.drift.rows import Row
from keypipe.drift.segments import Window, read_window
from keypipe.errors import ConfigError, DatasetError, format_count
from keypipe.keypoints.skeleton import Schema
from keypipe.splits.groups import BY_FOLDER
from tasks.drift.in_use import ModelInUse, find_model_in_use
from tasks.drift.settings import LOG, DriftParams
from tasks.drift.validation_side import ValidationSide, look_at_validation_side
from tasks.progress import Progress, tell_nobody
from tasks.split import SplitParams
from tasks.validate import ValidateParams
from tasks.workspace import params as read

Kind = Literal["steady", "images differ", "drift", "cannot tell"]

DAY_S = 86400.0


class Watched(msgspec.Struct, frozen=True):
    """What a window came to.

    Attributes:
        kind: ``drift``: what the model says, or where, is clearly another; ``images differ``: the pixels alone are;
            ``cannot tell``: too few units.
        headline: what came of it, a sentence.
        model: which model, such as ``v3 of cows``.
        version: its number; "" of an export.
        run: the MLflow run of its training.
        since: where the window begins, seconds since the epoch.
        until: where it ends.
        window: its rows, and what was left out.
        units: name of the unit of each row.
        side: the validation side.
        comparison: what differs.
        features: of validation side and window.
        novelty: how well images can be told apart, and which best; None: too few units.
        expected: the accuracy that is to be expected; None where nothing could be learnt.
        reliability: what that is worth on the validation side.
    """

    kind: Kind
    headline: str
    model: str
    version: str
    run: str
    since: float
    until: float
    window: Window
    units: list[str]
    side: ValidationSide
    comparison: Comparison
    features: tuple[dict[str, Feature], dict[str, Feature]]
    novelty: Novelty | None
    expected: Expected | None
    reliability: Reliability | None


def watch(
    root: Path,
    params: DriftParams,
    since: float,
    until: float,
    *,
    log: Path | None = None,
    progress: Progress = tell_nobody,
) -> Watched:
    """Compare a window of the log with the validation side of the model in use.

    Args:
        root: the workspace.
        params: the section ``drift``.
        since: where the window begins, seconds since the epoch.
        until: where it ends.
        log: folder of the log; None: the workspace's.
        progress: is told how far it is.

    Raises:
        DatasetError: nothing was logged of this model in this window, or no image is there to compare with.
        ConfigError: no model is in use, or the parameters are wrong.
        PoseError: the registry does not answer.
    """
    document = read.read_params(root)
    keypoint_conf = read.load_section(document, "validate", ValidateParams).keypoint_conf
    group_by = read.load_section(document, "split", SplitParams).group_by
    seed = read.load_seed(document)
    model = find_model_in_use(root)
    folder = log or root / LOG
    window = read_window(folder, since, until, model.sha256, params.most_images, seed)
    if not window.rows:
        raise DatasetError(_say_nothing_logged(root, folder, model, window, since, until))
    views = all(row.views for row in window.rows)
    side = look_at_validation_side(root, model, params.splits, window.rows[0].thresholds, progress, views=views)
    return judge(model, side, window, since, until, params, keypoint_conf, group_by, seed)


def judge(
    model: ModelInUse,
    side: ValidationSide,
    window: Window,
    since: float,
    until: float,
    params: DriftParams,
    keypoint_conf: float,
    group_by: str | None,
    seed: int,
) -> Watched:
    """Compare rows with the validation side; see ``watch``."""
    views = all(row.views for row in window.rows)
    ready = prepare(side, keypoint_conf, seed, views=views)
    schema = side.info.schema
    units = [name_unit(row, group_by) for row in window.rows]
    now = _number(units)
    features = (ready.features, extract_features(window.rows, now, schema, side.shapes))
    comparison = compare(
        *features, len(set(ready.units)), len(set(now)), alpha=params.alpha, effect=params.effect, seed=seed
    )
    images = [_by_image(rows, schema, side, views=views) for rows in (side.rows, window.rows)]
    novelty = tell_apart(images[0], images[1], ready.units, now)
    learnt, expected = ready.learnt, None
    if learnt is not None:
        keypoints = list_keypoints(window.rows, now, schema, side.shapes, keypoint_conf, views=views)
        expected = expect(learnt, keypoints, most_separable=params.separable, most_outside=params.outside, seed=seed)
    kind = to_kind(comparison)
    return Watched(
        kind,
        describe(kind, comparison, model.name),
        model.name,
        model.version,
        model.run,
        since,
        until,
        window,
        units,
        side,
        comparison,
        features,
        novelty,
        expected,
        learnt.reliability if learnt else None,
    )


class Prepared(msgspec.Struct, frozen=True):
    """What every window is compared with.

    Attributes:
        units: position of the unit of each image of the validation side.
        features: of the validation side.
        learnt: what makes a keypoint close; None where there is too little to learn from.
    """

    units: list[int]
    features: dict[str, Feature]
    learnt: Closeness | None


def prepare(side: ValidationSide, keypoint_conf: float, seed: int, *, views: bool) -> Prepared:
    """Compute what every window is compared with.

    Args:
        side: the validation side.
        keypoint_conf: confidence from which a keypoint is shown.
        seed: of the units that are drawn anew.
        views: whether the window has looked at the mirrored and the smaller image as well.
    """
    schema, units = side.info.schema, _number(side.units)
    keypoints = list_keypoints(side.rows, units, schema, side.shapes, keypoint_conf, views=views, truth=side.truth)
    learnt = learn_closeness(keypoints, _count_kinds(schema), seed)
    return Prepared(units, extract_features(side.rows, units, schema, side.shapes), learnt)


def name_unit(row: Row, group_by: str | None) -> str:
    """Return what a row belongs to.

    What the client or the video says; else of a file what ``split.group_by`` makes of its path, or the file itself; of
    what was sent without a word the hour, since a camera's pictures of an hour are no independent witnesses.

    Args:
        row: the row.
        group_by: ``folder``, or a regular expression; None: there are no groups.
    """
    if row.group:
        return f"group {row.group}"
    if row.source == "serve":
        return f"hour {datetime.fromtimestamp(row.at, UTC):%Y-%m-%d %H}"
    if group_by == BY_FOLDER:
        return f"group {row.image.rpartition('/')[0]}"
    match = re.search(group_by, row.image) if group_by else None
    if match is not None:
        return f"group {match[1] if match.re.groups else match[0]}"
    return f"image {row.image}"


def _number(names: Sequence[str]) -> list[int]:
    return [int(number) for number in np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]]


def _count_kinds(schema: Schema) -> int:
    return sum(len(skeleton.keypoints) for skeleton in schema.classes.values())


def _by_image(rows: Sequence[Row], schema: Schema, side: ValidationSide, *, views: bool) -> np.ndarray:
    """Return the mean of every feature on every image, float64 (n_rows, n_features); NaN where it has none."""
    features = extract_features(rows, range(len(rows)), schema, side.shapes)
    columns = []
    for name, feature in features.items():
        if not views and name.endswith(("/mirrored", "/smaller")):
            continue
        count = np.bincount(feature.units, minlength=len(rows))
        sums = np.bincount(feature.units, weights=feature.values, minlength=len(rows))
        columns.append(np.where(count > 0, sums / np.maximum(count, 1), np.nan))
    return np.stack(columns, axis=1)


def to_kind(comparison: Comparison) -> Kind:
    """Return what a comparison came to."""
    if not comparison.enough:
        return "cannot tell"
    if comparison.alarm:
        return "drift"
    return "images differ" if comparison.clear("pixels") else "steady"


def describe(kind: Kind, comparison: Comparison, model: str) -> str:
    """Say in a sentence what came of it."""
    clear = list(dict.fromkeys(found.title for found in comparison.clear("outputs", "geometry")))
    pixels = list(dict.fromkeys(found.title for found in comparison.clear("pixels")))
    if kind == "cannot tell":
        units = f"{comparison.window_units} units in the window, {comparison.reference_units} on the validation side"
        return f"too few units to tell anything ({units}; {MIN_UNITS} are needed on both)"
    if kind == "drift":
        were = "is not what it was" if len(clear) == 1 else "are not what they were"
        return f"{_few(clear)}: with {model} {were} on the validation side"
    if kind == "images differ":
        return (
            f"{_few(pixels)} {'is' if len(pixels) == 1 else 'are'} new, and {model} answers as on the validation side"
        )
    return f"{model} answers as on the validation side"


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _say_nothing_logged(root: Path, folder: Path, model: ModelInUse, window: Window, since: float, until: float) -> str:
    shown = folder.relative_to(root) if folder.is_relative_to(root) else folder
    span = f"{format_time(since)} to {format_time(until)}"
    if window.others:
        others = ", ".join(f"{format_count(count, 'image')} {why}" for why, count in window.others.items())
        return (
            f"{shown} has nothing of {model.name} from {span} (but {others}); predict with the model in use, or look at"
            " another --window"
        )
    return (
        f"{shown} has no predictions from {span}; `keypipe serve --log` and `keypipe predict --log` write them, and so"
        " does every prediction once drift.log is true in params.yaml"
    )


def format_time(at: float) -> str:
    """Return a moment in the machine's time zone."""
    return f"{datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M}"


def check_window(since: float, until: float) -> None:
    """Refuse a window without any length.

    Raises:
        ConfigError: it ends before it begins.
    """
    if until <= since:
        raise ConfigError("the window ends before it begins")
