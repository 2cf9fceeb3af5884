"""What changed in the schema since the pipeline last ran."""

from __future__ import annotations

from pathlib import Path

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, compare_schemas, parse_schema
from tasks.workspace import params as read
from tasks.workspace.documents import parse_yaml
from tasks.workspace.places import LOCK


def schema_changes(root: Path, schema: Schema | None = None) -> list[str]:
    """Compare the schema of now with the one that convert last ran with.

    DVC removes a stage's outputs before it runs the stage, so the old COCO file cannot be asked; ``dvc.lock`` keeps
    the parameters of the last run, in a fresh clone too, until the stage has succeeded.

    Args:
        root: the workspace.
        schema: of now; default: what ``params.yaml`` says.

    Returns:
        One line for each change, and one for what they make stale; none when convert never ran.

    Raises:
        ConfigError: the schema in ``params.yaml`` is wrong.
    """
    old = read_last_schema(root)
    if old is None:
        return []
    changes = compare_schemas(old, read.load_schema(read.read_params(root)) if schema is None else schema)
    if not changes:
        return []
    reaches = "everything" if any(change.what != "aliases" for change in changes) else "what they change"
    return [*map(str, changes), f"these make {reaches} stale that was made from the annotations"]


def read_last_schema(root: Path) -> Schema | None:
    """Return the schema that convert last ran with; None when it never did, or with one that is refused today."""
    path = root / LOCK
    if not path.exists():
        return None
    try:
        lock = parse_yaml(path.read_bytes(), path.name)
        return parse_schema(lock["stages"]["convert"]["params"]["params.yaml"]["schema"])
    except (KeyError, TypeError, ConfigError):  # half merged, or by another version
        return None
