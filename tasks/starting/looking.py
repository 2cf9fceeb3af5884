"""Looks at a folder of annotations and says what ``params.yaml`` should hold for it; changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from keypipe.annotations.draft import DOUBT, Draft, draft_schema
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import (
    EncodingError,
    ForeignError,
    LabelmeError,
    LabelmeFile,
    LabelmeOptions,
    parse_labelme,
)
from keypipe.annotations.readings import Folder
from keypipe.annotations.sides import find_sides
from keypipe.demo.scene import SCHEMA as DEMO_SCHEMA
from keypipe.diagnosis.columns import ClassObjects
from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.images.header import parse_image_header
from keypipe.keypoints.skeleton import Schema, Skeleton, parse_schema
from keypipe.proposal.edges import propose_edges
from keypipe.proposal.geometry import Geometry, measure_geometry
from keypipe.proposal.groups import propose_groups
from keypipe.proposal.marks import Marks
from keypipe.proposal.training import Images, Machine, propose_training
from keypipe.proposal.values import Proposal
from tasks.commands.adopt import list_folder
from tasks.commands.outside import check_images_inside
from tasks.commands.sources.label_sources import find_foreign
from tasks.convert import ConvertParams
from tasks.labelling.gathered import gather_objects
from tasks.progress import Progress, follow
from tasks.split import SplitParams
from tasks.workspace import params as read
from tasks.workspace.places import RAW

Ask = Callable[[Proposal], bool]
"""Says whether a proposal that is not sure is right."""

SCHEMA = "schema.classes"
"""Key of the proposal that stands for classes and keypoints as a whole."""

_KEPT = "the file as it was is kept in .keypipe/replaced"
_MOST_HEADERS = 500  # images whose headers are looked at for deep samples


class Found(msgspec.Struct):
    """What a folder holds, and what is proposed for it.

    Attributes:
        folder: resolved.
        names: of its files.
        encoding: of its JSON, if that was named.
        schema: with edges; that of ``params.yaml`` where it stays.
        is_drafted: whether the schema is a new one.
        notes: what a person should know, a line each.
        proposals: sure ones, and those that somebody said yes to.
        declined: proposals that are not sure, and that nobody said yes to.
        images: how many to train on, and to choose the best epoch by.
        geometry: of the objects.
        objects: of each class, with the way back to their files.
        read: the annotations.
        options: how they were read.
    """

    folder: Path
    names: list[str]
    encoding: str | None
    schema: Schema
    is_drafted: bool
    notes: list[str]
    proposals: list[Proposal]
    declined: list[Proposal]
    images: Images
    geometry: Geometry | None
    objects: dict[str, ClassObjects]
    read: Folder
    options: LabelmeOptions

    @property
    def n_objects(self) -> int:
        """Number of objects, of all classes."""
        return sum(len(objects) for objects in self.objects.values())


class Source(msgspec.Struct, frozen=True):
    """A folder that somebody names.

    Attributes:
        folder: labelme JSON files and images, in any subfolders; None: ``data/raw``.
        encoding: of JSON that is neither UTF-8 nor UTF-16; goes into ``convert.encoding``.
        follow_links: links may lead out of the folder.
    """

    folder: Path | None
    encoding: str | None = None
    follow_links: bool = False


class Weights(msgspec.Struct, frozen=True):
    """Whether published weights can be had; if not, why."""

    published: bool
    why_not: str = ""


def look_at(
    root: Path,
    named: Source,
    machine: Machine,
    weights: Weights,
    ask: Ask,
    progress: Progress,
) -> Found:
    """Look at a folder.

    Args:
        root: the workspace, whose ``params.yaml`` says how labels are read so far.
        named: the folder.
        machine: where trainings run.
        weights: whether there are any to start from.
        ask: is asked about what is not sure.
        progress: is told how far it is.

    Raises:
        AnnotationError: the folder holds no annotation that keypoints could be taken from, or not their images.
        ConfigError: the folder holds the workspace, or lies in it anywhere but at ``data/raw``; or the parameters are
            wrong.
    """
    encoding = named.encoding
    source = (named.folder or root / RAW).resolve()
    names = list_folder(root, source, follow_links=named.follow_links)
    document = read.read_params(root)
    convert = read.load_section(document, "convert", ConvertParams)
    answers = _Answers(ask)
    if encoding:
        convert = convert.model_copy(update={"encoding": encoding})
    unread: dict[str, LabelmeError] = {}
    marks = Marks()
    for file in _read_all(source, names, convert.encoding, "reading annotations", progress, unread):
        marks.add(file)
    if not marks.n_files:
        raise AnnotationError(f"{source}: {_tell_unread(source, unread)}")
    answers.take(*marks.propose(convert.options()), *_propose_depth(source, names, convert))
    options = answers.apply(convert).options()
    drafting = _read_all(source, names, convert.encoding, "drafting classes and keypoints", progress, {})
    draft = draft_schema((marks.prepare(file, options) for file in drafting), options)
    _check_draft(draft, source, marks)
    check_images_inside(source, names, convert.encoding)
    is_raw = source == root.resolve() / RAW
    schema, is_drafted = _choose_schema(document, draft.schema, answers, is_raw=is_raw)
    folder_read = read_folder(source, schema, options, progress=partial(progress, "reading objects"))
    objects = gather_objects(folder_read)
    if is_drafted:
        schema = _with_edges(schema, objects)
    geometry = measure_geometry({name: item.rows for name, item in objects.items()}, _partners(schema))
    n_images = sum(1 for reading in folder_read.files.readings() if reading.file.image)
    images = _share(n_images, read.load_section(document, "split", SplitParams))
    grouping = propose_groups(sorted(_list_images(folder_read)))
    if grouping is not None:
        answers.take(grouping)
    if geometry is not None:
        answers.take(
            *propose_training(
                geometry,
                images,
                machine,
                published=weights.published,
                offline=weights.why_not,
                has_pairs=schema.has_pairs,
            )
        )
    drafted = [note for note in draft.notes if is_drafted and DOUBT not in note]  # those are asked about
    notes = [*drafted, *_tell_replaced(document, schema), *_tell_foreign(unread), *_tell_faults(folder_read)]
    return Found(
        source,
        names,
        encoding,
        schema,
        is_drafted,
        notes,
        answers.accepted,
        answers.declined,
        images,
        geometry,
        objects,
        folder_read,
        options,
    )


class _Answers:
    """What was proposed, and what was said to it."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.accepted: list[Proposal] = []
        self.declined: list[Proposal] = []

    def ask(self, proposal: Proposal) -> bool:
        """Ask about a proposal that has no place of its own in the file."""
        said = self._ask(proposal)
        if not said:
            self.declined.append(proposal)
        return said

    def take(self, *proposals: Proposal) -> None:
        """Take what is sure, and ask about the rest."""
        for proposal in proposals:
            if proposal.sure or self.ask(proposal):
                self.accepted.append(proposal)
            elif proposal.else_why:
                self.accepted.append(Proposal(proposal.key, proposal.else_value, proposal.else_why))

    def apply(self, convert: ConvertParams) -> ConvertParams:
        """Return the section ``convert`` with what was taken."""
        values = {proposal.key.removeprefix("convert."): proposal.value for proposal in self.accepted}
        return ConvertParams.model_validate(convert.model_dump() | values)


