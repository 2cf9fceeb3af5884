"""What a run was made of, kept as a commit under ``refs/keypipe/<MLflow run>``.

Nobody commits what a scheduled run leaves behind, so every training keeps the tracked and the untracked files of the
workspace as it found them: code, ``params.yaml``, ``*.dvc``, ``dvc.lock``, the manifest. When it has ended, what came
of it (``dvc.lock`` and the outputs that git keeps) is laid over them in a second commit. All of it goes through an
index file of its own: the user's branch, index, working tree and stash are not touched, and a plain ``git push`` does
not take these refs along.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tasks.versions import git
from tasks.versions.stages.acceptance import earlier_fingerprints
from tasks.versions.stages.lockfile import Files, join_locks, locked_fingerprint, locked_folders
from tasks.versions.stages.state import all_outputs, stage_names
from tasks.versions.store import list_folders
from tasks.workspace.models import read_run_id
from tasks.workspace.places import LOCAL_FILE, LOCK
from tasks.workspace.program import say

REFS = "refs/keypipe"
TAG = "keypipe.snapshot"
"""Tag of the MLflow run that names the commit."""
SWITCH = "KEYPIPE_SNAPSHOTS"
"""Environment variable; ``off`` keeps no snapshots, as when a run is reproduced."""

STAGE = "train"
MAX_FILE_BYTES = 5_000_000
MAX_UNTRACKED_BYTES = 50_000_000
"""Untracked files above these, one and together, are data that somebody forgot to ignore."""

_QUIET = ("-c", "core.splitIndex=false", "-c", "core.fsmonitor=false", "-c", "core.safecrlf=false")
_WHO = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "keypipe"), ("EMAIL", "keypipe@localhost"))}  # fmt: skip


class Snapshot(msgspec.Struct, frozen=True):
    """The newest commit of a run's ref.

    Attributes:
        run_id: the MLflow run of the training.
        commit: full hash.
        fingerprint: DVC's fingerprint of the train stage.
        time: when the commit was made, seconds since the epoch.
        complete: what came of the training is in it.
        skipped: untracked files that were too large to be kept.
    """

    run_id: str
    commit: str
    fingerprint: str
    time: int
    complete: bool
    skipped: tuple[str, ...] = ()


class Tree(msgspec.Struct, frozen=True):
    """A tree object of git.

    Attributes:
        name: its hash.
        skipped: untracked files that were too large to be in it.
    """

    name: str
    skipped: tuple[str, ...]


def is_off() -> bool:
    """Tell whether no snapshots are wanted."""
    return os.environ.get(SWITCH) == "off"


def take(root: Path, run_id: str, fingerprint: str) -> dict[str, str]:
    """Keep the workspace as a training finds it; never stops the training.

    Args:
        root: the workspace.
        run_id: the MLflow run of the training.
        fingerprint: DVC's fingerprint of the train stage.

    Returns:
        The tags for the MLflow run; none where no snapshot could be kept, which is said.
    """
    if is_off():
        return {}
    if not git.is_repository(root):
        say("no git repository here: no snapshot is kept, so this run cannot be reproduced later")
        return {}
    try:
        settle(root)
        tree = write_tree(root)
        for name in tree.skipped:
            say(f"warning: {name} is untracked and too large for the run's snapshot; commit it, or have git ignore it")
        commit = _commit(root, run_id, fingerprint, tree, complete=False)
    except git.GitError as error:
        say(f"warning: no snapshot is kept of this run ({error})")
        return {}
    say(f"snapshot {commit[:12]} of code, parameters and data versions: {REFS}/{run_id}")
    return {TAG: commit}


def settle(root: Path) -> Snapshot | None:
    """Lay what came of the training in ``dvc.lock`` over its snapshot, where that has not been done.

    Returns:
        The snapshot of the workspace's training; None if there is no snapshot.
    """
    found = of_workspace(root)
    if found is None or found.fingerprint != _locked(root):  # accepted: dvc.lock speaks of today's code, not the run's
        return found
    tree = _overlay(root, found.commit)
    if found.complete and tree == git.read(root, "rev-parse", f"{found.commit}^{{tree}}").strip():
        return found
    _commit(root, found.run_id, found.fingerprint, Tree(tree, found.skipped), complete=True)
    return find(root, found.run_id)


def renew(root: Path, run_id: str, fingerprint: str, tree: Tree) -> Snapshot | None:
    """Keep a run whose training was there already, with the files that the other stages ran on.

    Args:
        root: the workspace, after the run.
        run_id: the MLflow run of the training.
        fingerprint: DVC's fingerprint of the train stage.
        tree: the files as ``write_tree`` found them before.
    """
    whole = Tree(_overlay(root, tree.name), tree.skipped)
    _commit(root, run_id, fingerprint, whole, complete=True)
    return find(root, run_id)


def of_workspace(root: Path) -> Snapshot | None:
    """Return the snapshot of the training that the workspace's ``dvc.lock`` holds, also where it was accepted since."""
    fingerprint = _locked(root)
    if fingerprint is None or not git.is_repository(root):
        return None
    snapshots = list_snapshots(root)
    names = [fingerprint, *earlier_fingerprints(root, fingerprint)]
    named = ([snapshot for snapshot in snapshots if snapshot.fingerprint == name] for name in names)
    same = next(filter(None, named), [])
    run_id = read_run_id(root)
    if run_id:
        # Others began the same training and failed; a complete one is the same run under another server's id.
        own = [snapshot for snapshot in same if snapshot.run_id == run_id]
        same = own or [snapshot for snapshot in same if snapshot.complete]
    return next(iter(same), None)


