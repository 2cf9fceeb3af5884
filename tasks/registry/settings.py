"""The sections ``registry`` and ``retention`` of ``params.yaml``: what the model is called, what of the past stays."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field
from ruamel.yaml.comments import CommentedMap

from tasks.workspace import params as read

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


class RegistryParams(read.Section):
    """The section ``registry`` of ``params.yaml``."""

    model: str | None = Field(default=None, pattern=r"^\w[\w.-]*$", max_length=150)


class RetentionParams(read.Section):
    """The section ``retention`` of ``params.yaml``: what ``keypipe gc`` keeps.

    Attributes:
        trainings: so many of the newest finished trainings stay, with all that they need.
        days: trainings that began within so many days stay as well.
        rollbacks: so many of the versions that were in use before the champion stay, and their trainings.
        prefect_days: for how long Prefect keeps runs that have ended.
        reproduced_days: for how long results of ``keypipe reproduce`` stay.
    """

    trainings: int = Field(default=20, ge=1)
    days: float = Field(default=30.0, ge=0)
    rollbacks: int = Field(default=3, ge=1)
    prefect_days: float = Field(default=30.0, ge=0)
    reproduced_days: float = Field(default=30.0, ge=0)


def read_retention(root: Path) -> RetentionParams:
    """Read the section; one that is absent is one of defaults.

    Raises:
        ConfigError: all that is wrong with it.
    """
    return read.load_section(read.read_params(root), "retention", RetentionParams)


def model_name(root: Path, document: CommentedMap | None = None) -> str:
    """Return the name of the workspace's registered model: ``registry.model``, else the name of its folder.

    Args:
        root: the workspace.
        document: ``params.yaml``, where it has been read.

    Raises:
        ConfigError: the section is wrong.
    """
    document = read.read_params(root) if document is None else document
    params = read.load_section(document, "registry", RegistryParams)
    return params.model or _NOT_IN_NAMES.sub("-", root.resolve().name).strip(".-") or "keypipe"
