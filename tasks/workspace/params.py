"""Reads sections of ``params.yaml`` and ``local.yaml`` and says, with line numbers, all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml.comments import CommentedMap

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, parse_schema
from tasks.workspace.documents import read_document
from tasks.workspace.places import LOCAL_FILE, PARAMS_FILE


class Section(BaseModel):
    """Base of a stage's section: unknown keys and wrong types are refused, never coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def find_problems(cls, values: Mapping[str, Any]) -> dict[str, str]:  # noqa: ARG003
        """Return what else is wrong, by key, where a section takes keys that it does not declare."""
        return {}


class Local(Section):
    """``local.yaml``: settings of this machine, recorded with a run but never part of its fingerprint."""

    device: str | int | None = Field(default=None, description="cpu, mps or 0; default: what is there")
    workers: int | None = Field(
        default=None, ge=0, description="loader processes; default: 2 on a GPU, none on the CPU"
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads of torch; default: every core")
    cache: Literal["auto", "ram", "disk", False] = Field(default="auto", description="keep decoded images in training")


S = TypeVar("S", bound=Section)


def read_params(root: Path) -> CommentedMap:
    """Read the workspace's ``params.yaml``.

    Raises:
        ConfigError: it is absent or no YAML.
    """
    path = root / PARAMS_FILE
    if not path.exists():
        raise ConfigError(f"{path}: not there; run from the folder that holds {PARAMS_FILE}")
    return read_document(path)


def read_local(root: Path) -> Local:
    """Read ``local.yaml``; without one, the defaults.

    Raises:
        ConfigError: an unknown key or a wrong type.
    """
    document = read_document(root / LOCAL_FILE)
    problems: list[str] = []
    local = check_section(document, (), Local, LOCAL_FILE, problems)
    raise_problems(problems)
    return local or Local()


def load_section(document: CommentedMap, name: str, model: type[S]) -> S:
    """Build one section.

    Args:
        document: the whole ``params.yaml``.
        name: the section's name; an absent section is one of defaults.
        model: its pydantic model.

    Raises:
        ConfigError: all that is wrong with the section.
    """
    problems: list[str] = []
    section = check_section(document, (name,), model, PARAMS_FILE, problems)
    raise_problems(problems)
    assert section is not None
    return section


def load_seed(document: Mapping[str, Any]) -> int:
    """Return the seed that every stage draws from.

    Raises:
        ConfigError: it is not a whole number >= 0.
    """
    seed = document.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(
            f"{place(document, ('seed',), PARAMS_FILE)}: seed: expected a whole number >= 0, got {seed!r}"
        )
    return int(seed)  # ruamel has its own type for 0


def load_schema(document: Mapping[str, Any]) -> Schema:
    """Build the dataset schema from its section.

    Raises:
        ConfigError: all that is wrong with it.
    """
    section = document.get("schema")
    if not isinstance(section, Mapping):
        raise ConfigError(f"{PARAMS_FILE}: schema: missing; describe your classes and their keypoints there")
    try:
        return parse_schema(section)
    except ConfigError as error:
        where = place(document, ("schema", "classes"), PARAMS_FILE)
        raise ConfigError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from error


def check_section(
    document: Mapping[str, Any],
    path: Sequence[str],
    model: type[S],
    file: str,
    problems: list[str],
) -> S | None:
    """Validate one section and add what is wrong to ``problems``.

    Args:
        document: the whole file.
        path: keys that lead to the section; empty for the file itself.
        model: the section's pydantic model.
        file: name of the file for messages.
        problems: gets one line per problem, with the line in the file.

    Returns:
        The section, or None when there was a problem.
    """
    section: Any = document
    for key in path:
        section = section.get(key) if isinstance(section, Mapping) else section
    values = _plain(section) if section is not None else {}
    if not isinstance(values, Mapping):
        problems.append(f"{place(document, path, file)}: {'.'.join(path)}: expected keys and values, got {values!r}")
        return None
    problems += [
        f"{place(document, [*path, key], file)}: {'.'.join([*path, key])}: {text}"
        for key, text in model.find_problems(
            {key: item for key, item in values.items() if isinstance(key, str)}
        ).items()
    ]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for problem in error.errors():
            location = [*path, *(str(part) for part in problem["loc"])]
            problems.append(f"{place(document, location, file)}: {'.'.join(location)}: {_say(problem, model)}")
        return None


def raise_problems(problems: Iterable[str]) -> None:
    """Raise all problems as one ``ConfigError``; none, nothing."""
    lines = list(dict.fromkeys(problems))
    if lines:
        raise ConfigError("\n".join(lines))


def _say(problem: Any, model: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(problem["loc"]) == 1 else ""
        return "unknown parameter" + (f" (known: {known})" if known else "")
    return f"{str(problem['msg']).removeprefix('Value error, ')}, got {problem['input']!r}"


def place(document: Mapping[str, Any], location: Sequence[str], file: str) -> str:
    """Return ``file:line`` of the deepest key on a path that the file spells out."""
    node: Any = document
    line: int | None = None
    for key in location:
        if isinstance(node, CommentedMap) and key in node:
            line = node.lc.key(key)[0] + 1
            node = node[key]
        else:
            break
    return file if line is None else f"{file}:{line}"


def _plain(value: Any) -> Any:
    """Strip ruamel's types, which strict validation would refuse."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return value