def _locked(root: Path) -> str | None:
    lock = root / LOCK
    return locked_fingerprint(lock.read_text(encoding="utf-8"), STAGE) if lock.exists() else None


def list_snapshots(root: Path) -> list[Snapshot]:
    """Return the snapshots of all runs, newest first; none outside git."""
    layout = "%(refname:lstrip=2)%00%(objectname)%00%(committerdate:unix)%00%(contents)%00"
    text = git.ask(root, "for-each-ref", "--sort=-committerdate", f"--format={layout}", REFS) or ""
    fields = text.split("\0")[:-1]
    rows = zip(*(fields[start::4] for start in range(4)), strict=True)
    return [_parse_snapshot(*(field.removeprefix("\n") for field in row)) for row in rows]


def _parse_snapshot(run_id: str, commit: str, time: str, message: str) -> Snapshot:
    trailers = re.findall(r"^Keypipe-(\w+): (.*)$", message, flags=re.MULTILINE)
    first = dict(trailers)
    return Snapshot(
        run_id,
        commit,
        first.get("Fingerprint", ""),
        int(time),
        first.get("State") == "complete",
        tuple(value for key, value in trailers if key == "Skipped"),
    )


def find(root: Path, run_id: str) -> Snapshot | None:
    """Return the snapshot of a run."""
    return next((snapshot for snapshot in list_snapshots(root) if snapshot.run_id == run_id), None)


def rename(root: Path, before: str, run_id: str) -> None:
    """Call the snapshot of a run by the id that MLflow has given it since; one that has that name already stays.

    Args:
        root: the workspace.
        before: what the run was called until then; nothing is done where no snapshot is called so.
        run_id: its MLflow run.
    """
    commit = (git.ask(root, "rev-parse", "--verify", "--quiet", f"{REFS}/{before}") or "").strip()
    if not commit or before == run_id:
        return
    if not git.ask(root, "rev-parse", "--verify", "--quiet", f"{REFS}/{run_id}"):
        git.ask(root, "update-ref", f"{REFS}/{run_id}", commit)
    git.ask(root, "update-ref", "-d", f"{REFS}/{before}", commit)


def drop(root: Path, run_id: str) -> None:
    """Remove the snapshot of a run; git collects what it alone held."""
    git.read(root, "update-ref", "-d", f"{REFS}/{run_id}")


def read_file(root: Path, commit: str, path: str) -> bytes | None:
    """Return a file that git holds in a commit; None where it has none.

    Args:
        root: the workspace.
        commit: any name of the commit, or of a tree.
        path: relative to the workspace.
    """
    try:
        return git.read_bytes(root, "cat-file", "blob", f"{commit}:./{path}")
    except git.GitError:
        return None


def list_files(root: Path, commit: str, folder: str) -> list[str]:
    """Return the files that git holds below a folder of a commit, relative to it; none where it has no such folder.

    Args:
        root: the workspace.
        commit: any name of the commit, or of a tree.
        folder: relative to the workspace.
    """
    return _names(git.ask(root, "ls-tree", "-r", "-z", "--name-only", f"{commit}:{git.prefix(root)}{folder}") or "")


def write_tree(root: Path) -> Tree:
    """Write the tracked and the untracked files of the workspace, as they are, into git's object database.

    Settings of the machine (``local.yaml``) are among them although git ignores them: equal weights need an equal
    number of threads.
    """
    with _own_index() as env:
        if git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD"):
            git.read(root, *_QUIET, "read-tree", "HEAD", env=env)
        git.read(root, *_QUIET, "add", "--update", "--", ".", env=env)
        known = set(_names(git.read(root, "ls-files", "-z", env=env)))
        staged = [name for name in _names(git.read(root, "ls-files", "-z")) if name not in known]
        untracked = _names(git.read(root, "ls-files", "-z", "--others", "--exclude-standard", env=env))
        local = [LOCAL_FILE] if (root / LOCAL_FILE).is_file() and LOCAL_FILE not in known else []
        names = dict.fromkeys([*staged, *untracked, *local])
        files = {name: (root / name).lstat().st_size for name in names if _is_file(root / name)}
        skipped = choose_skipped(files)
        _add(root, [name for name in files if name not in skipped], env)
        return Tree(git.read(root, *_QUIET, "write-tree", env=env).strip(), skipped)


