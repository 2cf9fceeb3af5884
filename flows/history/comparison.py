"""``keypipe compare``: what two or more runs were made of, and what came of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flows.history.known_runs import LATEST, WORKSPACE, find_run, find_snapshot, list_runs
from flows.system.tables import print_table
from keypipe.dataset.changes import DatasetChanges, compare_datasets
from keypipe.dataset.coco import CocoFile, parse_coco
from keypipe.errors import ConfigError, PoseError
from keypipe.report.page import (
    Cell,
    GroupedBarChart,
    KeyValues,
    Report,
    Section,
    Table,
    format_cell,
    render_report,
)
from keypipe.report.page import Figure as Headline
from keypipe.splits.manifest import USED, parse_manifest
from tasks.pages.reports import parse_report
from tasks.versions import git, snapshots
from tasks.versions.store import opened_commit
from tasks.workspace.documents import parse_yaml
from tasks.workspace.places import (
    COCO,
    LOCAL_FILE,
    MANIFEST,
    PARAMS_FILE,
    REPORT_HTML,
    REPORT_JSON,
    metrics_file,
    report_folder,
)
from tasks.workspace.program import write_json

PAGE = report_folder("compare") / REPORT_HTML
METRICS = metrics_file("validate")
VALIDATION = report_folder("validate") / REPORT_JSON
CODE = ("keypipe", "tasks", "flows", "dvc.yaml")

SPLITS = ("val", "test")
HEADLINES = ("oks_AP", "oks_AP50")

MAX_ROWS = 200
"""Longest list of images on the page; the JSON file beside it has all of them."""

Read = Callable[[str], bytes | None]
Interval = tuple[float, float]


class Figure(msgspec.Struct, frozen=True):
    """A figure of a run: its value and, where it was measured, its 95 % interval."""

    value: float
    interval: Interval | None = None


class KeypointFigure(msgspec.Struct, frozen=True):
    """How far one keypoint is off.

    Attributes:
        median_px: median error, pixels; None where none was found.
        within: share of the labelled ones that are close; None where none is labelled.
    """

    median_px: float | None
    within: float | None


class Subject(msgspec.Struct):
    """One of the things compared.

    Attributes:
        name: as the columns are headed.
        note: what it is.
        tree: git's name for its files.
        params: flat, such as ``train.epochs``; those of the machine begin with ``local.``.
        data: its COCO file; None where it is gone.
        splits: split by image.
        figures: by split and name, such as ``val oks_AP``.
        keypoints: by split, class and keypoint.
    """

    name: str
    note: str
    tree: str
    params: dict[str, str]
    data: CocoFile | None
    splits: dict[str, str]
    figures: dict[str, Figure]
    keypoints: dict[tuple[str, str, str], KeypointFigure]


class Comparison(msgspec.Struct):
    """What several subjects have in common, and what not.

    Attributes:
        names: of the subjects.
        notes: what each of them is.
        params: of each parameter that differs its values, as text; None where a subject has none of that name.
        code: files of code that differ from the first subject's, by the name of the other.
        data: changes from the first subject's data, by the name of the other; None where one of the two is gone.
        figures: of each figure its values, subject by subject.
        keypoints: of each split, class and keypoint its values, subject by subject.
    """

    names: list[str]
    notes: list[str]
    params: dict[str, list[str | None]]
    code: dict[str, list[str]]
    data: dict[str, DatasetChanges | None]
    figures: dict[str, list[Figure | None]]
    keypoints: dict[str, list[KeypointFigure | None]]


def compare(root: Path, names: Sequence[str]) -> Comparison:
    """Compare runs.

    Args:
        root: the workspace.
        names: at least two, each the start of a run's id, ``latest``, ``workspace``, or a commit of git.

    Raises:
        PoseError: one is not known, or was made without a snapshot.
    """
    if len(names) < 2:
        raise ConfigError("compare takes at least two: ids of runs, `latest`, or `workspace`")
    if not git.is_repository(root):
        raise PoseError("compare needs git: without snapshots nothing tells what a run was made of")
    subjects = [read_subject(root, name) for name in dict.fromkeys(names)]
    if len(subjects) < 2:
        raise ConfigError(f"{names[0]}: named twice; there is nothing to compare")
    return compare_subjects(subjects, lambda a, b: _changed_code(root, a, b))


def read_subject(root: Path, name: str) -> Subject:
    """Read what is compared of a run, a commit, or the workspace as it is."""
    if name == WORKSPACE:

        def read(path: str) -> bytes | None:
            return (root / path).read_bytes() if (root / path).is_file() else None

        return _to_subject(WORKSPACE, "as it is now", snapshots.write_tree(root).name, read)
    commit, label, note = _resolve(root, name)
    with opened_commit(root, commit) as reader:
        return _to_subject(label, note, commit, reader)


def _resolve(root: Path, name: str) -> tuple[str, str, str]:
    """Return the commit that a name means, how it is headed, and what it is."""
    try:
        run = find_run(list_runs(root), name)
    except ConfigError:
        commit = git.ask(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if commit is None or name == LATEST:
            raise
        return commit.strip(), name, f"commit {commit[:12]}"
    return (find_snapshot(root, run).commit, run.name, f"{run.when}, {run.headline or run.status.lower()}")


def _to_subject(name: str, note: str, tree: str, read: Read) -> Subject:
    params = _flat_yaml(read(PARAMS_FILE)) | _flat_yaml(read(LOCAL_FILE), "local.")
    coco, manifest, validation = (read(path.as_posix()) for path in (COCO, MANIFEST, VALIDATION))
    lines = parse_manifest(manifest.decode()).lines if manifest else ()
    return Subject(
        name,
        note,
        tree,
        params,
        parse_coco(coco) if coco else None,
        {line.image: line.split for line in lines if line.state == USED},
        parse_figures(read(METRICS.as_posix())),
        parse_keypoints(validation),
    )


def _flat_yaml(content: bytes | None, prefix: str = "") -> dict[str, str]:
    def flatten(values: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(values, Mapping) and values:
            for key, value in values.items():
                yield from flatten(value, f"{name}.{key}" if name else str(key))
        else:
            yield name, json.dumps(values, ensure_ascii=False, default=str).strip('"')

    values = parse_yaml(content, PARAMS_FILE) if content else None
    return {prefix + name: text for name, text in flatten(values, "")} if values else {}


def parse_figures(content: bytes | None) -> dict[str, Figure]:
    """Read the figures of a metrics file with their intervals.

    Args:
        content: JSON of splits, kinds (``coco``, ``ultralytics``, ``interval``) and figures; the bounds of a figure
            ``oks_AP`` stand under ``interval`` as ``oks_AP_low`` and ``oks_AP_high``.

    Returns:
        Figures by split and name; Ultralytics' own are marked as such.
    """
    found: dict[str, Figure] = {}
    for split, kinds in sorted((json.loads(content) if content else {}).items(), key=_by_split):
        bounds = kinds.get("interval", {})
        for kind, figures in kinds.items():
            if kind == "interval":
                continue
            for name, value in figures.items():
                low, high = (bounds.get(f"{name}_{end}") if kind == "coco" else None for end in ("low", "high"))
                interval = (low, high) if low is not None and high is not None else None
                label = f"{split} {name}" if kind == "coco" else f"{split} {name} ({kind.capitalize()})"
                found[label] = Figure(float(value), interval)
    return found


def parse_keypoints(content: bytes | None) -> dict[tuple[str, str, str], KeypointFigure]:
    """Read the errors of every keypoint from validate's ``report.json``, by split, class and keypoint."""
    splits = parse_report(content, VALIDATION.as_posix()).get("sides", {}) if content else {}
    return {
        (split, row["class_name"], row["keypoint"]): KeypointFigure(row["median_px"], row["within"])
        for split, evaluation in sorted(splits.items(), key=_by_split)
        for row in evaluation["keypoints"]
    }


