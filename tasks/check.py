"""All that is wrong with the workspace's parameters, at once and before anything starts."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from keypipe.errors import ConfigError
from keypipe.evaluation.sigmas import SIGMAS_FILE, SigmaFile, resolve_sigmas
from keypipe.files.texts import DOUBTFUL, is_doubtful
from keypipe.gate.rules import Rules
from keypipe.keypoints.skeleton import Schema
from tasks.convert import ConvertParams
from tasks.drift.settings import DriftParams
from tasks.export import ExportParams
from tasks.grading.loss_sigma import SigmaCourse
from tasks.grading.sigmas import read_sigmas
from tasks.registry.settings import RegistryParams, RetentionParams
from tasks.retraining.settings import RetrainParams
from tasks.split import SplitParams
from tasks.train import TrainParams
from tasks.validate import ValidateParams
from tasks.versions.stages.lockfile import parse_lock
from tasks.versions.weights import find_unkept
from tasks.workspace import params as read
from tasks.workspace.documents import parse_yaml
from tasks.workspace.places import GROUPS, LOCK, PARAMS_FILE, WEIGHTS
from tasks.workspace.verdict import DoctorParams

SECTIONS: dict[str, type[read.Section]] = {
    "doctor": DoctorParams,
    "convert": ConvertParams,
    "split": SplitParams,
    "train": TrainParams,
    "validate": ValidateParams,
    "export": ExportParams,
    "registry": RegistryParams,
    "drift": DriftParams,
    "retrain": RetrainParams,
    "retention": RetentionParams,
}


def check_workspace(root: Path) -> None:
    """Check ``params.yaml`` and ``local.yaml``.

    Raises:
        ConfigError: every problem, one a line, with file and line number.
    """
    document = read.read_params(root)
    problems = find_missing(root, document)
    if is_doubtful((root / PARAMS_FILE).read_bytes()):
        problems.append(f"{PARAMS_FILE}: {DOUBTFUL}")
    measured: SigmaFile | None = None
    try:
        measured = read_sigmas(root)
    except ConfigError as error:
        problems += str(error).splitlines()
    problems += find_problems(document, measured)
    try:
        read.read_local(root)
    except ConfigError as error:
        problems += str(error).splitlines()
    read.raise_problems(problems)


def check_files(root: Path) -> None:
    """Check that the files which stages depend on and git keeps are there; the raw data are checked apart.

    Raises:
        ConfigError: some are not, or a training would start from a file that neither DVC nor git keeps.
    """
    stages = parse_yaml((root / "dvc.yaml").read_bytes(), "dvc.yaml")["stages"]
    needed = {dep for stage in stages.values() for dep in stage.get("deps", ())}
    read.raise_problems(
        [
            f"{path}: not there, and a stage depends on it; `git checkout {path}` brings it back"
            for path in map(str, (GROUPS, SIGMAS_FILE, WEIGHTS))
            if path in needed and not (root / path).exists()
        ]
        + find_unkept(root, _new_in_train(root))
    )


def _new_in_train(root: Path) -> dict[str, Any]:
    """Return what the section ``train`` has otherwise than at the last training, which needs no other start now."""
    locked: Mapping[str, Any] = {}
    if (root / LOCK).exists():
        entry = parse_lock((root / LOCK).read_text(encoding="utf-8")).get("train", {})
        locked = entry.get("params", {}).get(PARAMS_FILE, {}).get("train") or {}
    section = read.read_params(root).get("train") or {}
    return {key: value for key, value in section.items() if value != locked.get(key)}


def find_missing(root: Path, document: CommentedMap) -> list[str]:
    """Return what ``dvc.yaml`` names and ``params.yaml`` lacks: DVC takes no default for a parameter."""
    stages = parse_yaml((root / "dvc.yaml").read_bytes(), "dvc.yaml")["stages"]
    names = dict.fromkeys(name for stage in stages.values() for name in stage.get("params", ()))
    problems: list[str] = []
    for name in names:
        node: Any = document
        for key in name.split("."):
            node = node.get(key) if isinstance(node, Mapping) else None
        if node is None:
            example = f"`{name}: {{}}` takes all defaults" if name in SECTIONS else "see docs/parameters.md"
            problems.append(f"{PARAMS_FILE}: {name}: missing; {example}")
    return problems


def find_problems(document: CommentedMap, measured: SigmaFile | None = None) -> list[str]:
    """Return everything that is wrong with a ``params.yaml``, one line each.

    Args:
        document: the whole file.
        measured: what ``data/sigmas.yaml`` holds.
    """
    problems: list[str] = []
    known = {"seed", "schema", *SECTIONS}
    problems += [
        f"{read.place(document, [str(key)], PARAMS_FILE)}: {key}: unknown section (known: {', '.join(sorted(known))})"
        for key in document
        if key not in known
    ]
    sections = {
        name: read.check_section(document, (name,), model, PARAMS_FILE, problems) for name, model in SECTIONS.items()
    }
    problems[:] = map(_add_guess, problems)
    slots: tuple[str, ...] | None = None
    for load in (read.load_seed, read.load_schema):
        try:
            value = load(document)
        except ConfigError as error:
            problems += str(error).splitlines()
            continue
        if not isinstance(value, int):
            slots = value.slots
            problems += _find_unfitting_mirror(document, sections, value)
    if slots is not None:
        problems += [
            f"{read.place(document, location, PARAMS_FILE)}: {error}"
            for location, error in _find_unfitting_sigmas(sections, slots, measured).items()
        ]
    return problems


def _add_guess(problem: str) -> str:
    """Say what may have been meant by an unknown key, where one that is known looks like it."""
    match = re.search(r"(\w+): unknown (?:parameter|section) \(known: ([^)]*)\)$", problem)
    if rule := re.search(r"retrain\.gate\.(\w+): Unexpected keyword argument", problem):  # pydantic's word for it
        rules = [field.name for field in dataclasses.fields(Rules)]
        guess = difflib.get_close_matches(rule[1], rules, n=1) or ["one of " + ", ".join(rules)]
        return f"{problem[: rule.end(1)]}: unknown rule; did you mean {guess[0]}?"
    close = difflib.get_close_matches(match[1], match[2].split(", "), n=1) if match else []
    return f"{problem}; did you mean {close[0]}?" if close else problem


def _find_unfitting_mirror(
    document: CommentedMap, sections: Mapping[str, read.Section | None], schema: Schema
) -> list[str]:
    train, validate = sections["train"], sections["validate"]
    if not (isinstance(train, TrainParams) and isinstance(validate, ValidateParams) and validate.mirror):
        return []
    if schema.has_pairs or train.symmetric:
        return []
    place = read.place(document, ["validate", "mirror"], PARAMS_FILE)
    why = "no keypoint has a left/right partner, so names may be wrong in a mirror; give pairs, or set train.symmetric"
    return [f"{place}: validate.mirror: {why}"]


def _find_unfitting_sigmas(
    sections: Mapping[str, read.Section | None], slots: Sequence[str], measured: SigmaFile | None
) -> dict[tuple[str, str], ConfigError]:
    found: dict[tuple[str, str], ConfigError] = {}
    train, validate = sections["train"], sections["validate"]
    if isinstance(train, TrainParams):
        try:
            SigmaCourse(train.loss_sigma, len(slots))
        except ConfigError as error:
            found["train", "loss_sigma"] = error
    if isinstance(validate, ValidateParams):
        try:
            resolve_sigmas(
                validate.sigma,
                slots,
                "validate.sigma",
                measured=measured,
                area_rule=validate.area_rule,
                area_factor=validate.area_factor,
            )
        except ConfigError as error:
            found["validate", "sigma"] = error
    return found
