"""The command accept: outputs that stay although keypipe's own code changed.

Nobody should train for a night because a module was renamed. But nothing is taken on trust that can be seen: convert
and split are run anew, and a training is taken only where the data that they make are the same bytes, the parameters
mean the same, and today's code still learns the same from them (``LEARNS``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keypipe.errors import ConfigError, PoseError
from keypipe.files.atomic import write_text
from tasks.check import SECTIONS, find_missing
from tasks.commands.writing.params_text import assign
from tasks.versions.stages.acceptance import Differences, find_differences
from tasks.versions.stages.state import stage_names
from tasks.workspace.documents import decode_yaml, format_value
from tasks.workspace.models import read_record
from tasks.workspace.params import read_params
from tasks.workspace.places import PARAMS_FILE

ALWAYS_RUN = ("convert", "split")
"""Stages that take seconds, and whose outputs are what a training learns from."""
TRAIN = "train"


def same_param(name: str, before: Any, now: Any) -> bool:
    """Tell whether a key of ``params.yaml`` means the same with two values.

    Args:
        name: such as ``convert`` or ``validate.sigma``.
        before: what it was, None where it was absent.
        now: what it is.
    """
    section, _, key = name.partition(".")
    defaults = _defaults(section)
    if key:
        return bool(_or_default(before, defaults.get(key)) == _or_default(now, defaults.get(key)))
    if section in SECTIONS:
        return {**defaults, **(before or {})} == {**defaults, **(now or {})}
    return bool(before == now)


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _defaults(section: str) -> dict[str, Any]:
    model = SECTIONS.get(section)
    own = model().model_dump(mode="json") if model else {}
    return _engine_defaults() | own if section == TRAIN else own


def _engine_defaults() -> dict[str, Any]:
    """Return the arguments that ``train:`` hands to the engine as they are, with their defaults."""
    from tasks.engine.door.training import engine

    return {name: value for name, value in engine().read_train_arguments().items() if name not in engine().RESERVED}


def add_missing_params(root: Path) -> list[str]:
    """Write the parameters that ``dvc.yaml`` names and ``params.yaml`` lacks, with their defaults; comments stay.

    Returns:
        A line for each.

    Raises:
        ConfigError: one of them has no default.
    """
    names = [line.split(": ")[1] for line in find_missing(root, read_params(root))]
    text = before = decode_yaml((root / PARAMS_FILE).read_bytes(), PARAMS_FILE)
    told: list[str] = []
    for name in names:
        section, _, key = name.partition(".")
        if section not in SECTIONS or (key and key not in SECTIONS[section].model_fields):
            raise ConfigError(f"{PARAMS_FILE}: {name}: missing, and it has no default; see docs/parameters.md")
        value = _defaults(section)[key] if key else {}
        about = (SECTIONS[section].model_fields[key].description or "") if key else ""
        text = assign(text, [section, key] if key else [section], value, about)
        told.append(f"{PARAMS_FILE}: {name}: {format_value(value)} (default)")
    if text != before:
        write_text(root / PARAMS_FILE, text)
    return told


@contextmanager
def params_stay_where_refused(root: Path) -> Iterator[None]:
    """Take back what the block wrote into ``params.yaml`` where it ends in a refusal."""
    before = (root / PARAMS_FILE).read_bytes()
    try:
        yield
    except PoseError:
        if (root / PARAMS_FILE).read_bytes() != before:
            write_text(root / PARAMS_FILE, before.decode("utf-8"))
        raise


def list_differences(root: Path) -> dict[str, Differences]:
    """Return what differs of every stage, in the order in which they run."""
    return {stage: find_differences(root, stage, same_param) for stage in stage_names(root)}


def refuse(differences: Mapping[str, Differences], stages: Sequence[str]) -> None:
    """Refuse stages of which more than keypipe's own code changed.

    Raises:
        PoseError: all that stands in the way, one line a stage.
    """
    problems = [line for stage in stages for line in _problems(differences[stage])]
    if problems:
        raise PoseError("\n".join([*problems, "nothing was taken; `keypipe run` makes it anew"]))


def _problems(found: Differences) -> list[str]:
    if not found.known:
        return [f"{found.stage}: has not run yet, so there is nothing to accept"]
    changed = [*found.data, *(f"{PARAMS_FILE} {name}" for name in found.params)]
    lines = [f"{found.stage}: not only keypipe's own code changed, but {', '.join(changed)}"] if changed else []
    if found.outputs:
        lines.append(f"{found.stage}: its outputs are not those of its last run: {', '.join(found.outputs)}")
    return lines


def refuse_other_learning(root: Path) -> None:
    """Refuse a training from which today's code would learn otherwise.

    Raises:
        PoseError: the code that trained and today's differ in what is learnt.
    """
    from tasks.engine.door.training import LEARNS

    learnt = read_record(root).learns
    if learnt != LEARNS:
        raise PoseError(
            f"{TRAIN}: today's code learns otherwise (version {LEARNS}; this model was trained by version {learnt}):"
            " see CHANGELOG.md; `keypipe run` trains anew"
        )
