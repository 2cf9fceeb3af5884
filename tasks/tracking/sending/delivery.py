"""Sends to MLflow what the outbox holds, and makes runs that a server does not know."""

from __future__ import annotations

import itertools
import posixpath
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import msgspec

from keypipe.addresses import hide_password
from keypipe.errors import PoseError
from tasks.tracking import outbox
from tasks.tracking.client import (
    AwayError,
    answering,
    experiment_id,
    experiment_name,
    first_line,
    is_refusal,
    limited,
    open_client,
    server_name,
    tracking_uri,
)
from tasks.tracking.figures import log_figures
from tasks.tracking.logged_model import log_onnx_model
from tasks.tracking.machine import package_versions
from tasks.tracking.note import describe
from tasks.tracking.outbox import Box, RunInfo
from tasks.tracking.tags import BOX, DATA, FINGERPRINT, PARENT, REASON, RESTORED, STAGE
from tasks.workspace.models import TrainingRecord, read_record
from tasks.workspace.places import MODELS, OUTBOX
from tasks.workspace.program import say, write_json

PACKAGES_FILE = "packages.json"

QUICK_SECONDS = 5
"""For an answer where something waits."""

_PATIENT_SECONDS = 15
_MAX_KEY = 250
_MAX_VALUE = 5900
_MAX_TAG = 4900


def deliver_all(root: Path, tell: Callable[[str], None] = say) -> None:
    """Send what earlier commands could not, and end the runs whose process is gone.

    Args:
        root: the workspace.
        tell: gets a line where something was sent, or cannot be.
    """
    outbox.end_abandoned(root)
    server = server_name(root)
    sent: set[str] = set()
    for box in outbox.list_boxes(root):
        if box.run.server != server:
            continue
        with box.held() as free:
            if not free:
                continue
            try:
                send(root, box, patient=True)
            except Exception as error:  # noqa: BLE001 - it waits on
                tell(f"MLflow could not be told of {box.run.name}: {first_line(error)}")
                if isinstance(error, AwayError):
                    return
                continue
            sent.add(box.subject)
            box.close()
    if sent:
        runs = "run" if len(sent) == 1 else "runs"
        tell(f"MLflow at {server} was told of {len(sent)} {runs} that it had not been told all of")


def take_over(root: Path, going: Path) -> None:
    """Take over what a workspace that is about to go has not told yet, so that commands in this one tell it.

    Args:
        root: the workspace that stays.
        going: the other one, whose runs were recorded where those of ``root`` are.
    """
    outbox.end_abandoned(going)
    here = hide_password(tracking_uri(root))
    for box in outbox.list_boxes(going):
        with box.held() as free:
            if not free:
                continue
            if box.run.server == here:  # in the other one the address of this one's own database had to be named
                box.run.server = server_name(root)
                box.save()
            (root / OUTBOX).mkdir(parents=True, exist_ok=True)
            box.path.rename(root / OUTBOX / box.name)


def reach(root: Path, *, quick: bool) -> None:
    """Ask the server something small, so that one that never answers costs seconds and not minutes.

    It is asked twice: a connection from before may have been closed by the server.

    Args:
        root: the workspace.
        quick: the server did not answer before.

    Raises:
        PoseError: the server does not answer, or its address or the experiment is wrong.
    """
    with answering(root), limited(QUICK_SECONDS if quick else _PATIENT_SECONDS, 1):
        experiment_id(open_client(root), root)


def send(root: Path, box: Box, *, patient: bool = True) -> None:
    """Send what a box holds, in its order.

    Files that the server cannot store just now are left, and what comes after them is sent; what the server will never
    take, such as figures of a run that was deleted there, is told and dropped.

    Raises:
        PoseError: the server does not answer.
        Exception: what the store of its artifacts raised.
    """
    with answering(root):
        _send(root, box, patient=patient)


def _send(root: Path, box: Box, *, patient: bool) -> None:
    failed: Exception | None = None
    with _limits(patient=patient):
        client = open_client(root)
        _send_older(root, box)
        if not box.run.run_id:
            _identify(root, client, box)
    for path, item in box.items():
        stored = isinstance(item, outbox.Files | outbox.OnnxModel)
        try:
            with nullcontext() if stored and patient else _limits(patient=patient):  # files take what they take
                _perform(client, box.run.run_id, item, path.with_suffix(".files"))
        except Exception as error:
            if is_refusal(error):
                say(f"warning: MLflow refuses to record {_describe(item)} of {box.run.name}: {first_line(error)}")
            elif stored and failed is None:
                failed = error
                continue
            else:
                raise
        box.told(path)
    if failed is not None:
        raise failed


def _limits(*, patient: bool) -> AbstractContextManager[None]:
    return limited(_PATIENT_SECONDS) if patient else limited(QUICK_SECONDS, 0)


def _send_older(root: Path, box: Box) -> None:
    """Send first what the same training has told earlier, and nobody has sent yet."""
    for other in outbox.list_boxes(root):
        same = (other.run.server, other.run.fingerprint) == (box.run.server, box.run.fingerprint)
        if same and other.name < box.name:
            with other.held() as free:
                if free:
                    send(root, other)
                    other.close()


def _describe(item: outbox.Item) -> str:
    return {outbox.Status: "the end", outbox.Data: "the data"}.get(type(item), type(item).__name__.lower())


