"""``keypipe reproduce``: a run's code, parameters, data and results, rebuilt beside the workspace and compared.

The run's snapshot becomes a working tree of git with the workspace's DVC cache; its stages run there as programs of
that tree, so that it is the run's code that runs, not today's. MLflow's records of it go into a database of the
tree's own, since the run's fingerprint must go on naming the run itself.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from flows.history.known_runs import Run, find_run, find_snapshot, list_runs
from flows.pipeline.stages.process import raise_failure, run_stage_process
from flows.system.locks import LockedError, held_lock
from flows.system.process import program_environment
from keypipe.errors import ModelError, PoseError
from tasks.tracking.history import read_packages
from tasks.tracking.machine import GPU, machine_type, package_versions
from tasks.versions import snapshots
from tasks.versions.stages import lockfile
from tasks.versions.stages.state import stage_names
from tasks.versions.store import checkout, opened_commit
from tasks.versions.trees import add_tree, remove_tree
from tasks.versions.weights import list_versioned
from tasks.workspace.models import BATCHES
from tasks.workspace.places import LOCAL_FILE, LOCK, RAW_FILE, RECORD, STATE
from tasks.workspace.program import write_json
from tasks.workspace.scratch import remove

TREES = STATE / "reproduce"
RESULTS = STATE / "reproduced"
_KEPT = ("models", "metrics", "exports", "reports", "params.yaml", "dvc.lock")
_PICKED = ("metrics/*.json", "models/*.pt")

Say = Callable[[str], None]


class Line(msgspec.Struct, frozen=True):
    """One thing compared.

    Attributes:
        what: such as ``weights models/best.pt``.
        same: whether it came out as the run has it.
        detail: how it differs.
        decides: whether it must be the same.
    """

    what: str
    same: bool
    detail: str = ""
    decides: bool = True


class Reproduction(msgspec.Struct, frozen=True):
    """What reproducing a run came to.

    Attributes:
        run_id: the MLflow run.
        commit: its snapshot.
        trained: whether it was trained again; otherwise its results came from DVC's cache.
        exact: whether equal weights were asked for, on the machine type and the packages of the run.
        why: what makes it so.
        tolerance: largest difference of a figure, where equal weights were not asked for.
        lines: what was compared.
        results: folder of what came out, relative to the workspace.
    """

    run_id: str
    commit: str
    trained: bool
    exact: bool
    why: str
    tolerance: float
    lines: tuple[Line, ...]
    results: str

    @property
    def same(self) -> bool:
        """Whether all that must be the same is."""
        return all(line.same for line in self.lines if line.decides)


def reproduce(root: Path, name: str, *, check: bool, tolerance: float, say: Say) -> Reproduction:
    """Rebuild a run in a working tree of its own, and compare what comes out with what the run has.

    Args:
        root: the workspace.
        name: of the run, as ``find_run`` takes it.
        check: run every stage again, the training included; otherwise only what DVC's cache does not have.
        tolerance: largest difference of a figure on another machine: absolute up to 1, relative above.
        say: gets progress.

    Raises:
        PoseError: no such run or no snapshot of it, or its data are gone, or a stage fails on its input.
    """
    run = find_run(list_runs(root), name)
    snapshot = find_snapshot(root, run)
    exact, why = needs_equal_weights(run.machine, machine_type(), _other_packages(root, run))
    with _tree(root, run, snapshot.commit, say) as tree:
        _fetch(root, tree, check=check, same_machine=run.machine == machine_type(), say=say)
        trained = False
        recorded = lockfile.parse_lock((tree / LOCK).read_text(encoding="utf-8"))
        batches = _read_batches(root, snapshot.commit)
        for stage in [name for name in stage_names(tree) if name in recorded]:
            did = _run_stage(tree, stage, batches if stage == "train" else "", force=check, say=say)
            trained = trained or (stage == "train" and did == "ran")
        lines = tuple(_compare(root, tree, run, snapshot.commit, exact=exact, tolerance=tolerance))
        place = RESULTS / run.name
        done = Reproduction(run.id, snapshot.commit, trained, exact, why, tolerance, lines, place.as_posix())
        _keep_results(tree, root / place)
        write_json(root / place / "reproduction.json", done)
    return done


def needs_equal_weights(recorded: str, here: str, packages: Sequence[str]) -> tuple[bool, str]:
    """Tell whether equal weights can be asked for.

    Args:
        recorded: type of the machine of the run, "" where it was not recorded.
        here: type of this machine.
        packages: what differs between the packages of then and now.

    Returns:
        The answer, and its reason in words.
    """
    if not recorded:
        return False, "the run did not record its machine"
    if recorded != here:
        return False, f"another machine type: {recorded} then, {here} now"
    if packages:
        return False, f"other packages: {', '.join(packages)}"
    if f"{GPU} " in here:
        return False, "a GPU's kernels need not repeat to the bit"
    return True, f"the machine type and the packages of the run: {here}"


def _other_packages(root: Path, run: Run) -> list[str]:
    """Return the packages that were others when the run was made, such as ``torch 2.13.0 -> 2.14.1``."""
    then, now = read_packages(root, run.id), package_versions()
    return [f"{key} {then[key]} -> {now.get(key, 'none')}" for key in then if then[key] != now.get(key)]


@contextmanager
def _tree(root: Path, run: Run, commit: str, say: Say) -> Iterator[Path]:
    """Yield the workspace's folder in a working tree of the snapshot, which goes with the block."""
    place = root / TREES / run.name
    with ExitStack() as stack:
        try:
            stack.enter_context(held_lock(place.with_suffix(".lock")))
        except LockedError as error:
            raise PoseError(f"run {run.name} is being reproduced by another command just now") from error
        say(f"files of run {run.name} from {commit[:12]}")
        try:
            yield add_tree(root, place, commit)
        finally:
            remove_tree(root, place)


