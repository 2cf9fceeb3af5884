"""``keypipe accept``: what came of earlier code stays, where only keypipe's own code has changed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from flows.pipeline import lease
from flows.pipeline.last_good import last_good_outputs
from flows.pipeline.plan import plan_stages
from flows.pipeline.stages.process import raise_failure, run_stage_process
from flows.system.process import program_environment
from tasks.versions import git, snapshots
from tasks.versions.raw import check_raw
from tasks.versions.repository import check_repository
from tasks.versions.stages.acceptance import Accepted, list_in_force, take_as_is
from tasks.workspace.program import failure_path

Say = Callable[[str], None]


def accept(root: Path, stages: Sequence[str], say: Say) -> list[Accepted]:
    """Take the outputs of stages as they are; convert and split are run anew instead.

    Args:
        root: the workspace.
        stages: their names; none: all of which only keypipe's own code changed.
        say: gets progress.

    Returns:
        What was taken.

    Raises:
        PoseError: more than keypipe's own code changed, or today's code learns otherwise; nothing was taken then.
    """
    check_repository(root)
    check_raw(root)
    with lease.hold(root, lease.new_lease(), say) as held:
        return _accept(root, stages, held, say)


def _accept(root: Path, stages: Sequence[str], held: lease.Held, say: Say) -> list[Accepted]:
    from tasks.check import check_workspace
    from tasks.commands import accept as command

    with command.params_stay_where_refused(root):
        added = command.add_missing_params(root)
        check_workspace(root)
        found = command.list_differences(root)
        for stage in stages:
            plan_stages(list(found), force=[stage])  # refuses names of no stage
        wanted = [stage for stage in found if stage in stages] if stages else [s for s in found if found[s].code]
        first = [stage for stage in found if stage in command.ALWAYS_RUN]
        command.refuse(found, [*first, *(stage for stage in wanted if stage not in first)])
        taken_on_trust = [stage for stage in wanted if stage not in first and found[stage].code]
        if command.TRAIN in taken_on_trust:
            command.refuse_other_learning(root)
    for line in added:
        say(line)
    if git.is_repository(root):
        snapshots.settle(root)  # what came of the training, while dvc.lock still speaks of the code that trained
    for stage in first:
        if found[stage].code:
            _run(root, stage, held, say)
    found = command.list_differences(root)
    command.refuse(found, taken_on_trust)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    commit = (git.ask(root, "rev-parse", "--verify", "--quiet", "HEAD") or "").strip()
    taken = [take_as_is(root, found[stage], time=now, commit=commit) for stage in taken_on_trust]
    _tag_run(root, list_in_force(root), say)  # also what an accept took that was killed before it told
    return taken


def _run(root: Path, stage: str, held: lease.Held, say: Say) -> None:
    say(f"{stage}: its code changed; run anew, which takes seconds")
    failure_path(root, stage).unlink(missing_ok=True)
    env = program_environment() | {lease.LEASE_VARIABLE: held.lease.id}
    with last_good_outputs(root, stage):
        outcome = run_stage_process(
            root, stage, env, say, started=lambda tree: held.update(session=tree.session, stage=stage)
        )
        raise_failure(root, stage, outcome)
    held.update()


def _tag_run(root: Path, accepted: Sequence[Accepted], say: Say) -> None:
    """Say it in MLflow as well; a server that does not answer changes nothing about what was taken."""
    if not accepted:
        return
    from tasks.tracking.history import try_tag_run
    from tasks.workspace.models import read_record

    tags = {f"keypipe.accepted.{one.stage}": one.after for one in accepted}
    if why := try_tag_run(root, read_record(root).run_id, tags):
        say(f"warning: MLflow was not told ({why}); accepted.yaml has it")
