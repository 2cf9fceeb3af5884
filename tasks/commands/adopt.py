"""One's own annotations in place of the demo: data, schema and everything that followed from the old ones."""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import msgspec
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from keypipe.annotations.draft import Draft, draft_schema
from keypipe.annotations.labelme import EncodingError, ForeignError, LabelmeError, LabelmeFile, parse_labelme
from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.files.atomic import write_text
from keypipe.files.listing import OUTSIDE, describe_others, look_through
from keypipe.files.texts import DOUBTFUL, is_doubtful
from keypipe.keypoints.skeleton import Schema, find_pairs
from tasks.commands.outside import check_images_inside
from tasks.commands.params_text import assign
from tasks.commands.sources.label_sources import find_foreign
from tasks.convert import ConvertParams
from tasks.progress import Progress, follow, tell_nobody
from tasks.workspace import params as read
from tasks.workspace.documents import decode_yaml, parse_document, parse_yaml
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
    VIEW,
)
from tasks.workspace.scratch import remove, scratch_folder

FOLLOWS = tuple(
    path.as_posix() for path in (RAW_FILE, LOCK, COCO.parent, DERIVED, DATASET, VIEW, MODELS, EXPORTS, REPORTS, METRICS)
)
"""What follows from the data; outdated once they are replaced."""


def adopt_folder(
    root: Path,
    folder: Path,
    progress: Progress | None = None,
    encoding: str | None = None,
    *,
    follow_links: bool = False,
) -> str:
    """Take a folder of labelme annotations as the workspace's data.

    Nothing is lost: the old data and all that followed from them move to ``.keypipe/replaced/``. The folder itself
    is copied, and stays as it is; when it is ``data/raw`` already, it is used where it lies.

    Args:
        root: the workspace.
        folder: labelme JSON files and images, in any subfolders.
        progress: is told how far it is.
        encoding: of files that are neither UTF-8 nor UTF-16; goes into ``convert.encoding``.
        follow_links: copy what links out of the folder lead to as well.

    Returns:
        What was done, for the user to read.

    Raises:
        AnnotationError: the folder holds no annotation that keypoints could be taken from, or not their images.
        ConfigError: the folder holds the workspace, or lies in it anywhere but at ``data/raw``; or ``params.yaml`` is
            no YAML with sections. Nothing was changed then.
    """
    source, raw = folder.resolve(), root.resolve() / RAW
    if source != raw and (root.resolve().is_relative_to(source) or source.is_relative_to(root.resolve())):
        raise ConfigError(f"{folder}: must be {RAW} itself, or lie outside the workspace")
    tell = progress or tell_nobody
    names = _list(source, follow=source != raw, leave=follow_links and source != raw)
    draft = _draft(root, source, names, encoding, tell)
    check_images_inside(source, names, encoding)
    params = with_schema((root / PARAMS_FILE).read_bytes(), draft.schema, encoding)
    now = root / REPLACED / time.strftime("%Y-%m-%d_%H.%M.%S")
    places = chain([now], (now.with_name(f"{now.name}-{number}") for number in count(2)))
    aside = next(path for path in places if not path.exists())
    with scratch_folder(root, "use") as scratch:
        incoming = None if source == raw else scratch / RAW.name
        if incoming:
            _copy_folder(source, incoming, len(names), tell)
        moved = _exchange(root, aside, incoming, params)
    return _tell(draft, aside.relative_to(root), moved)


def _list(folder: Path, *, follow: bool, leave: bool) -> list[str]:
    """List the files of a folder, and check that everything in it can be copied.

    Raises:
        AnnotationError: it is none, or something is in it that is no file that can be read: links that lead nowhere or
            round in circles, and pipes; without ``follow`` links to folders as well, without ``leave`` links out of it.
    """
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder")
    names, others = look_through(folder, follow=follow, leave=leave)
    if others:
        told = describe_others(others)
        links = any(what.startswith(OUTSIDE) for what in others.values())
        advice = "; --follow-links copies what links lead to elsewhere" if links else ""
        raise AnnotationError(
            f"{folder}: not to be copied: {told}; put the files themselves there, or take it out{advice}"
        )
    return names


