"""``keypipe keep`` and ``keypipe prune``: one decision over MLflow's runs, snapshots, and DVC's cache.

What a run needs is spread over three places: its record and artifacts in MLflow, code and parameters in a commit under
``refs/keypipe``, data and models in DVC's cache. Removed in any one of them, it cannot be reproduced; so what goes is
decided once, and what stays is worked out from the commits of all that stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from flows.history.known_runs import Child, Run, find_run, list_runs
from flows.pipeline import lease
from flows.system.tables import print_table
from keypipe.errors import ConfigError, PoseError
from tasks.registry.retention import delete_versions, find_needed
from tasks.tracking import runs as tracking
from tasks.tracking.history import artifact_bytes, registered_models, remove_run, tag_run
from tasks.versions import git, snapshots
from tasks.versions.stages import lockfile
from tasks.versions.store import Unused, unused_objects
from tasks.workspace.places import LOCK

Say = Callable[[str], None]


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a training.

    Attributes:
        run: the training.
        reasons: why it stays; none: it goes.
        superseded: its children that go although it stays: measured or exported again since.
    """

    run: Run
    reasons: tuple[str, ...]
    superseded: tuple[Child, ...] = ()

    @property
    def stays(self) -> bool:
        """Whether it is kept."""
        return bool(self.reasons)


class Pruned(msgspec.Struct, frozen=True):
    """What a pruning removed, or would remove.

    Attributes:
        verdicts: of every training, newest first.
        artifact_bytes: size of what goes from MLflow, by run id.
        cache: what goes from DVC's cache.
        strangers: snapshots of runs that this MLflow server does not know; they stay.
        unpurged: runs whose record the server only marked as deleted.
        versions: numbers of the registered versions that go with their trainings.
    """

    verdicts: tuple[Verdict, ...]
    artifact_bytes: Mapping[str, int]
    cache: Unused
    strangers: tuple[str, ...] = ()
    unpurged: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


def decide(
    runs: Sequence[Run],
    keep: int,
    registered: Mapping[str, Sequence[str]],
    needed: Mapping[str, Sequence[str]],
    versions: Mapping[str, str] | None = None,
) -> list[Verdict]:
    """Decide which trainings stay.

    Args:
        runs: all of them, newest first.
        keep: number of the newest finished ones that stay; what was begun since the oldest of them stays as well.
        registered: registered models by run id.
        needed: what needs a training, such as ``branch main``, by its fingerprint; it needs one of those that share it.
        versions: of the workspace's registered model, by the names in ``registered``: why each is needed, "" where it
            is not and goes with its training. Versions of other models are always needed.

    Returns:
        A verdict for each, in the same order.
    """
    finished = [run for run in runs if run.status == "FINISHED"]
    last = finished[:keep]
    oldest = min((run.started for run in last), default=float("inf"))
    # Equal fingerprints stand for equal results: the newest that finished serves whoever needs them.
    serving = {run.fingerprint: run.id for run in [*reversed(runs), *reversed(finished)]}
    verdicts: list[Verdict] = []
    for run in runs:
        reasons: list[str] = []
        if run.kept:
            reasons.append("kept")
        if run.status == "RUNNING":
            reasons.append("running")
        for id_ in (run.id, *(child.id for child in run.children)):
            for name in registered.get(id_, ()):
                why = (versions or {}).get(name)
                reasons += [f"registered as {name}{f' ({why})' if why else ''}"] if why != "" else []
        if serving[run.fingerprint] == run.id:
            reasons += needed.get(run.fingerprint, ())
        if run in last:
            reasons.append(f"one of the last {keep}" if keep > 1 else "the last one")
        elif run.started > oldest:
            reasons.append("begun since")
        gone = _superseded(run.children, registered) if reasons else ()
        verdicts.append(Verdict(run, tuple(dict.fromkeys(reasons)), gone))
    return verdicts


