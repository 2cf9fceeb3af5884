"""Reads the sigmas that ``keypipe sigmas`` estimated."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from keypipe.errors import ConfigError
from keypipe.evaluation.sigmas import SIGMAS_FILE, SigmaFile


def read_sigmas(root: Path) -> SigmaFile | None:
    """Read ``data/sigmas.yaml``; None where it is absent or holds comments alone, as in a fresh clone.

    Raises:
        ConfigError: it is not what ``keypipe sigmas`` writes.
    """
    path = root / SIGMAS_FILE
    if not path.exists():
        return None
    try:
        document = yaml.safe_load(path.read_bytes())  # UTF-8, or UTF-16 by its mark
        return None if document is None else msgspec.convert(document, SigmaFile)
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"{SIGMAS_FILE}: {reason}; make it anew with `keypipe sigmas FOLDER FOLDER`") from error
