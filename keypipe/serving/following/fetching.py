"""A version's network and input example, fetched from a registry and compared with what was registered."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from keypipe.errors import ModelError
from keypipe.inference.tables import INPUT_COLUMN
from keypipe.serving.following.source import EXAMPLE, NETWORK, ModelSource, Version


def fetch_version(source: ModelSource, version: Version, folder: Path) -> tuple[Path, bytes]:
    """Fetch what is needed to run a version. Its network is known by its hash; nothing of its code is fetched.

    Args:
        source: the registry.
        version: what to fetch.
        folder: takes the files.

    Returns:
        The network's file, and the image file of the input example.

    Raises:
        ModelError: the files are not what was registered.
        AwayError: the registry does not answer.
    """
    path, example = folder / "model.onnx", folder / "example.json"
    source.download(version, NETWORK, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != version.sha256:
        raise ModelError(
            f"{version}: the SHA-256 of its network is {found[:12]}…, and was {version.sha256[:12]}… when it was"
            " registered"
        )
    source.download(version, EXAMPLE, example)
    try:
        table = json.loads(example.read_bytes())  # MLflow's split form, of one image file as base64 text
        return path, base64.b64decode(table["data"][0][table["columns"].index(INPUT_COLUMN)])
    except (ValueError, LookupError, TypeError) as error:  # binascii.Error is a ValueError
        raise ModelError(f"{version}: its input example cannot be read") from error


def without_folder(error: Exception, path: Path) -> str:
    """Return what an error says of a fetched file, without the passing folder that it lies in."""
    return str(error).removeprefix(f"{path}: ").replace(str(path), path.name)
