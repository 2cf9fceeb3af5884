"""Trainings that start from the model in use: its weights lie in one place, which ``train.model`` names."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError, ModelError
from keypipe.files.atomic import replacing_file
from tasks.registry.glance import glance
from tasks.registry.moves.history import CHAMPION
from tasks.tracking.history import fetch_artifact
from tasks.versions.weights import hash_file, read_versioned, version_weights
from tasks.workspace import params as read
from tasks.workspace.places import BEST, WEIGHTS

PLACE = WEIGHTS / "champion.pt"
"""One place for the weights of whichever version is in use, so that ``train.model`` need not change with it."""
NOTE = WEIGHTS / "champion.pt.dvc"
"""What git keeps of them."""


class Fetched(msgspec.Struct, frozen=True):
    """The weights of the version in use, in their place.

    Attributes:
        version: its number.
        changed: whether others lay there before, or none.
    """

    version: str
    changed: bool


def starts_from_champion(root: Path) -> bool:
    """Tell whether ``train.model`` names the weights of the version in use."""
    train = read.read_params(root).get("train") or {}
    return str(train.get("model", "")) == PLACE.as_posix()


def fetch_champion(root: Path) -> Fetched:
    """Put the weights of the version in use where a training starts from them, and let DVC keep them.

    Raises:
        ConfigError: no version is in use.
        ModelError: MLflow has its weights no more.
        PoseError: the registry does not answer.
    """
    state = glance(root)
    number = state.aliases.get(CHAMPION)
    version = next((version for version in state.versions if version.number == number), None)
    if version is None:
        raise ConfigError(
            f"no version of {state.name} is in use, so nothing can start from its weights; set train.model to a model"
            " YAML such as yolov8n-pose.yaml for the first training, and `keypipe promote` what comes of it"
        )
    place = root / PLACE
    with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
        run_id = version.tags.get("keypipe.run", version.run_id)
        file = fetch_artifact(root, run_id, BEST.as_posix(), Path(folder))
        if file is None:
            raise ModelError(
                f"the weights of v{number} of {state.name} are gone from the artifacts of MLflow run {run_id[:8]};"
                " start from others (`keypipe weights FILE`), or from a model YAML"
            )
        changed = not place.exists() or hash_file(place) != hash_file(file)
        if changed:
            with replacing_file(place) as temporary:
                shutil.copyfile(file, temporary)
    if changed or read_versioned(place) != hash_file(place):
        version_weights(root, place)
    return Fetched(version.number, changed)
