"""What a stage had finished when its run was killed, before DVC entered it into ``dvc.lock``."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

from keypipe.errors import PoseError
from tasks.versions.repository import opened, waiting, written_whole
from tasks.versions.stages.state import held_fingerprint, hold_deps, load_stage
from tasks.workspace.places import LOCK
from tasks.workspace.program import finished_path


def take_up(root: Path, stage: str) -> bool:
    """Enter a stage's outputs into ``dvc.lock`` where its program had ended well and nothing has changed since.

    Returns:
        False where there is nothing to take up, or it follows from other data, code or parameters than today's.
    """
    note = finished_path(root, stage)
    if not note.exists():
        return False
    try:
        # DVC's cache of runs takes the working folder for the workspace.
        with chdir(root), opened(root) as repo, waiting(repo):
            loaded = load_stage(repo, root, stage)
            if not hold_deps(loaded, None) or held_fingerprint(loaded) != note.read_text(encoding="ascii"):
                return False
            if not all(_is_as_left(out, note.stat().st_mtime_ns) for out in loaded.outs):
                return False
            loaded.save()
            loaded.commit()
            with written_whole(root, LOCK):
                loaded.dump(update_pipeline=False)
    except PoseError:  # DVC cannot take it, as when the disk is full
        return False
    note.unlink()
    return True


def _is_as_left(out: Any, since: int) -> bool:
    """Tell whether an output is there and nobody has written to it since the stage ended."""
    path = Path(out.fs_path)
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return path.exists() and all(file.stat().st_mtime_ns <= since for file in files)
