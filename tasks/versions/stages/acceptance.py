"""Outputs that stay although keypipe's own code changed: what changed of a stage, and the record of what was taken.

DVC knows no such thing as code that does not matter. ``dvc.lock`` is written as if the stage had run on today's code,
and ``accepted.yaml``, which git keeps, says so: which stage, when, which code, and the fingerprint that it had before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from keypipe.errors import ConfigError, PoseError
from keypipe.files.atomic import write_text
from tasks.versions.repository import opened, relative, waiting, written_whole
from tasks.versions.stages.lockfile import parse_lock
from tasks.versions.stages.state import hash_entry, hash_stage, is_new_and_empty, load_stage
from tasks.workspace.documents import format_yaml, parse_yaml
from tasks.workspace.places import LOCK

ACCEPTED = Path("accepted.yaml")
CODE = ("keypipe/", "tasks/", "flows/")
"""Where keypipe's own code lies in a workspace."""

_HEADER = """\
# Outputs that `keypipe accept` took as they are, although keypipe's own code had changed (docs/upgrading.md).
# Written by keypipe; keep it in git.
"""

SameParam = Callable[[str, Any, Any], bool]


class Differences(NamedTuple):
    """What is no longer as it was when a stage ran.

    Attributes:
        stage: its name.
        code: keypipe's own files and folders, and the command.
        data: other files and folders that the stage depends on.
        params: keys of ``params.yaml``.
        outputs: those that were changed by hand, or are in neither the workspace nor DVC's cache.
        known: the stage has run.
    """

    stage: str
    code: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    known: bool = True

    @property
    def only_code(self) -> bool:
        """Nothing but keypipe's own code changed."""
        return bool(self.code) and self.known and not (self.data or self.params or self.outputs)


class Accepted(msgspec.Struct, frozen=True):
    """An output that was taken as it is.

    Attributes:
        stage: whose outputs.
        time: ISO 8601, UTC.
        before: the fingerprint that the stage had.
        after: the one that it has with today's code.
        code: what of keypipe's own code had changed.
        commit: git's, of the code that it was taken with; "" where none.
    """

    stage: str
    time: str
    before: str
    after: str
    code: tuple[str, ...]
    commit: str = ""


def is_code(path: str) -> bool:
    """Tell whether a path in a workspace is keypipe's own code."""
    return path.startswith(CODE) or path == "dvc.yaml"


def only_code_changed(changes: tuple[str, ...]) -> list[str]:
    """Return the code that changed, where nothing else did.

    Args:
        changes: of a ``StageVersion``, such as ``modified: keypipe/evaluation``.
    """
    paths = [change.partition(": ")[2] for change in changes]
    return paths if all(is_code(path) for path in paths) else []


def find_differences(root: Path, stage: str, same_param: SameParam) -> Differences:
    """Compare a stage with what ``dvc.lock`` says that it ran on.

    Args:
        root: the workspace.
        stage: its name.
        same_param: tells whether a key of ``params.yaml`` means the same with two values; None: it is absent.
    """
    from dvc.dependency.param import ParamsDependency

    with opened(root) as repo, waiting(repo):
        loaded = load_stage(repo, root, stage)
        entry = _entry(root, stage)
        if entry is None:
            return Differences(stage, known=False)
        code = ["dvc.yaml"] if entry.get("cmd") != loaded.cmd else []
        code += [dep["path"] for dep in entry.get("deps", ()) if is_code(dep["path"])]
        named = {relative(root, dep) for dep in loaded.deps}
        code = [path for path in code if path not in named]  # what the stage depended on then, and no longer does
        data: list[str] = []
        params: list[str] = []
        for dep in loaded.deps:
            if isinstance(dep, ParamsDependency):
                params += _changed_params(dep, entry, same_param)
            elif is_new_and_empty(dep):
                code.append("dvc.yaml")
            elif dep.status():
                path = relative(root, dep)
                (code if is_code(path) else data).append(path)
        outputs = [relative(root, out) for out in loaded.outs if not _is_intact(out)]
    return Differences(stage, tuple(sorted(set(code))), tuple(data), tuple(params), tuple(outputs))