def _fetch(root: Path, tree: Path, *, check: bool, same_machine: bool, say: Say) -> None:
    """Bring the run's data; without a check its results as well, as far as they are still there."""
    if not same_machine:  # threads and devices of another machine are none of this one's
        remove(tree / LOCAL_FILE)
        if (root / LOCAL_FILE).exists():
            shutil.copy2(root / LOCAL_FILE, tree / LOCAL_FILE)
    say("data from DVC's cache")
    missing = checkout(tree, RAW_FILE.as_posix(), *list_versioned(tree))
    if missing:
        raise PoseError(
            f"the run's data are in neither DVC's cache nor its remote: {', '.join(missing)};"
            " `dvc remote add --default` the one that they were pushed to, or prune fewer runs"
        )
    if not check:
        checkout(tree)


def _read_batches(root: Path, commit: str) -> str:
    """Return the sizes that memory had forced on the run's batch, as the variable ``BATCHES`` takes them."""
    with opened_commit(root, commit) as read:
        content = read(RECORD.as_posix())
    batches = msgspec.json.decode(content).get("batches", []) if content else []
    return " ".join(f"{epoch}:{size}" for epoch, size in batches)


def _run_stage(tree: Path, stage: str, batches: str, *, force: bool, say: Say) -> str:
    """Run a stage of the tree; returns what DVC did."""
    tracked = {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "KEYPIPE_LEASE"}
    env = {key: value for key, value in program_environment().items() if key not in tracked}
    env[snapshots.SWITCH] = "off"
    env |= {BATCHES: batches} if batches else {}
    outcome = run_stage_process(tree, stage, env, say, force=force)
    raise_failure(tree, stage, outcome)
    return outcome.did


def _compare(root: Path, tree: Path, run: Run, commit: str, *, exact: bool, tolerance: float) -> Iterator[Line]:
    lock = (tree / LOCK).read_text(encoding="utf-8")
    same = lockfile.locked_fingerprint(lock, "train") == run.fingerprint
    yield Line("what the training depends on", same, "" if same else "its fingerprint is another one")
    recorded = snapshots.read_file(root, commit, str(LOCK)) or b""
    before, after = (lockfile.locked_outputs(text) for text in (recorded.decode(), lock))
    for output, md5 in before.items():
        if output.startswith("data/"):
            yield Line(f"data {output}", md5 == after.get(output))
    with opened_commit(root, commit) as read:
        picked: list[Path] = sorted(file for pattern in _PICKED for file in tree.glob(pattern))
        for path in picked:
            name = path.relative_to(tree).as_posix()
            content = read(name)
            if content is None:
                yield Line(name, same=False, detail="the run's own is no longer in DVC's cache", decides=False)
            elif path.suffix == ".pt":
                yield _compare_weights(root, name, content, path, decides=exact)
            else:
                yield from compare_figures(name, content, path.read_bytes(), 0.0 if exact else tolerance)