def _read_all(
    folder: Path,
    names: Sequence[str],
    encoding: str | None,
    what: str,
    tell: Progress,
    unread: dict[str, LabelmeError],
) -> Iterator[LabelmeFile]:
    for name in follow([name for name in names if name.lower().endswith(".json")], what, tell):
        try:
            yield parse_labelme((folder / name).read_bytes(), encoding)
        except EncodingError as error:  # its labels would be missing in the draft
            raise AnnotationError(
                f"{name}: {error}; name the right one with --encoding, or save it as UTF-8"
            ) from error
        except LabelmeError as error:
            unread[name] = error  # convert reports it, with all the other faults


def _check_draft(draft: Draft, folder: Path, marks: Marks) -> None:
    if not draft.schema.classes:
        labels = sorted(marks.names)
        raise AnnotationError(
            f"{folder}: no rectangle with a point inside it or in its group, in {format_count(marks.n_files, 'file')};"
            f" {draft.shapes}. Labels found: {', '.join(labels[:20]) or 'none'}"
            + (", ..." if len(labels) > 20 else "")
            + "".join(f"; {note}" for note in draft.notes)
        )
    if draft.faults:
        raise AnnotationError(f"{folder}: {'; '.join(draft.faults)}")


def _tell_unread(folder: Path, unread: Mapping[str, LabelmeError]) -> str:
    """Say why a folder without a file that can be read is of no use."""
    own = {name: error for name, error in unread.items() if not isinstance(error, ForeignError)}
    if not own:
        return f"no labelme JSON in it; {find_foreign(folder) or 'give the folder that labelme saved into'}"
    name, error = next(iter(own.items()))
    return f"none of its {format_count(len(own), 'JSON file')} can be read; {name}: {error}; {error.fix}"


def _tell_foreign(unread: Mapping[str, LabelmeError]) -> Iterator[str]:
    foreign = [f"{name} ({error})" for name, error in unread.items() if isinstance(error, ForeignError)]
    if foreign:
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        yield f"no annotations of labelme's, at which convert stops: {names}; take them out of {RAW}"


def _tell_faults(folder: Folder) -> Iterator[str]:
    linked = [fault.file for fault in folder.faults if fault.kind == "not-readable"]
    if linked:
        yield f"{', '.join(linked[:5])}: looked into when it is copied; the objects there are not measured yet"
    files = sorted({fault.file for fault in folder.faults} - {*linked})
    if files:
        what = format_count(len(files), "file")
        yield f"{what} with faults, such as {files[0]}, at which convert stops: `keypipe doctor` shows them"