def _by_split(item: tuple[str, Any]) -> int:
    """Order of the splits: what was watched while training comes first."""
    return SPLITS.index(item[0]) if item[0] in SPLITS else len(SPLITS)


def _changed_code(root: Path, before: Subject, after: Subject) -> list[str]:
    prefix = git.prefix(root)
    text = git.read(root, "diff", "--name-only", "-z", before.tree, after.tree, "--", *CODE)
    return [name.removeprefix(prefix) for name in text.split("\0") if name]


def compare_subjects(subjects: Sequence[Subject], changed_code: Callable[[Subject, Subject], list[str]]) -> Comparison:
    """Put subjects side by side, the first as the one that others are measured by."""
    first, *others = subjects
    params = {
        name: values
        for name in sorted({name for subject in subjects for name in subject.params})
        if len(set(values := [subject.params.get(name) for subject in subjects])) > 1
    }
    keypoints = dict.fromkeys(key for subject in subjects for key in subject.keypoints)
    several = len({class_name for _, class_name, _ in keypoints}) > 1
    return Comparison(
        [subject.name for subject in subjects],
        [subject.note for subject in subjects],
        params,
        {other.name: changed_code(first, other) for other in others},
        {other.name: _changed_data(first, other) for other in others},
        {
            name: [subject.figures.get(name) for subject in subjects]
            for name in dict.fromkeys(name for subject in subjects for name in subject.figures)
        },
        {
            " ".join(key if several else (key[0], key[2])): [subject.keypoints.get(key) for subject in subjects]
            for key in keypoints
        },
    )