def _exchange(root: Path, aside: Path, incoming: Path | None, params: str) -> list[str]:
    """Move away what is outdated and put the new data and parameters in its place: all of it, or nothing.

    Returns:
        What was moved.
    """
    aside.mkdir(parents=True)
    shutil.copy2(root / PARAMS_FILE, aside / PARAMS_FILE)
    moved: list[str] = []
    try:
        for name in _outdated(root, keep_raw=incoming is None):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).rename(aside / name)
            moved.append(name)
        if incoming:
            incoming.rename(root / RAW)
            _empty_groups(root / GROUPS, aside / GROUPS)
        write_text(root / PARAMS_FILE, params)
    except BaseException:
        if incoming and not incoming.exists():
            remove(root / RAW)
        _undo(root, aside, moved)
        raise
    return moved


def _draft(root: Path, folder: Path, names: Sequence[str], encoding: str | None, tell: Progress) -> Draft:
    convert = read.load_section(read.read_params(root), "convert", ConvertParams)
    unread: dict[str, LabelmeError] = {}
    files = list(_read_all(folder, names, encoding, tell, unread))
    if not files:
        raise AnnotationError(f"{folder}: {_tell_unread(folder, unread)}")
    draft = draft_schema(files, convert.options())
    if not draft.schema.classes:
        labels = sorted({shape.name for file in files for shape in file.shapes})
        raise AnnotationError(
            f"{folder}: no rectangle with a point inside it or in its group, in {format_count(len(files), 'file')};"
            f" {draft.shapes}. Labels found: {', '.join(labels[:20]) or 'none'}"
            + (", ..." if len(labels) > 20 else "")
            + "".join(f"; {note}" for note in draft.notes)
        )
    if foreign := [f"{name} ({error})" for name, error in unread.items() if isinstance(error, ForeignError)]:
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        note = f"no annotations of labelme's, at which convert stops: {names}"
        draft = msgspec.structs.replace(draft, notes=(*draft.notes, f"{note}; take them out of {RAW}"))
    if draft.faults:
        raise AnnotationError(f"{folder}: {'; '.join(draft.faults)}")
    return draft


def _tell_unread(folder: Path, unread: Mapping[str, LabelmeError]) -> str:
    """Say why a folder without a file that can be read is of no use."""
    own = {name: error for name, error in unread.items() if not isinstance(error, ForeignError)}
    if not own:
        return f"no labelme JSON in it; {find_foreign(folder) or 'give the folder that labelme saved into'}"
    name, error = next(iter(own.items()))
    return f"none of its {format_count(len(own), 'JSON file')} can be read; {name}: {error}; {error.fix}"


def _read_all(
    folder: Path, names: Sequence[str], encoding: str | None, tell: Progress, unread: dict[str, LabelmeError]
) -> Iterator[LabelmeFile]:
    for name in follow([name for name in names if name.lower().endswith(".json")], "reading annotations", tell):
        try:
            yield parse_labelme((folder / name).read_bytes(), encoding)
        except EncodingError as error:  # its labels would be missing in the draft
            raise AnnotationError(
                f"{name}: {error}; name the right one with --encoding, or save it as UTF-8"
            ) from error
        except LabelmeError as error:
            unread[name] = error  # convert reports it, with all the other faults


def _copy_folder(source: Path, target: Path, n_files: int, tell: Progress) -> None:
    """Copy a folder without its hidden files."""
    done = count(1)

    def copy(file: str, place: str) -> None:
        shutil.copy2(file, place)
        tell("copying files", next(done), n_files)

    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"), copy_function=copy)


def _outdated(root: Path, *, keep_raw: bool) -> list[str]:
    names = [*FOLLOWS] if keep_raw else [RAW.as_posix(), *FOLLOWS]
    return [name for name in names if (root / name).exists()]


def _undo(root: Path, aside: Path, moved: Sequence[str]) -> None:
    for name in moved:
        (aside / name).rename(root / name)
    for path in (GROUPS, Path(PARAMS_FILE)):
        if (aside / path).exists():
            shutil.copy2(aside / path, root / path)
    remove(aside)


def _empty_groups(path: Path, aside: Path) -> None:
    """Start a new table of groups: the old one speaks of images that are gone, and DVC wants a file to be there."""
    if path.exists():
        aside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, aside)
    write_text(path, "image,group\n")


def write_schema(path: Path, schema: Schema) -> None:
    """Replace classes and aliases in ``params.yaml``, keeping everything else and its comments.

    Raises:
        ConfigError: the file is no YAML with sections.
    """
    write_text(path, with_schema(path.read_bytes(), schema))