def _propose_depth(folder: Path, names: Sequence[str], convert: ConvertParams) -> Iterator[Proposal]:
    """Propose to scale images with samples of more than 8 bits, of which the upper 8 alone would count."""
    others = [name for name in names if not name.lower().endswith((".json", ".jpg", ".jpeg"))]
    looked = others[:: 1 + len(others) // _MOST_HEADERS]
    deep = 0
    for name in looked:
        try:
            deep += parse_image_header((folder / name).read_bytes()).samples.deep
        except (AnnotationError, OSError):
            continue  # no image, or one that convert reports
    if deep and convert.depth == "cut":
        seen = f"{deep} of {format_count(len(looked), 'image')} looked at"
        yield Proposal("convert.depth", "scale", f"{seen} have more than 8 bits: the range in use is spread")


def _choose_schema(
    document: Mapping[str, Any], draft: Schema, answers: _Answers, *, is_raw: bool
) -> tuple[Schema, bool]:
    """Return the schema to go on with, and whether it is a new one.

    That of ``params.yaml`` stays where it has the same names. A person's own one speaks of ``data/raw``: there it is
    replaced only if somebody says so.
    """
    try:
        now = read.load_schema(document)
    except ConfigError:  # none, or one that cannot be used
        return _with_pairs(draft, answers), True
    if now.classes.keys() == draft.classes.keys() and _same_names(now, draft):
        return now, False
    is_own = now.classes != parse_schema(DEMO_SCHEMA).classes
    if is_raw and is_own and not answers.ask(_ask_to_replace(draft)):
        return now, False
    return _with_pairs(draft, answers), True


def _tell_replaced(document: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    """Say what of a person's own schema will be gone."""
    try:
        now = read.load_schema(document)
    except ConfigError:  # none, or one that cannot be used
        return
    if now.classes != schema.classes and now.classes != parse_schema(DEMO_SCHEMA).classes:
        own = "; ".join(f"{name}: {', '.join(skeleton.keypoints)}" for name, skeleton in now.classes.items())
        yield f"your classes in params.yaml ({own}) are replaced; {_KEPT}"
    gone = [f"{alias}: {name}" for alias, name in now.aliases.items() if schema.aliases.get(alias) != name]
    if gone:
        yield f"your aliases in params.yaml ({', '.join(gone)}) are taken out; {_KEPT}"


def _same_names(one: Schema, other: Schema) -> bool:
    return all({*skeleton.keypoints} == {*other.classes[name].keypoints} for name, skeleton in one.classes.items())


def _ask_to_replace(schema: Schema) -> Proposal:
    named = "; ".join(f"{name}: {', '.join(skeleton.keypoints)}" for name, skeleton in schema.classes.items())
    question = f"The labels say other classes or keypoints than params.yaml ({named}). Replace yours by these?"
    return Proposal(SCHEMA, named, "as the labels have it", sure=False, question=question)


def _with_pairs(schema: Schema, answers: _Answers) -> Schema:
    """Ask about names that may be left and right."""
    classes: dict[str, Skeleton] = {}
    for name, skeleton in schema.classes.items():
        pairs = list(skeleton.pairs)
        for pair in find_sides(skeleton.keypoints).doubts:
            if {*pair} & {side for other in pairs for side in other}:
                continue
            question = f"{name}: are {pair[0]!r} and {pair[1]!r} the left and the right of one thing?"
            why = "left and right, as somebody said"
            if answers.ask(Proposal(f"{SCHEMA}.{name}.pairs", [list(pair)], why, sure=False, question=question)):
                pairs.append(pair)
        classes[name] = msgspec.structs.replace(skeleton, pairs=tuple(pairs))
    return Schema(classes, schema.aliases)


def _partners(schema: Schema) -> dict[str, list[int]]:
    """Return for each class the number of each keypoint's partner; its own where it has none."""
    found: dict[str, list[int]] = {}
    for name, skeleton in schema.classes.items():
        partners = skeleton.partners()
        found[name] = [skeleton.keypoints.index(partners.get(key, key)) for key in skeleton.keypoints]
    return found


def _with_edges(schema: Schema, objects: Mapping[str, ClassObjects]) -> Schema:
    partners = _partners(schema)
    classes: dict[str, Skeleton] = {}
    for name, skeleton in schema.classes.items():
        edges = propose_edges(objects[name].rows.points, np.array(partners[name], dtype=np.intp))
        named = tuple((skeleton.keypoints[a], skeleton.keypoints[b]) for a, b in edges)
        classes[name] = msgspec.structs.replace(skeleton, edges=named)
    return Schema(classes, schema.aliases)


def _share(n_images: int, split: SplitParams) -> Images:
    """Say how many images go where, by the shares of the split."""
    return Images(max(1, round(split.train * n_images)), max(1, round(split.val * n_images)))


def _list_images(folder: Folder) -> Iterator[str]:
    for reading in folder.files.readings():
        if reading.file.image:
            yield reading.file.image.path.partition("/")[2]
