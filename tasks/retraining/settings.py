"""The section ``retrain`` of ``params.yaml``: when to train anew, and what a challenger has to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field
from ruamel.yaml.comments import CommentedMap

from keypipe.gate.rules import Rules
from tasks.retraining.notification import NotifyParams
from tasks.workspace import params as read
from tasks.workspace.places import PARAMS_FILE, report_folder

PICTURES = report_folder("retraining") / "pictures.html"
"""Page of the test images on which the model in use and its challenger differ most."""


class PicturesParams(read.Section):
    """How many pictures are shown besides the workspace, and to whom.

    Attributes:
        prefect: what the model sees on so many images, on the page of a training in Prefect; 0: none.
        prefect_server: which servers may have them: ``own``, on this machine, or ``any``.
        gate: test images on the page beside the gate's, as both models see them; 0: none.
        keep_days: how long that page and those in Prefect stay.
        budget_mb: what the pictures of that page may take.
    """

    prefect: int = Field(default=6, ge=0, le=50)
    prefect_server: Literal["own", "any"] = "own"
    gate: int = Field(default=8, ge=0, le=200)
    keep_days: float = Field(default=30.0, gt=0)
    budget_mb: float = Field(default=5.0, gt=0)

    def in_prefect(self, api_url: str) -> int:
        """Return how many pictures a Prefect server may have."""
        own = (urlsplit(api_url).hostname or "") in {"127.0.0.1", "localhost", "::1"}
        return self.prefect if own or self.prefect_server == "any" else 0


class RetrainParams(read.Section):
    """The section ``retrain`` of ``params.yaml``."""

    changed_images: int | None = Field(default=50, ge=1)
    changed_share: float | None = Field(default=0.1, gt=0, le=1)
    max_age_days: float | None = Field(default=None, gt=0)
    drift: bool = False
    pull: bool = True
    branch: str | None = Field(default=None, min_length=1)
    push: bool = False
    approval_days: float = Field(default=7.0, gt=0)
    gate: Rules = Rules()
    notify: NotifyParams = NotifyParams()
    pictures: PicturesParams = PicturesParams()


def read_settings(root: Path, document: CommentedMap | None = None) -> RetrainParams:
    """Read the section; one that is absent is one of defaults.

    Args:
        root: the workspace.
        document: ``params.yaml``, where it has been read.

    Raises:
        ConfigError: all that is wrong with it.
    """
    return read.load_section(read.read_params(root) if document is None else document, "retrain", RetrainParams)


def read_notify(root: Path) -> NotifyParams:
    """Read who is told, from a section that may have faults elsewhere: of these people want to be told as well.

    Raises:
        ConfigError: what is wrong with ``retrain.notify``.
    """
    problems: list[str] = []
    found = read.check_section(read.read_params(root), ("retrain", "notify"), NotifyParams, PARAMS_FILE, problems)
    read.raise_problems(problems)
    assert found is not None
    return found
