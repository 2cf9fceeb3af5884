"""What a registry holds, at a glance: nothing is settled or recorded on the way, and MLflow is seldom asked."""

from __future__ import annotations

from pathlib import Path

from ruamel.yaml.comments import CommentedMap

from tasks.registry.moves import history
from tasks.registry.moves.aliases import State, open_registry
from tasks.tracking.models import glance as tracking


def glance(root: Path, document: CommentedMap | None = None) -> State:
    """Read versions, aliases and history.

    Args:
        root: the workspace.
        document: ``params.yaml``, where it has been read.

    Raises:
        PoseError: the server does not answer.
    """
    registry = open_registry(root, document)
    found = tracking.glance(registry)
    entries = [history.parse(found.history[key]) for key in sorted(found.history, key=int)]
    moved = history.find_moves(history.fold(entries), found.aliases)
    remark = f"not by keypipe, and not in the history yet: {', '.join(map(str, moved))}" if moved else ""
    return State(registry.name, found.versions, found.aliases, entries, remark)