def _superseded(children: Sequence[Child], registered: Mapping[str, Sequence[str]]) -> tuple[Child, ...]:
    """Return the children that began before the newest finished one of their stage."""
    newest: dict[str, float] = {}
    for child in children:
        if child.status == "FINISHED":
            newest[child.stage] = max(child.started, newest.get(child.stage, 0.0))
    return tuple(
        child
        for child in children
        if child.started < newest.get(child.stage, 0.0) and child.status != "RUNNING" and child.id not in registered
    )


def needed_fingerprints(root: Path) -> dict[str, list[str]]:
    """Return what needs a training: the workspace as it is, and the tips of branches, tags and working trees.

    Returns:
        Names such as ``workspace``, ``branch main`` and ``tag v1`` by the fingerprint in their ``dvc.lock``.
    """
    found: dict[str, list[str]] = {}

    def add(lock: str | None, name: str) -> None:
        fingerprint = lockfile.locked_fingerprint(lock, "train") if lock else None
        if fingerprint:
            found.setdefault(fingerprint, []).append(name)

    path = root / LOCK
    add(path.read_text(encoding="utf-8") if path.exists() else None, "workspace")
    layout = "--format=%(refname)%00%(objectname)"
    for line in (git.ask(root, "for-each-ref", layout, "refs/heads", "refs/tags") or "").splitlines():
        ref, commit = line.split("\0")
        kind, _, name = ref.removeprefix("refs/").partition("/")
        add(_lock_of(root, commit), f"{'branch' if kind == 'heads' else 'tag'} {name}")
    for commit in worktree_commits(root):
        add(_lock_of(root, commit), "a working tree")
    return found


def _lock_of(root: Path, commit: str) -> str | None:
    content = snapshots.read_file(root, commit, str(LOCK))
    return content.decode("utf-8", "replace") if content else None


def worktree_commits(root: Path) -> list[str]:
    """Return the commits that the repository's working trees stand on, those of reproductions under way included."""
    lines = (git.ask(root, "worktree", "list", "--porcelain") or "").splitlines()
    commits = [line.removeprefix("HEAD ") for line in lines if line.startswith("HEAD ")]
    return [commit for commit in commits if commit.strip("0")]  # zeros: a branch without a commit


def keep(root: Path, names: Sequence[str], *, undo: bool = False) -> list[Run]:
    """Mark trainings as kept, so that no pruning removes them.

    Args:
        root: the workspace.
        names: as ``find_run`` takes them.
        undo: take the mark away instead.

    Returns:
        The trainings, in the order of the names.
    """
    runs = list_runs(root)
    chosen = [find_run(runs, name) for name in names]
    for run in chosen:
        tag_run(root, run.id, {tracking.KEPT: None if undo else "true"})
    return chosen


def prune(root: Path, keep: int, *, dry_run: bool, say: Say) -> Pruned:
    """Remove the trainings that nothing needs, with all that they alone need.

    The order makes a pruning that was broken off one that the next makes good: snapshots first, since without one a
    run in MLflow is found again, then the runs, then whatever DVC's cache has too much.

    Args:
        root: the workspace.
        keep: number of the newest finished trainings that stay.
        dry_run: only tell.
        say: gets progress and warnings.

    Raises:
        PoseError: outside git, where nothing tells what a run needs; or a branch or a snapshot cannot be read.
    """
    if keep < 1:
        raise ConfigError("--keep: at least 1, since the workspace's own training is one of them")
    if not git.is_repository(root):
        raise PoseError("prune needs git: without snapshots nothing tells what a run needs of DVC's cache")
    if dry_run:
        return _prune(root, keep, dry_run=True, say=say)
    with lease.hold(root, lease.new_lease(flow_run_name="keypipe prune"), say):
        return _prune(root, keep, dry_run=False, say=say)


