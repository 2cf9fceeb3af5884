"""Which proposed values are written: those of a person stay unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from keypipe.proposal.values import Proposal
from tasks.workspace.places import STATE
from tasks.workspace.program import write_json

LAST = STATE / "proposed.json"
"""What was proposed and written last: such values are nobody's own."""

ABSENT = "(not set)"

SHIPPED: dict[str, Any] = {
    "train.model": "yolov8n-pose.yaml",
    "train.imgsz": 160,
    "train.batch": 16,
    "train.nbs": 16,
    "train.epochs": 70,
    "train.patience": 100,
    "train.lr0": 0.003,
    "train.mosaic": 0.0,
    "convert.occluded_flag": "occluded",
    "convert.occluded_suffix": "",
    "convert.occluded_description": "occluded",
    "convert.box_from": "rectangle",
    "convert.box_from_points": None,
    "convert.keypoint_from": "point",
    "convert.depth": "cut",
    "convert.encoding": None,
    "split.group_by": None,
}
"""Values of ``params.yaml`` as it comes, which are the demo's; a test holds them to the file."""

Owner = Literal["nobody", "user"]


class Choice(msgspec.Struct, frozen=True):
    """A proposal beside what ``params.yaml`` says now.

    Attributes:
        proposal: the proposal.
        now: the value that is there; ``ABSENT`` without one.
        owner: whose that is: a person's, or nobody's (as shipped, absent, or as it was proposed before).
    """

    proposal: Proposal
    now: Any
    owner: Owner

    @property
    def is_new(self) -> bool:
        """Whether it would change anything."""
        return bool(self.now != self.proposal.value or type(self.now) is not type(self.proposal.value))

    @property
    def is_overriding(self) -> bool:
        """Whether it would take the place of a person's value."""
        return self.is_new and self.owner == "user"


def choose(document: Mapping[str, Any], proposals: Sequence[Proposal], root: Path) -> list[Choice]:
    """Lay proposals beside the parameters.

    Args:
        document: the whole ``params.yaml``.
        proposals: in the order to show.
        root: the workspace.
    """
    last = read_last(root)
    choices: list[Choice] = []
    for proposal in proposals:
        now = find_value(document, proposal.key)
        known = [SHIPPED.get(proposal.key, ABSENT), last.get(proposal.key, ABSENT), ABSENT]
        choices.append(Choice(proposal, now, "nobody" if now in known else "user"))
    return choices


def find_value(document: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key with dots; ``ABSENT`` where it is not set."""
    node: Any = document
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return ABSENT
        node = node[part]
    return node


def read_last(root: Path) -> dict[str, Any]:
    """Return what was written last, by key; nothing where that is not known any more."""
    try:
        return msgspec.json.decode((root / LAST).read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError):
        return {}


def remember(root: Path, written: Mapping[str, Any]) -> None:
    """Remember what was written, besides what is remembered already."""
    (root / LAST).parent.mkdir(parents=True, exist_ok=True)
    write_json(root / LAST, {**read_last(root), **written})