def _compare_weights(root: Path, name: str, recorded: bytes, path: Path, *, decides: bool) -> Line:
    what = f"weights {name}"
    if recorded == path.read_bytes():
        return Line(what, same=True, decides=decides)
    from tasks.engine.door.inference import engine

    engine().configure(root)
    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        before = Path(folder) / path.name
        before.write_bytes(recorded)
        try:
            hashes = engine().hash_weights(before), engine().hash_weights(path)
        except ModelError as error:
            return Line(what, same=False, detail=f"the files differ, and {error}", decides=decides)
    same = hashes[0] == hashes[1]
    return Line(what, same, "" if same else f"state dicts {hashes[0][:12]} and {hashes[1][:12]}", decides)


def compare_figures(name: str, recorded: bytes, found: bytes, tolerance: float) -> Iterator[Line]:
    """Compare two metrics files figure by figure.

    Args:
        name: of the file.
        recorded: JSON of the run.
        found: JSON of now.
        tolerance: largest difference, absolute up to 1 and relative above.

    Yields:
        One line, with the figure that differs most where one differs by more.
    """
    before, after = (_without_sizes(flatten_figures(json.loads(text))) for text in (recorded, found))
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())
        yield Line(f"figures {name}", same=False, detail=f"only one of the two has {', '.join(odd[:3])}")
        return
    off = {key: _difference(before[key], after[key]) for key in before}
    worst = max(off, key=lambda key: off[key], default="")
    largest = off.get(worst, 0.0)
    detail = f"{worst} {before[worst]:g}, now {after[worst]:g}" if largest else ""
    yield Line(f"figures {name}", largest <= tolerance, detail)


def _without_sizes(figures: Mapping[str, float]) -> dict[str, float]:
    """Leave the sizes of files out: another version of an exporter writes a file of another size."""
    return {key: value for key, value in figures.items() if not key.endswith("size_mb")}


def _difference(before: float, after: float) -> float:
    if math.isnan(before) or math.isnan(after):
        return 0.0 if math.isnan(before) and math.isnan(after) else math.inf
    return abs(before - after) / max(1.0, abs(before))


def flatten_figures(values: Any, prefix: str = "") -> dict[str, float]:
    """Return every number of a JSON document by its path, such as ``val/coco/oks_AP``."""
    if isinstance(values, bool) or values is None or isinstance(values, str):
        return {}
    if isinstance(values, int | float):
        return {prefix: float(values)}
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    found: dict[str, float] = {}
    for key, value in pairs:
        found |= flatten_figures(value, f"{prefix}/{key}" if prefix else str(key))
    return found


def _keep_results(tree: Path, place: Path) -> None:
    remove(place)
    place.mkdir(parents=True)
    for name in _KEPT:
        with contextlib.suppress(FileNotFoundError):
            shutil.move(tree / name, place / name)


def show(done: Reproduction, say: Say) -> None:
    """Print what reproducing a run came to."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("compared", "", "detail")
    for line in done.lines:
        mark = "[green]same[/]" if line.same else "[red]differs[/]" if line.decides else "[yellow]differs[/]"
        table.add_row(escape(line.what), mark, escape(line.detail))
    Console(highlight=False).print(table)
    say("trained again" if done.trained else "results from DVC's cache; `--check` trains again")
    asked = "equal weights and figures" if done.exact else f"figures within {done.tolerance:g}"
    say(f"asked for: {asked} ({done.why})")
    say(f"results: {done.results}")
    say(f"run {done.run_id[:8]} {'is reproduced' if done.same else 'is NOT reproduced'}")