def _prune(root: Path, keep: int, *, dry_run: bool, say: Say) -> Pruned:
    snapshots.settle(root)
    runs = list_runs(root)
    registered, versions = registered_models(root), find_needed(root, keep)
    verdicts = decide(runs, keep, registered, needed_fingerprints(root), versions)
    going = [verdict.run for verdict in verdicts if not verdict.stays]
    children = [child for run in going for child in run.children]
    children += [child for verdict in verdicts for child in verdict.superseded]
    ids = [*(child.id for child in children), *(run.id for run in going)]
    sizes = {run_id: artifact_bytes(root, run_id) for run_id in ids}

    known = {run.id for run in runs}
    kept = snapshots.list_snapshots(root)
    strangers = tuple(snapshot.run_id for snapshot in kept if snapshot.run_id not in known)
    gone = {run.id for run in going}
    commits = [snapshot.commit for snapshot in kept if snapshot.run_id not in gone] + worktree_commits(root)
    # What stays is read before anything goes: a commit that DVC cannot read stops the pruning.
    unused = unused_objects(root, commits, remove=False)
    unpurged: list[str] = []
    without = tuple(name.rpartition(" v")[2] for run_id in ids for name in registered.get(run_id, ()))
    if not dry_run:
        delete_versions(root, without, keep)
        for run in going:
            if run.snapshot is not None:
                snapshots.drop(root, run.id)
        for run_id in ids:
            say(f"removing MLflow run {run_id[:8]}")
            if not remove_run(root, run_id):
                unpurged.append(run_id)
        unused = unused_objects(root, commits, remove=True)
    return Pruned(tuple(verdicts), sizes, unused, strangers, tuple(unpurged), without)


def show_runs(verdicts: Sequence[Verdict], sizes: Mapping[str, int] | None = None) -> None:
    """Print trainings and why they stay."""
    from rich.console import Console
    from rich.markup import escape

    rows: list[list[str]] = []
    for verdict in verdicts:
        run = verdict.run
        size = (sizes or {}).get(run.id, 0) + sum((sizes or {}).get(child.id, 0) for child in run.children)
        why = ", ".join(verdict.reasons)
        why += f"; {len(verdict.superseded)} old child runs go" if verdict.superseded else ""
        goes = f"[red]goes[/], {format_bytes(size)} in MLflow" if sizes is not None else "[yellow]nothing[/]"
        snapshot = run.snapshot.commit[:8] if run.snapshot else "none"
        reasons = escape(why) if why else goes
        rows.append([run.name, run.when, run.status.lower(), escape(run.headline), snapshot, reasons])
    headings = ("run", "began", "state", "headline", "snapshot", "stays because")
    print_table(Console(highlight=False), headings, rows)


def show_pruned(pruned: Pruned, *, dry_run: bool, say: Say) -> None:
    """Print what a pruning removed, or would remove."""
    if pruned.verdicts:
        show_runs(pruned.verdicts, pruned.artifact_bytes)
    going = sum(not verdict.stays for verdict in pruned.verdicts)
    children = len(pruned.artifact_bytes) - going
    artifacts = sum(pruned.artifact_bytes.values())
    did = "would remove" if dry_run else "removed"
    say(f"{did} {going} trainings and {children} of their child runs from MLflow, {format_bytes(artifacts)}")
    if pruned.versions:
        say(f"{did} the registered versions {', '.join(f'v{number}' for number in pruned.versions)}")
    if pruned.cache.shared_cache:
        say(
            f"DVC's cache is left alone: {pruned.cache.shared_cache} lies outside this workspace and may serve others;"
            " `dvc gc --workspace --projects …` cleans it up"
        )
    else:
        say(f"{did} {pruned.cache.objects} files from DVC's cache, {format_bytes(pruned.cache.size_bytes)}")
    if pruned.strangers:
        say(
            f"{len(pruned.strangers)} snapshots stay that this MLflow server has no run for, with their data:"
            f" {', '.join(run_id[:8] for run_id in pruned.strangers)}"
            f" (git update-ref -d {snapshots.REFS}/ID drops one)"
        )
    if pruned.unpurged:
        say(f"the MLflow server marked {len(pruned.unpurged)} runs as deleted; `mlflow gc` there removes their records")


def format_bytes(count: int) -> str:
    """Return a size such as ``3.1 MB``."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def list_kept(root: Path) -> list[Verdict]:
    """Return every training and why it stays, whatever a pruning is asked to keep; newest first."""
    snapshots.settle(root)
    runs = list_runs(root)
    return list(decide(runs, 0, registered_models(root), needed_fingerprints(root), find_needed(root, len(runs))))
