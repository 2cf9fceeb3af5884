"""Which trainings stay: one decision over MLflow's runs, snapshots, registered versions and DVC's cache.

What a run needs is spread over three places: its record and artifacts in MLflow, code and parameters in a commit under
``refs/keypipe``, data and models in DVC's cache. Removed in any one of them, it cannot be reproduced; so what goes is
decided once, and what stays is worked out from the commits of all that stays. ``keypipe gc`` carries it out
(cleaning.py); ``keypipe keep`` names what stays whatever the policy says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from flows.history.known_runs import Child, Run, find_run, list_runs
from flows.sweeping.kept import needed_trials, sweep_commits
from flows.system.state_files import read_record, write_record
from flows.system.tables import print_table
from keypipe.errors import PoseError
from tasks.registry.retention import delete_versions, find_needed
from tasks.registry.settings import RetentionParams, read_retention
from tasks.tracking import runs as tracking
from tasks.tracking.client import is_own
from tasks.tracking.history import artifact_bytes, registered_models, remove_run, tag_run
from tasks.versions import git, snapshots
from tasks.versions.stages import lockfile
from tasks.versions.store import Unused, unused_objects
from tasks.workspace.places import LOCK, STATE

DAY_SECONDS = 86400.0
ELSEWHERE = "made elsewhere"
_GOING = STATE / "going.json"
"""Ids of the trainings that a pruning had begun to remove from a server that is shared."""

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
        without_snapshot: finished trainings that stay and have no snapshot here: of their data, the raw version alone
            is known to be needed.
    """

    verdicts: tuple[Verdict, ...]
    artifact_bytes: Mapping[str, int]
    cache: Unused
    strangers: tuple[str, ...] = ()
    unpurged: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    without_snapshot: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of everything."""
        return sum(self.artifact_bytes.values()) + self.cache.size_bytes


def decide(
    runs: Sequence[Run],
    keep: int,
    registered: Mapping[str, Sequence[str]],
    needed: Mapping[str, Sequence[str]],
    versions: Mapping[str, str] | None = None,
    young_since: float = float("inf"),
    elsewhere: Collection[str] = (),
) -> list[Verdict]:
    """Decide which trainings stay.

    Args:
        runs: all of them, newest first.
        keep: number of the newest finished ones that stay, trials of sweeps not counted; what was begun since the
            oldest of them stays as well.
        registered: registered models by run id.
        needed: what needs a training, such as ``branch main``, by its fingerprint; it needs one of those that share it.
        versions: of the workspace's registered model, by the names in ``registered``: why each is needed, "" where it
            is not and goes with its training. Versions of other models are always needed.
        young_since: what began later stays, seconds since the epoch.
        elsewhere: ids of the runs that other workspaces may have made: they stay as they are, and do not count as any
            of the newest.

    Returns:
        A verdict for each, in the same order.
    """
    finished = [run for run in runs if run.status == "FINISHED"]
    own = [run for run in finished if run.id not in elsewhere]
    last = [run for run in own if not run.trial][:keep]
    oldest = min((run.started for run in last), default=float("inf"))
    # Equal fingerprints stand for equal results: the newest that finished serves whoever needs them; one of another
    # workspace does only if there is no other.
    serving = {run.fingerprint: run.id for run in [*reversed(runs), *reversed(finished), *reversed(own)]}
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
        elif run.id in elsewhere:
            reasons.append(ELSEWHERE)
        elif run.started > oldest:
            reasons.append("begun since")
        elif run.started > young_since:
            reasons.append("begun lately")
        gone = _superseded(run.children, registered) if reasons and run.id not in elsewhere else ()
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


def find_elsewhere(root: Path, runs: Sequence[Run]) -> set[str]:
    """Return the ids of the trainings that other workspaces may have made, on a server that they may share.

    There a snapshot tells that a training is this workspace's: git does not take it along into a clone.
    """
    if is_own(root):
        return set()
    begun = read_record(root / _GOING, list[str]) or []
    return {run.id for run in runs if run.snapshot is None and run.id not in begun}


def needed_fingerprints(root: Path, runs: Sequence[Run] = ()) -> dict[str, list[str]]:
    """Return what needs a training: the workspace as it is, the tips of branches, tags and working trees, and sweeps.

    Args:
        root: the workspace.
        runs: all trainings.

    Returns:
        Names such as ``workspace``, ``branch main`` and ``tag v1`` by the fingerprint of the training.
    """
    found = needed_trials(root, {run.id: run.fingerprint for run in runs})

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


def check(root: Path) -> None:
    """Refuse to decide where nothing tells what a training needs.

    Raises:
        PoseError: outside git.
    """
    if not git.is_repository(root):
        raise PoseError("needs git: without snapshots nothing tells what a training needs of DVC's cache")


def prune(root: Path, policy: RetentionParams, *, remove: bool, say: Say) -> Pruned:
    """Find the trainings that nothing needs, with all that they alone need, and remove them.

    The order makes a pruning that was broken off one that the next makes good: snapshots first, since without one a
    run in MLflow is found again, then the runs, then whatever DVC's cache has too much.

    Args:
        root: the workspace; whoever removes holds its lease.
        policy: what stays.
        remove: remove them; otherwise only find them.
        say: gets progress.

    Raises:
        PoseError: outside git; or a branch or a snapshot cannot be read.
    """
    check(root)
    snapshots.settle(root)
    runs = list_runs(root)
    keep, rollbacks = policy.trainings, policy.rollbacks
    registered, versions = registered_models(root), find_needed(root, keep, rollbacks)
    young_since = time.time() - policy.days * DAY_SECONDS
    elsewhere = find_elsewhere(root, runs)
    verdicts = decide(runs, keep, registered, needed_fingerprints(root, runs), versions, young_since, elsewhere)
    going = [verdict.run for verdict in verdicts if not verdict.stays]
    children = [child for run in going for child in run.children]
    children += [child for verdict in verdicts for child in verdict.superseded]
    ids = [*(child.id for child in children), *(run.id for run in going)]
    sizes = {run_id: artifact_bytes(root, run_id) for run_id in ids}

    known = {run.id for run in runs}
    kept = snapshots.list_snapshots(root)
    strangers = tuple(snapshot.run_id for snapshot in kept if snapshot.run_id not in known)
    gone = {run.id for run in going}
    commits = [snapshot.commit for snapshot in kept if snapshot.run_id not in gone]
    commits += [*worktree_commits(root), *sweep_commits(root)]
    bare = [run for run in runs if run.id not in gone and run.status == "FINISHED" and not _has_snapshot(run)]
    folders = [run.data for run in bare if run.data]
    # What stays is read before anything goes: a commit that DVC cannot read stops the pruning.
    unused = unused_objects(root, commits, folders, remove=False)
    unpurged: list[str] = []
    without = tuple(name.rpartition(" v")[2] for run_id in ids for name in registered.get(run_id, ()))
    if remove:
        delete_versions(root, without, keep, rollbacks)
        if going and not is_own(root):  # without their snapshots a next pruning would not know them as its own
            write_record(root / _GOING, sorted(gone))
        for run in going:
            if run.snapshot is not None:
                snapshots.drop(root, run.id)
        for run_id in ids:
            say(f"removing MLflow run {run_id[:8]}")
            if not remove_run(root, run_id):
                unpurged.append(run_id)
        (root / _GOING).unlink(missing_ok=True)
        unused = unused_objects(root, commits, folders, remove=True)
    names = tuple(run.name for run in bare)
    return Pruned(tuple(verdicts), sizes, unused, strangers, tuple(unpurged), without, names)


def _has_snapshot(run: Run) -> bool:
    return run.snapshot is not None and run.snapshot.complete


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


def show_verdicts(pruned: Pruned) -> None:
    """Print what becomes of each training; nothing where there is none."""
    if pruned.verdicts:
        show_runs(pruned.verdicts, pruned.artifact_bytes)


def describe_pruned(pruned: Pruned, *, removed: bool) -> Iterator[str]:
    """Yield what a pruning removed, or would remove, a line each."""
    going = sum(not verdict.stays for verdict in pruned.verdicts)
    children = len(pruned.artifact_bytes) - going
    artifacts = sum(pruned.artifact_bytes.values())
    did = "removed" if removed else "would remove"
    yield f"{did} {going} trainings and {children} of their child runs from MLflow, {format_bytes(artifacts)}"
    if pruned.versions:
        yield f"{did} the registered versions {', '.join(f'v{number}' for number in pruned.versions)}"
    if pruned.cache.shared_cache:
        yield (
            f"DVC's cache is left alone: {pruned.cache.shared_cache} lies outside this workspace and may serve others;"
            " `dvc gc --workspace --projects …` cleans it up"
        )
    else:
        yield f"{did} {pruned.cache.objects} files from DVC's cache, {format_bytes(pruned.cache.size_bytes)}"
    if pruned.without_snapshot:
        yield (
            f"{len(pruned.without_snapshot)} trainings that stay have no snapshot here; of what they need the raw data"
            f" alone are known, and stay: {', '.join(pruned.without_snapshot)}"
        )
    if pruned.strangers:
        yield (
            f"{len(pruned.strangers)} snapshots stay that this MLflow server has no run for, with their data:"
            f" {', '.join(run_id[:8] for run_id in pruned.strangers)}"
            f" (git update-ref -d {snapshots.REFS}/ID drops one)"
        )
    if pruned.unpurged:
        yield (
            f"the MLflow server marked {len(pruned.unpurged)} runs as deleted; `mlflow gc` there removes their records"
        )


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
    needed = find_needed(root, len(runs), read_retention(root).rollbacks)
    registered, elsewhere = registered_models(root), find_elsewhere(root, runs)
    return list(decide(runs, 0, registered, needed_fingerprints(root, runs), needed, elsewhere=elsewhere))
