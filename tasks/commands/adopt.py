"""One's own annotations in place of the demo: data, schema and everything that followed from the old ones."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from keypipe.annotations.draft import Draft, draft_schema
from keypipe.annotations.folder import list_files
from keypipe.annotations.labelme import LabelmeError, LabelmeFile, parse_labelme
from keypipe.errors import AnnotationError, ConfigError
from keypipe.keypoints.skeleton import Schema, find_pairs
from tasks.progress import Progress, follow, tell_nobody
from tasks.workspace.places import (
    COCO,
    DATASET,
    DERIVED,
    EXPORTS,
    GROUPS,
    LOCK,
    METRICS,
    MODELS,
    PARAMS_FILE,
    RAW,
    RAW_FILE,
    REPLACED,
    REPORTS,
    SCRATCH,
    VIEW,
)

FOLLOWS = tuple(
    path.as_posix() for path in (RAW_FILE, LOCK, COCO.parent, DERIVED, DATASET, VIEW, MODELS, EXPORTS, REPORTS, METRICS)
)
"""What follows from the data; outdated once they are replaced."""


def adopt_folder(root: Path, folder: Path, progress: Progress | None = None) -> str:
    """Take a folder of labelme annotations as the workspace's data.

    Nothing is lost: the old data and all that followed from them move to ``.keypipe/replaced/``. The folder itself
    is copied, and stays as it is; when it is ``data/raw`` already, it is used where it lies.

    Args:
        root: the workspace.
        folder: labelme JSON files and images, in any subfolders.
        progress: is told how far it is.

    Returns:
        What was done, for the user to read.

    Raises:
        AnnotationError: the folder holds no annotation that keypoints could be taken from.
        ConfigError: the folder holds the workspace, or lies in it anywhere but at ``data/raw``.
    """
    source, raw = folder.resolve(), root.resolve() / RAW
    if source != raw and (root.resolve().is_relative_to(source) or source.is_relative_to(root.resolve())):
        raise ConfigError(f"{folder}: must be {RAW} itself, or lie outside the workspace")
    tell = progress or tell_nobody
    draft = _draft(source, tell)
    aside = root / REPLACED / time.strftime("%Y-%m-%d_%H.%M.%S")
    aside.mkdir(parents=True)
    incoming = root / SCRATCH / "incoming"
    if source != raw:
        shutil.rmtree(incoming, ignore_errors=True)
        _copy_folder(source, incoming, tell)
    shutil.copy2(root / PARAMS_FILE, aside / PARAMS_FILE)
    moved = [name for name in _outdated(root, keep_raw=source == raw) if _move_aside(root, name, aside)]
    if source != raw:
        _empty_groups(root / GROUPS, aside / GROUPS)
    if source != raw:
        incoming.rename(raw)
    write_schema(root / PARAMS_FILE, draft.schema)
    return _tell(draft, aside.relative_to(root), moved)


def _draft(folder: Path, tell: Progress) -> Draft:
    files = list(_read_all(folder, tell))
    if not files:
        raise AnnotationError(f"{folder}: no labelme JSON in it; give the folder that labelme saved into")
    draft = draft_schema(files)
    if not draft.schema.classes:
        labels = sorted({shape.name for file in files for shape in file.shapes})
        raise AnnotationError(
            f"{folder}: no rectangle with a point inside it or in its group, in {len(files)} files;"
            " keypipe needs a rectangle for every object and a point for every keypoint."
            f" Labels found: {', '.join(labels[:20]) or 'none'}"
        )
    return draft


def _read_all(folder: Path, tell: Progress) -> Iterator[LabelmeFile]:
    names = [name for name in list_files(folder) if name.lower().endswith(".json")]
    for name in follow(names, "reading annotations", tell):
        try:
            yield parse_labelme((folder / name).read_bytes())
        except LabelmeError:
            continue  # convert reports it, with all the other faults


def _copy_folder(source: Path, target: Path, tell: Progress) -> None:
    """Copy a folder without its hidden files."""
    n_files, done = len(list_files(source)), count(1)

    def copy(file: str, place: str) -> None:
        shutil.copy2(file, place)
        tell("copying files", next(done), n_files)

    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), copy_function=copy)


def _outdated(root: Path, *, keep_raw: bool) -> list[str]:
    names = [*FOLLOWS] if keep_raw else [RAW.as_posix(), *FOLLOWS]
    return [name for name in names if (root / name).exists()]


def _move_aside(root: Path, name: str, aside: Path) -> bool:
    target = aside / name
    target.parent.mkdir(parents=True, exist_ok=True)
    (root / name).rename(target)
    return True


def _empty_groups(path: Path, aside: Path) -> None:
    """Start a new table of groups: the old one speaks of images that are gone, and DVC wants a file to be there."""
    if path.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, aside)
    path.write_text("image,group\n", encoding="utf-8")


def write_schema(path: Path, schema: Schema) -> None:
    """Replace classes and aliases in ``params.yaml``, keeping everything else and its comments."""
    yaml = _yaml()
    document = yaml.load(path.read_text(encoding="utf-8"))
    section = _to_yaml(schema)
    document["schema"]["classes"] = section["classes"]
    document["schema"].pop("aliases", None)  # they would stand for names that are gone
    if schema.aliases:
        document["schema"]["aliases"] = section["aliases"]
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def format_schema(schema: Schema) -> str:
    """Format a schema as the section of ``params.yaml`` that describes it."""
    text = io.StringIO()
    _yaml().dump({"schema": _to_yaml(schema)}, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    return yaml


def _to_yaml(schema: Schema) -> CommentedMap:
    classes = CommentedMap()
    for name, skeleton in schema.classes.items():
        entry = CommentedMap()
        entry["keypoints"] = _flow(skeleton.keypoints)
        entry["skeleton"] = _flow(map(_flow, skeleton.edges))
        derived = {frozenset(pair) for pair in find_pairs(skeleton.keypoints)}
        is_derived = derived == {frozenset(pair) for pair in skeleton.pairs}
        entry["pairs"] = "auto" if is_derived else _flow(map(_flow, skeleton.pairs))
        classes[name] = entry
    section = CommentedMap(classes=classes)
    if schema.aliases:
        section["aliases"] = CommentedMap(schema.aliases)
    return section


def _flow(items: Iterable[Any]) -> CommentedSeq:
    sequence = CommentedSeq(items)
    sequence.fa.set_flow_style()
    return sequence


def _tell(draft: Draft, aside: Path, moved: list[str]) -> str:
    lines = [f"{RAW} holds your annotations now; params.yaml got a schema drafted from their labels:"]
    for name, skeleton in draft.schema.classes.items():
        pairs = ", ".join(f"{a}/{b}" for a, b in skeleton.pairs) or "none"
        lines.append(f"  {name}: {', '.join(skeleton.keypoints)} (left/right pairs: {pairs})")
    lines += [f"  {note}" for note in draft.notes]
    lines.append(f"What was there before is in {aside}: {', '.join(moved) or 'nothing'} and params.yaml.")
    lines.append("Next: look over schema.classes in params.yaml (order, edges to draw, classes you do not want),")
    lines.append("      and the train section, which is the demo's (imgsz 640 is usual); then type `keypipe run`.")
    return "\n".join(lines)