def _entry(root: Path, stage: str) -> dict[str, Any] | None:
    path = root / "dvc.lock"
    return parse_lock(path.read_text(encoding="utf-8")).get(stage) if path.exists() else None


def _changed_params(dep: Any, entry: Mapping[str, Any], same_param: SameParam) -> list[str]:
    locked = (entry.get("params") or {}).get(str(dep), {})
    actual = dep.read_params()
    return [name for name in dep.params if not same_param(name, locked.get(name), actual.get(name))]


def _is_intact(out: Any) -> bool:
    """Tell whether an output is the one of ``dvc.lock``, or DVC's cache can bring it back."""
    if not out.hash_info:
        return False
    if not out.exists:
        return bool(out.use_cache) and not out.changed_cache()
    return not out.status()


def take_as_is(root: Path, differences: Differences, *, time: str, commit: str) -> Accepted:
    """Write into ``dvc.lock`` and ``accepted.yaml`` that a stage's outputs are those of today's code.

    Args:
        root: the workspace.
        differences: of the stage, as just found; nothing but code.
        time: ISO 8601.
        commit: git's, of the code.

    Raises:
        PoseError: more than code differs.
    """
    if not differences.only_code:
        raise PoseError(f"{differences.stage}: more than keypipe's own code changed, or the stage has not run")
    before = _entry(root, differences.stage)
    assert before is not None
    with opened(root) as repo, waiting(repo):
        loaded = load_stage(repo, root, differences.stage)
        loaded.save_deps()
        after = hash_stage(loaded)
        taken = Accepted(differences.stage, time, hash_entry(before), after, differences.code, commit)
        # The record first: after a kill in between, dvc.lock still has the stage changed, and it is taken once more.
        _write_accepted(root, [*(one for one in read_accepted(root) if not _is_same(one, taken)), taken])
        with written_whole(root, LOCK):
            loaded.dump(update_pipeline=False)
    return taken


def _is_same(one: Accepted, other: Accepted) -> bool:
    return (one.stage, one.before, one.after) == (other.stage, other.before, other.after)


def list_in_force(root: Path) -> list[Accepted]:
    """Return what was accepted of the outputs that ``dvc.lock`` names now, oldest first."""
    text = (root / LOCK).read_text(encoding="utf-8") if (root / LOCK).exists() else ""
    entries = parse_lock(text)
    return [one for one in read_accepted(root) if one.stage in entries and hash_entry(entries[one.stage]) == one.after]


def read_accepted(root: Path) -> list[Accepted]:
    """Return what was accepted in a workspace, oldest first.

    Raises:
        PoseError: ``accepted.yaml`` is none of keypipe's.
    """
    path = root / ACCEPTED
    if not path.exists():
        return []
    try:
        return msgspec.convert(parse_yaml(path.read_bytes(), ACCEPTED.name) or [], list[Accepted])
    except (ConfigError, msgspec.ValidationError) as error:
        raise PoseError(f"{ACCEPTED}: not as keypipe writes it ({error}); `git checkout {ACCEPTED}`") from error


def _write_accepted(root: Path, accepted: list[Accepted]) -> None:
    write_text(root / ACCEPTED, _HEADER + format_yaml(msgspec.to_builtins(accepted)))


def earlier_fingerprints(root: Path, fingerprint: str) -> list[str]:
    """Return the fingerprints that outputs had before they were accepted as those of this one, newest first."""
    before = {accepted.after: accepted.before for accepted in read_accepted(root)}
    found: list[str] = []
    while (fingerprint := before.get(fingerprint, "")) and fingerprint not in found:
        found.append(fingerprint)
    return found