def with_schema(content: bytes, schema: Schema, encoding: str | None = None) -> str:
    """Return the text of a ``params.yaml`` with other classes and aliases; a section ``schema`` is made if it has none.

    Args:
        content: the file's.
        schema: classes and aliases.
        encoding: of the annotation files, where it must be stated.

    Raises:
        ConfigError: the text is no YAML with sections.
    """
    document = parse_document(content, PARAMS_FILE)
    if not isinstance(document.get("schema"), dict | None):
        raise ConfigError(f"{PARAMS_FILE}: schema: expected a section with classes; remove the value behind `schema:`")
    if is_doubtful(content):
        raise ConfigError(f"{PARAMS_FILE}: {DOUBTFUL}")
    text = decode_yaml(content, PARAMS_FILE)
    section = _to_yaml(schema)
    text = assign(text, ["schema", "classes"], section["classes"])
    if schema.aliases or "aliases" in (document.get("schema") or {}):  # old ones would stand for names that are gone
        text = assign(text, ["schema", "aliases"], section.get("aliases", CommentedMap()))
    if encoding:
        text = assign(text, ["convert", "encoding"], encoding)
    _check_read_back(text, schema)
    return text


def _check_read_back(text: str, schema: Schema) -> None:
    """Make sure that a schema is read as it was written, by YAML 1.2 and by 1.1, which most other programs read."""
    section = _to_yaml(schema)
    for load in (partial(parse_yaml, name=PARAMS_FILE), yaml.safe_load):
        try:
            written = load(text)["schema"]
        except (ConfigError, yaml.YAMLError) as error:
            raise ConfigError(f"{PARAMS_FILE}: YAML cannot hold these classes and keypoints; rename them") from error
        for key in ("classes", "aliases"):
            if written.get(key, {}) != section.get(key, {}):
                raise ConfigError(f"{PARAMS_FILE}: YAML reads schema.{key} otherwise than written; rename the labels")


def format_schema(schema: Schema) -> str:
    """Format a schema as the section of ``params.yaml`` that describes it."""
    text = io.StringIO()
    yaml_1_2 = YAML()
    yaml_1_2.width = 10_000
    yaml_1_2.dump({"schema": _to_yaml(schema)}, text)
    return text.getvalue()


def _quote(name: str) -> str:
    """Quote a name that some YAML takes for something else: ``yes``, ``12:30``, ``1e3``, ``a: b``."""
    flow = yaml.safe_dump([name], default_flow_style=True, width=10_000, allow_unicode=True)
    is_plain = flow == f"[{name}]\n" and not {*name} & {*"<:"} and not _NUMBER.fullmatch(name)
    return name if is_plain else DoubleQuotedScalarString(name)


_NUMBER = re.compile(r"[-+.\d][-+.\d_eE]*")  # of YAML 1.2, such as 1e3, which 1.1 takes for a word


def _to_yaml(schema: Schema) -> CommentedMap:
    classes = CommentedMap()
    for name, skeleton in schema.classes.items():
        entry = CommentedMap()
        entry["keypoints"] = _flow(skeleton.keypoints)
        entry["skeleton"] = _flow(map(_flow, skeleton.edges))
        derived = {frozenset(pair) for pair in find_pairs(skeleton.keypoints)}
        is_derived = derived == {frozenset(pair) for pair in skeleton.pairs}
        entry["pairs"] = "auto" if is_derived else _flow(map(_flow, skeleton.pairs))
        classes[_quote(name)] = entry
    section = CommentedMap(classes=classes)
    if schema.aliases:
        section["aliases"] = CommentedMap({_quote(alias): _quote(name) for alias, name in schema.aliases.items()})
    return section


def _flow(items: Iterable[Any]) -> CommentedSeq:
    sequence = CommentedSeq(_quote(item) if isinstance(item, str) else item for item in items)
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
    lines.append("      and the train section, which is the demo's:")
    if draft.sizes is not None:
        lines.append(f"      {draft.sizes.describe()}")
    size = draft.sizes.imgsz if draft.sizes is not None else 640
    lines.append(f"      then type `keypipe run --set train.imgsz={size}`, which writes it there.")
    return "\n".join(lines)
