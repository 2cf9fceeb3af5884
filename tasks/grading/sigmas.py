"""Reads the sigmas that ``keypipe sigmas`` estimated."""

from __future__ import annotations

from pathlib import Path

import msgspec

from keypipe.errors import ConfigError
from keypipe.evaluation.sigmas import SIGMAS_FILE, SigmaFile
from tasks.workspace.documents import parse_yaml


def read_sigmas(root: Path) -> SigmaFile | None:
    """Read ``data/sigmas.yaml``; None where it is absent or holds comments alone, as in a fresh clone.

    Raises:
        ConfigError: it is not what ``keypipe sigmas`` writes.
    """
    path = root / SIGMAS_FILE
    if not path.exists():
        return None
    try:
        document = parse_yaml(path.read_bytes(), path.name)
        return None if document is None else msgspec.convert(document, SigmaFile)
    except (ConfigError, msgspec.ValidationError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"{SIGMAS_FILE}: {reason}; make it anew with `keypipe sigmas FOLDER FOLDER`") from error
