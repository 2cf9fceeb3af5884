"""Which training the workspace's own MLflow database is known to know, without asking MLflow, which takes seconds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from flows.system.state_files import read_record, write_record
from tasks.tracking.client import tracking_uri
from tasks.workspace.places import DATABASE, STATE

RECORDED = STATE / "recorded.json"


class Recorded(msgspec.Struct):
    """A training that the tracking server is known to know.

    Attributes:
        uri: of the server.
        database: inode of its file, 0 for a server elsewhere.
        run_id: of the training, as ``models/train.json`` has it.
        known_as: the server's own id of it, another one where the training was brought here from elsewhere.
    """

    uri: str
    database: int
    run_id: str
    known_as: str


def read_known(root: Path, run_id: str) -> str | None:
    """Return the id under which a local database has confirmed a training; None where it has to be asked."""
    now = _describe(root, run_id)
    before = read_record(root / RECORDED, Recorded)
    if not now.database or before is None or before != msgspec.structs.replace(now, known_as=before.known_as):
        return None
    return before.known_as


def write_known(root: Path, run_id: str, known_as: str) -> None:
    """Write down that a local database knows a training; a server elsewhere is asked each time."""
    now = _describe(root, run_id)
    if now.database:
        write_record(root / RECORDED, msgspec.structs.replace(now, known_as=known_as))


def _describe(root: Path, run_id: str) -> Recorded:
    uri, database = tracking_uri(root), root / DATABASE
    local = uri.startswith("sqlite") and database.exists()
    return Recorded(uri, database.stat().st_ino if local else 0, run_id, "")
