"""A folder taken as the workspace's data, with parameters that fit it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from keypipe.errors import PoseError, format_count
from keypipe.files.atomic import write_text
from keypipe.keypoints.skeleton import find_pairs
from keypipe.proposal.values import Proposal
from tasks.commands.adopt import Adopted, adopt_folder, choose_aside
from tasks.commands.writing.params_text import assign, comment
from tasks.commands.writing.schema_text import with_schema
from tasks.progress import Progress, tell_nobody
from tasks.starting.choices import Choice, choose, remember
from tasks.starting.cost import Cost, measure_cost
from tasks.starting.looking import Ask, Found, Source, Weights, look_at
from tasks.starting.machine import find_machine
from tasks.starting.page import PICTURE, REPORT, write_page
from tasks.train import TrainParams
from tasks.workspace import params as read
from tasks.workspace.documents import decode_yaml, parse_document, parse_yaml
from tasks.workspace.places import PARAMS_FILE, RAW
from tasks.workspace.scratch import remove

NOT_ASKED = "it was not asked for"


class Start(msgspec.Struct):
    """A start that is proposed, and not yet made.

    Attributes:
        found: the folder.
        choices: every proposal beside what ``params.yaml`` says now.
        cost: what a training will cost by what would be written; None where that was not measured.
        why_no_cost: why not.
    """

    found: Found
    choices: list[Choice]
    cost: Cost | None = None
    why_no_cost: str = NOT_ASKED


def propose(
    root: Path,
    source: Source,
    weights: Weights,
    ask: Ask,
    progress: Progress,
) -> Start:
    """Look at a folder, and lay what is proposed beside the parameters; nothing is changed.

    Args:
        root: the workspace.
        source: the folder.
        weights: whether there are any to start from.
        ask: is asked about what is not sure.
        progress: is told how far it is.

    Raises:
        AnnotationError: the folder holds no annotation that keypoints could be taken from, or not their images.
        ConfigError: the folder cannot be taken, or the parameters are wrong.
    """
    machine = find_machine(read.read_local(root))
    found = look_at(root, source, machine, weights, ask, progress)
    plain = parse_yaml((root / PARAMS_FILE).read_bytes(), PARAMS_FILE)
    return Start(found, choose(plain or {}, found.proposals, root))


def by_default(choices: Sequence[Choice], *, overwrite: bool = False) -> list[Choice]:
    """Return the choices that are written without a question: those that take no person's value away."""
    return [choice for choice in choices if overwrite or not choice.is_overriding]


def format_params(root: Path, found: Found, picked: Sequence[Choice]) -> str:
    """Return the text of the new ``params.yaml``: the schema and what was picked, with reasons beside the values.

    Raises:
        ConfigError: the file is no YAML with sections, or YAML cannot hold the names.
    """
    content = (root / PARAMS_FILE).read_bytes()
    if found.is_drafted:
        text = with_schema(content, found.schema, found.encoding, _explain_schema(found))
    else:
        text = decode_yaml(content, PARAMS_FILE)
        if found.encoding:
            text = assign(text, ["convert", "encoding"], found.encoding)
    for choice in picked:
        keys = choice.proposal.key.split(".")
        text = comment(assign(text, keys, choice.proposal.value), keys, choice.proposal.why)
    return text


def _explain_schema(found: Found) -> dict[tuple[str, str], str]:
    reasons: dict[tuple[str, str], str] = {}
    for name, skeleton in found.schema.classes.items():
        reasons[name, "keypoints"] = "in the order in which they are mostly drawn"
        if skeleton.edges:
            reasons[name, "skeleton"] = f"what lies near what; {REPORT / PICTURE} shows it"
        derived = {frozenset(pair) for pair in find_pairs(skeleton.keypoints)}
        if skeleton.pairs and derived == {frozenset(pair) for pair in skeleton.pairs}:
            reasons[name, "pairs"] = ", ".join("/".join(pair) for pair in skeleton.pairs)
        elif skeleton.pairs:
            reasons[name, "pairs"] = "left and right, by their names"
        doubts = _doubts_of(found, name)
        if doubts:
            listed = ", ".join(f"[{a}, {b}]" for a, b in doubts)
            reasons[name, "pairs"] = f"left and right perhaps, if so write [{listed}]"
    return reasons


def _doubts_of(found: Found, class_name: str) -> list[tuple[str, str]]:
    key = f"schema.classes.{class_name}.pairs"
    return [(pair[0], pair[1]) for proposal in found.declined if proposal.key == key for pair in proposal.value]


def measure(root: Path, start: Start, picked: Sequence[Choice], progress: Progress) -> None:
    """Measure what a training will cost by what would be written, and take it down; a failure is taken down as well."""
    document = parse_document(format_params(root, start.found, picked).encode(), PARAMS_FILE)
    local = read.read_local(root)
    try:
        params = read.load_section(document, "train", TrainParams)
        start.cost = measure_cost(root, start.found, params, read.load_seed(document), local, progress)
    except PoseError as error:
        start.why_no_cost = str(error)