def _changed_data(before: Subject, after: Subject) -> DatasetChanges | None:
    if before.data is None or after.data is None:
        return None
    return compare_datasets(before.data, after.data, before.splits, after.splits)


# ------------------------------------------------------------------------------------------ words


def format_figure(figure: Figure | None, first: Figure | None) -> str:
    """Return a figure, its interval, and its difference from the first subject's."""
    if figure is None:
        return "–"
    text = format_cell(figure.value, 3)
    if figure.interval is not None:
        text += f" [{format_cell(figure.interval[0], 3)}, {format_cell(figure.interval[1], 3)}]"
    return text + _format_difference(figure.value, first.value if first else None)


def _format_difference(value: float | None, first: float | None, decimals: int = 3) -> str:
    if value is None or first is None or round(value - first, decimals) == 0:
        return ""
    return f" ({value - first:+.{decimals}f})"


def describe_data(changes: DatasetChanges | None) -> str:
    """Return what changed in the data as one line."""
    if changes is None:
        return "the data of one of the two are no longer in DVC's cache"
    said = ", ".join(f"{count} {name}" for name, count in changes.counts().items() if count)
    if not said:
        return f"equal, {changes.images[1]} images"
    return f"{said} ({changes.images[1]} images now)"


def to_report(found: Comparison) -> Report:
    """Build the page."""
    first = found.names[0]
    sections: list[Section] = [KeyValues("What is compared", list(zip(found.names, found.notes, strict=True)))]
    if found.params:
        rows: list[list[Cell]] = [[name, *values] for name, values in found.params.items()]
        sections.append(Table("Parameters that differ", ["parameter", *found.names], rows))
    for name, files in found.code.items():
        if files:
            code: list[list[Cell]] = [[file] for file in files]
            sections.append(Table(f"Code of {name} that differs from {first}", ["file"], code))
    for name, changes in found.data.items():
        sections += _data_sections(first, name, changes)
    sections += _figure_sections(found)
    sections += _keypoint_sections(found)
    return Report(" against ".join(found.names), describe(found), sections, _headlines(found), kicker="compare")


def describe(found: Comparison) -> str:
    """Return what differs as one sentence for each subject after the first."""
    params = _count(len(found.params), "parameter", "parameters")
    sentences = []
    for name in found.names[1:]:
        parts = [params, _count(len(found.code[name]), "file of code", "files of code")]
        differ = " and ".join(part for part in parts if part)
        data = found.data[name]
        same = data is not None and not any(data.counts().values())
        start = f"{name}: " if len(found.names) > 2 else ""
        said = f"{differ} differ" if differ else "Parameters and code are equal"
        sentences.append(f"{start}{said}; data: {'equal' if same else describe_data(data)}.")
    return " ".join(sentences)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}" if number else ""


def _headlines(found: Comparison) -> list[Headline]:
    """Return the figures that sum a comparison up: of the last subject, with those of the others in small."""
    shown: list[Headline] = []
    for name in (f"{split} {figure}" for split in SPLITS for figure in HEADLINES):
        values = [format_figure(figure, None) for figure in found.figures.get(name, ())]
        if values and "–" not in values:
            before = zip(values[:-1], found.names[:-1], strict=True)
            others = ", ".join(f"{value} in {other}" for value, other in before)
            shown.append(Headline(f"{name} of {found.names[-1]}", values[-1], others))
    return shown