def _identify(root: Path, client: Any, box: Box) -> None:
    """Find the run of a box, or have the server make it."""
    run = box.run
    experiment = experiment_id(client, root, run.experiment)
    if run.guest:
        run.run_id = find_training(root, client, experiment, run.fingerprint)
    else:
        begun_as = run.begun_as or box.name
        found = _find(client, experiment, f"tags.`{BOX}` = '{begun_as}'") if run.asked or run.begun_as else None
        tags = {**run.tags, BOX: begun_as}
        if run.stage and found is None:
            tags |= {PARENT: find_training(root, client, experiment, run.fingerprint), STAGE: run.stage}
        run.asked = True
        box.save()
        made = {"run_name": run.name, "start_time": run.begun, "tags": tags}
        run.run_id = found or client.create_run(experiment, **made).info.run_id
    box.save()


def find_training(root: Path, client: Any, experiment: str, fingerprint: str) -> str:
    """Return the id of the newest finished run of a training; where there is none it is written, marked as restored.

    Raises:
        PoseError: the server does not know the training, and it is not the workspace's.
    """
    ended = f"tags.`{FINGERPRINT}` = '{fingerprint}' and attributes.status = 'FINISHED'"
    return _find(client, experiment, ended) or _restore(root, fingerprint)


def _find(client: Any, experiment: str, which: str) -> str | None:
    found = client.search_runs(
        [experiment], filter_string=which, order_by=["attributes.start_time DESC"], max_results=1
    )
    return str(found[0].info.run_id) if found else None


def _restore(root: Path, fingerprint: str) -> str:
    record = read_record(root).record
    if record.fingerprint != fingerprint:
        raise PoseError(f"MLflow does not know training {fingerprint[:8]}, and it is no longer the workspace's")
    box = open_training(root, record)
    box.add(outbox.Tags({RESTORED: "true"}))
    for number, figures in enumerate(record.epochs, start=1):
        box.add(outbox.Metrics(dict(figures), number, outbox.now()))
    box.add(outbox.Files(MODELS.name), root / MODELS)
    box.add(outbox.Status("FINISHED", "", outbox.now()))
    box.add(outbox.Note())
    try:
        send(root, box)
    finally:
        box.close()
    say(f"MLflow at {server_name(root)} did not know this training: restored as run {box.run.run_id}")
    return box.run.run_id


def open_training(root: Path, record: TrainingRecord, tags: dict[str, str] | None = None) -> Box:
    """Make the box of a new training, with what it is made of; the server is told nothing yet."""
    data = {DATA: record.raw_version} if record.raw_version else {}
    all_tags = {**record.tags, FINGERPRINT: record.fingerprint, **data, **(tags or {})}
    name = f"train {record.fingerprint[:8]}"
    run = RunInfo(server_name(root), experiment_name(), record.fingerprint, name, tags=all_tags)
    box = outbox.open_box(root, run)
    box.add(outbox.Params({key: value[:_MAX_VALUE] for key, value in name_params(record.params).items()}))
    box.add(outbox.Data(record.raw_version, record.counts))
    packages = box.path / PACKAGES_FILE
    write_json(packages, package_versions())
    box.add(outbox.Files(None), packages)
    packages.unlink()
    box.add(outbox.Note())
    return box


def name_params(params: Mapping[str, str]) -> dict[str, str]:
    """Return parameters under names that MLflow takes: it refuses all for one; names of a schema may be any text."""
    named: dict[str, str] = {}
    for key, value in params.items():
        # mlflow.utils.validation: these characters alone, and no name that a path would be written shorter as
        taken = re.sub(r"[^\w.\- /]", "_", key)[:_MAX_KEY]
        if posixpath.normpath(taken) != taken or taken == "." or taken.startswith(("/", "..")):
            taken = f"_{taken.replace('/', '_')}"[:_MAX_KEY]
        tries = itertools.chain([taken], (f"{taken[: _MAX_KEY - 8]} {number}" for number in itertools.count(2)))
        named[next(one for one in tries if one not in named)] = value
    return named


def _perform(client: Any, run_id: str, item: outbox.Item, files: Path) -> None:
    """Send one thing."""
    match item:
        case outbox.Params() | outbox.Metrics():
            _log_batches(client, run_id, item)
        case outbox.Tags():
            for key, value in item.tags.items():
                client.set_tag(run_id, key, value)
        case outbox.Data():
            _log_data(client, run_id, item)
        case outbox.Files():
            client.log_artifacts(run_id, str(files), item.to)
        case outbox.OnnxModel():
            log_onnx_model(client, run_id, item, next(files.iterdir()))
        case outbox.Note():
            describe(client, run_id)
        case outbox.Status(status="RUNNING"):
            client.update_run(run_id, status="RUNNING")
        case outbox.Status():
            if item.reason:
                client.set_tag(run_id, REASON, item.reason[:_MAX_TAG])
            client.set_terminated(run_id, item.status, item.time)


def _log_batches(client: Any, run_id: str, item: outbox.Params | outbox.Metrics) -> None:
    from mlflow.entities import Param

    if isinstance(item, outbox.Params):
        params = [Param(key, value) for key, value in item.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
    else:
        log_figures(client, run_id, item)


def _log_data(client: Any, run_id: str, data: outbox.Data) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name="data/raw",
        digest=data.raw_version[:36] or "unversioned",
        source_type="local",
        source=msgspec.json.encode({"uri": "data/raw.dvc", "dvc_md5": data.raw_version}).decode(),
        profile=msgspec.json.encode(data.counts).decode(),
    )
    client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
