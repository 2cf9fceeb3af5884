"""The section ``registry`` of ``params.yaml``: what the registered model is called."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from tasks.workspace import params as read

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


class RegistryParams(read.Section):
    """The section ``registry`` of ``params.yaml``."""

    model: str | None = Field(default=None, pattern=r"^\w[\w.-]*$", max_length=150)


def model_name(root: Path) -> str:
    """Return the name of the workspace's registered model: ``registry.model``, else the name of its folder.

    Raises:
        ConfigError: the section is wrong.
    """
    params = read.load_section(read.read_params(root), "registry", RegistryParams)
    return params.model or _NOT_IN_NAMES.sub("-", root.resolve().name).strip(".-") or "keypipe"