def commit_files(root: Path, ref: str, message: str) -> tuple[str, tuple[str, ...]]:
    """Commit the files of the workspace as they are under a ref of their own, which keeps them.

    Args:
        root: the workspace.
        ref: full name, such as ``refs/keypipe-sweeps/x``.
        message: of the commit.

    Returns:
        The commit, and the untracked files that were too large to be in it.
    """
    tree = write_tree(root)
    parent = git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD")
    parents = ("-p", parent.strip()) if parent else ()
    commit = git.read(root, "commit-tree", tree.name, *parents, "-F", "-", env=_WHO, stdin=message).strip()
    git.read(root, "update-ref", ref, commit)
    return commit, tree.skipped


def choose_skipped(sizes: dict[str, int]) -> tuple[str, ...]:
    """Choose the untracked files that a snapshot leaves out: too large by themselves, or too many, largest first.

    Args:
        sizes: bytes by name.
    """
    rest = sum(sizes.values())
    skipped: list[str] = []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if sizes[name] <= MAX_FILE_BYTES and rest <= MAX_UNTRACKED_BYTES:
            break
        skipped.append(name)
        rest -= sizes[name]
    return tuple(skipped)


def _is_file(path: Path) -> bool:
    """Tell what git can hold: files and links; a repository inside this one is listed as a folder."""
    return path.is_symlink() or path.is_file()


def _overlay(root: Path, begun: str) -> str:
    """Lay what came of the workspace's training over the files that it began with.

    Args:
        root: the workspace, whose ``dvc.lock`` holds the training.
        begun: git's name for these files, a commit or a tree.

    Returns:
        The tree: ``dvc.lock`` as far as it is the training's, and the outputs of its stages that DVC does not cache.
    """
    texts = ((read_file(root, begun, str(LOCK)) or b"").decode("utf-8"), (root / LOCK).read_text(encoding="utf-8"))
    folders = list_folders(root, locked_folders(*texts))
    order = stage_names(root)
    files = Files(lambda path: read_file(root, begun, path), lambda path: list_files(root, begun, path))
    joined = join_locks(*texts, order, STAGE, files, folders)
    outputs = all_outputs(root)
    plain = {stage: [output.path for output in outputs[stage] if not output.cached] for stage in order}
    gone = [path for stage in order[order.index(STAGE) :] if stage not in joined.stages for path in plain[stage]]
    new = [path for stage in order if stage in joined.current for path in plain[stage]]
    lock = git.read(root, "hash-object", "-w", "--stdin", stdin=joined.text).strip()
    with _own_index() as env:
        git.read(root, *_QUIET, "read-tree", begun, env=env)
        options = ("rm", "--cached", "-r", "-q", "-f", "--ignore-unmatch", "--")
        git.read(root, *options, str(LOCK), *gone, *new, env=env)
        _add(root, [name for name in new if (root / name).exists()], env)
        place = f"{git.prefix(root)}{LOCK}"
        git.read(root, *_QUIET, "update-index", "--add", "--cacheinfo", f"100644,{lock},{place}", env=env)
        return git.read(root, *_QUIET, "write-tree", env=env).strip()


def _add(root: Path, names: Sequence[str], env: dict[str, str]) -> None:
    if names:
        options = ("--literal-pathspecs", *_QUIET, "add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul")
        git.read(root, *options, env=env, stdin="\0".join(names))


def _names(text: str) -> list[str]:
    return [name for name in text.split("\0") if name]


@contextmanager
def _own_index() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="keypipe-index-") as folder:
        yield {"GIT_INDEX_FILE": str(Path(folder) / "index")}


def _commit(root: Path, run_id: str, fingerprint: str, tree: Tree, *, complete: bool) -> str:
    """Commit a tree on top of a run's ref, or of the user's commit where the run has none."""
    ref = f"{REFS}/{run_id}"
    before = git.ask(root, "rev-parse", "--verify", "--quiet", ref)
    parent = before or git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD")
    state = "complete" if complete else "begun"
    trailers = [f"Keypipe-Fingerprint: {fingerprint}", f"Keypipe-State: {state}"]
    trailers += [f"Keypipe-Skipped: {name}" for name in tree.skipped]
    message = "\n".join([f"keypipe run {run_id}, {state}", "", *trailers, ""])
    parents = ("-p", parent.strip()) if parent else ()
    commit = git.read(root, "commit-tree", tree.name, *parents, "-F", "-", env=_WHO, stdin=message).strip()
    git.read(root, "update-ref", ref, commit, (before or "").strip() or "0" * len(commit))
    return commit