class Taken(msgspec.Struct, frozen=True):
    """What was done.

    Attributes:
        start: what was proposed.
        written: the values that stand in ``params.yaml`` now, by key.
        kept: proposals that were not written, since a person's value stands there.
        adopted: where the old data and parameters lie.
        page: everything as a page.
    """

    start: Start
    written: dict[str, Any]
    kept: list[Choice]
    adopted: Adopted
    page: Path


def take(root: Path, start: Start, picked: Sequence[Choice], progress: Progress) -> Taken:
    """Make the start: data, parameters, and the page about them.

    What is replaced moves to ``.keypipe/replaced``; of a folder that is ``data/raw`` already and keeps its schema that
    is ``params.yaml`` alone, since all else follows from it by the stages.

    Args:
        root: the workspace.
        start: what was proposed.
        picked: which of it is written.
        progress: is told how far it is.

    Raises:
        ConfigError: the parameters cannot be written.
    """
    found = start.found
    params = format_params(root, found, picked)
    remove(root / REPORT)  # of the same start; it is written anew below
    with suppress(OSError):  # other pages are there, or none
        (root / REPORT).parent.rmdir()
    if found.folder == root.resolve() / RAW and not found.is_drafted:
        adopted = _write_params(root, params)
    else:
        adopted = adopt_folder(root, found.folder, found.names, params, progress)
    found.folder = root.resolve() / RAW
    written = {choice.proposal.key: choice.proposal.value for choice in picked}
    remember(root, written)
    page = write_page(root, found, start.choices, start.cost, start.why_no_cost)
    kept = [choice for choice in start.choices if choice.is_overriding and choice not in picked]
    return Taken(start, written, kept, adopted, page)


def _write_params(root: Path, params: str) -> Adopted:
    aside = choose_aside(root)
    aside.mkdir(parents=True)
    shutil.copy2(root / PARAMS_FILE, aside / PARAMS_FILE)
    write_text(root / PARAMS_FILE, params)
    return Adopted(aside.relative_to(root), [])


def use_folder(root: Path, source: Source, progress: Progress | None = None) -> Taken:
    """Take a folder without a question, a measurement or the network: what is sure is written, a person's values stay.

    Args:
        root: the workspace.
        source: the folder.
        progress: is told how far it is.

    Raises:
        AnnotationError: the folder holds no annotation that keypoints could be taken from, or not their images.
        ConfigError: the folder holds the workspace, or lies in it anywhere but at ``data/raw``; or ``params.yaml`` is
            no YAML with sections. Nothing was changed then.
    """
    tell = progress or tell_nobody
    weights = Weights(published=False, why_not="`keypipe init` looks whether published ones can be had")
    start = propose(root, source, weights, decline, tell)
    return take(root, start, by_default(start.choices), tell)


def decline(_proposal: Proposal) -> bool:
    """Say no to everything that is not sure."""
    return False


def describe(taken: Taken) -> str:
    """Say what was done, and what comes next."""
    found = taken.start.found
    lines = [f"{RAW} holds your annotations now; params.yaml got:"]
    lines += _describe_schema(found)
    lines += [f"  {key}: {value}" for key, value in _shorten(taken.written).items()]
    lines += [
        f"  {choice.proposal.key}: {choice.now} is yours and stays; {choice.proposal.value} is proposed"
        for choice in taken.kept
    ]
    lines += [f"  {note}" for note in found.notes]
    lines += [f"  {proposal.question} If so, say it in params.yaml: {proposal.key}" for proposal in found.declined]
    replaced = ", ".join(taken.adopted.moved) or "nothing"
    lines.append(f"What was there before is in {taken.adopted.aside}: {replaced} and params.yaml.")
    page = taken.page.relative_to(taken.page.parents[2])
    lines.append(f"Every value has its reason beside it; skeletons and reasons as a page: {page}")
    lines.append("Next: look over schema.classes in params.yaml (order, classes you do not want), then `keypipe run`.")
    return "\n".join(lines)


def _describe_schema(found: Found) -> list[str]:
    if not found.is_drafted:
        n_classes = format_count(len(found.schema.classes), "class", "classes")
        return [f"  the schema stays as it is: {n_classes}, {format_count(len(found.schema.slots), 'keypoint')}"]
    lines: list[str] = []
    for name, skeleton in found.schema.classes.items():
        pairs = ", ".join(f"{a}/{b}" for a, b in skeleton.pairs) or "none"
        lines.append(f"  {name}: {', '.join(skeleton.keypoints)} (left/right pairs: {pairs})")
    return lines


def _shorten(written: Mapping[str, Any]) -> dict[str, str]:
    """Return values by section, so that they take a few lines."""
    sections: dict[str, list[str]] = {}
    for key, value in written.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, []).append(f"{name} {value}")
    return {section: ", ".join(values) for section, values in sections.items()}