def _data_sections(first: str, name: str, changes: DatasetChanges | None) -> Iterator[Section]:
    title = f"Data of {name} against {first}"
    if changes is None:
        yield KeyValues(title, [("changes", describe_data(None))])
        return
    sizes = [
        ("images", f"{changes.images[0]} → {changes.images[1]}"),
        ("objects", f"{changes.objects[0]} → {changes.objects[1]}"),
    ]
    yield KeyValues(title, [*sizes, *((f"images {kind}", count) for kind, count in changes.counts().items())])
    rows: list[list[Cell]] = [[path, "added", ""] for path in changes.added]
    rows += [[path, "removed", ""] for path in changes.removed]
    rows += [[now, "renamed", f"was {path}"] for path, now in changes.renamed]
    rows += [[path, "replaced", "another picture under the same name"] for path in changes.replaced]
    rows += [[item.image, "relabelled", str(item)] for item in changes.relabelled]
    rows += [[item.image, "in another split", f"{item.before} → {item.after}"] for item in changes.splits]
    if rows:
        note = f"the first {MAX_ROWS} of {len(rows)}; report.json has all" if len(rows) > MAX_ROWS else ""
        yield Table(f"Images of {name} that changed", ["image", "change", "what"], rows[:MAX_ROWS], note)


def _figure_sections(found: Comparison) -> Iterator[Section]:
    if not found.figures:
        return
    rows: list[list[Cell]] = [
        [name, *(format_figure(value, None if index == 0 else values[0]) for index, value in enumerate(values))]
        for name, values in found.figures.items()
    ]
    note = f"In round brackets the difference from {found.names[0]}"
    if any(figure.interval for values in found.figures.values() for figure in values if figure):
        note += ", in square ones the 95 % interval; where two intervals overlap widely, chance explains the difference"
    yield Table("Figures", ["figure", *found.names], rows, note + ".")


def _keypoint_sections(found: Comparison) -> Iterator[Section]:
    if not found.keypoints:
        return
    for split in dict.fromkeys(label.partition(" ")[0] for label in found.keypoints):
        rows = {
            label.partition(" ")[2]: values
            for label, values in found.keypoints.items()
            if label.partition(" ")[0] == split
        }
        close = {name: [_percent(values[index]) for values in rows.values()] for index, name in enumerate(found.names)}
        yield GroupedBarChart(f"{split}: keypoints within 0.1 box diagonals", list(rows), close, " %")
        table: list[list[Cell]] = [[label, *_format_medians(values)] for label, values in rows.items()]
        yield Table(f"{split}: median error of each keypoint, pixels", ["keypoint", *found.names], table)


def _percent(figure: KeypointFigure | None) -> float | None:
    return None if figure is None or figure.within is None else 100 * figure.within


def _format_medians(row: Sequence[KeypointFigure | None]) -> list[str]:
    medians = [figure.median_px if figure else None for figure in row]
    return [
        format_cell(value, 2) + (_format_difference(value, medians[0], 2) if index else "")
        for index, value in enumerate(medians)
    ]


def write_page(root: Path, found: Comparison) -> Path:
    """Write the page and the machine-readable file beside it; returns the page's path in the workspace."""
    path = root / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(to_report(found)), encoding="utf-8")
    write_json(path.with_suffix(".json"), found)
    return PAGE


def show(found: Comparison) -> None:
    """Print a comparison: everything but Ultralytics' own figures and the single images."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for name, note in zip(found.names, found.notes, strict=True):
        console.print(f"{name:<11}{note}", markup=False)
    for name, changes in found.data.items():
        console.print(f"data       {name}: {describe_data(changes)}", markup=False)
    for name, files in found.code.items():
        shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        console.print(f"code       {name}: {shown or 'equal'}", markup=False)
    params = [
        [name, *(escape(value) if value is not None else "–" for value in values)]
        for name, values in found.params.items()
    ]
    figures: list[list[str]] = []
    for name, row in found.figures.items():
        if not name.endswith(")"):
            cells = (format_figure(figure, None if index == 0 else row[0]) for index, figure in enumerate(row))
            figures.append([name, *(escape(cell) for cell in cells)])
    keypoints = [[name, *_format_medians(figures_)] for name, figures_ in found.keypoints.items()]
    for heading, rows in (("parameter", params), ("figure", figures), ("keypoint, median px", keypoints)):
        if rows:
            print_table(console, [heading, *found.names], rows)
