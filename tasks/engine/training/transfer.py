"""Starting from a model of another schema: every keypoint keeps what was learnt of it, in whatever slot it is now."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import msgspec

from keypipe.errors import ConfigError
from keypipe.keypoints.skeleton import Schema, parse_schema
from tasks.engine.weights import CHECKPOINT_KEY


class Transfer(msgspec.Struct, frozen=True):
    """Which keypoints of the dataset the weights know.

    Attributes:
        places: for every slot of the dataset the weights' slot of that name; None: they do not know it.
        new: keypoints that they do not know.
        left_out: keypoints of theirs that the dataset does not have.
    """

    places: tuple[int | None, ...]
    new: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """Number of keypoints that are taken over."""
        return len(self.places) - len(self.new)

    @property
    def changes(self) -> bool:
        """Whether any slot is another than in the weights."""
        return bool(self.left_out) or self.places != tuple(range(len(self.places)))

    def __str__(self) -> str:
        text = f"{self.kept} of {len(self.places)} by name"
        text += f"; new: {', '.join(self.new)}" if self.new else ""
        return text + (f"; left out: {', '.join(self.left_out)}" if self.left_out else "")


def match_keypoints(old: Sequence[str], new: Sequence[str]) -> Transfer:
    """Find the keypoints of a dataset in weights, by name.

    Args:
        old: the weights' slots.
        new: the dataset's slots.
    """
    places = tuple(old.index(name) if name in old else None for name in new)
    return Transfer(
        places,
        tuple(name for name, place in zip(new, places, strict=True) if place is None),
        tuple(name for name in old if name not in new),
    )


def read_known_schema(checkpoint: Any, n_slots: int) -> Schema | None:
    """Return the schema that a checkpoint of keypipe's was trained with.

    Args:
        checkpoint: what is in the file.
        n_slots: keypoints that its network has.

    Returns:
        None for weights that keypipe did not write, which do not say what their keypoints are.
    """
    try:
        schema = parse_schema(checkpoint[CHECKPOINT_KEY]["schema"])
    except (KeyError, TypeError, ConfigError):
        return None
    return schema if len(schema.slots) == n_slots else None


def adopt_keypoints(network: Any, source: Any, places: Sequence[int | None]) -> None:
    """Give a network the keypoint head of another one, each keypoint in its new slot.

    For the keypoints that are taken over it then says what the other one says, to the rounding of a sum. A head's
    hidden layers are as wide as Ultralytics makes them for that many keypoints, and never narrower than they were:
    what is wider starts without any say in the keypoints that were there before. New keypoints start at random.

    Args:
        network: a pose model of Ultralytics, with the dataset's number of slots.
        source: a pose model with the same layers but for the number of slots.
        places: for every slot the source's slot, or None.
    """
    head, old = network.model[-1], source.model[-1]
    for branch in ("cv4", "one2one_cv4"):
        if getattr(head, branch, None) is None or getattr(old, branch, None) is None:
            continue
        apart = [name for name in (f"{branch}_kpts", f"{branch}_sigma") if hasattr(head, name)]  # YOLO26
        for scale, (layers, old_layers) in enumerate(zip(getattr(head, branch), getattr(old, branch), strict=True)):
            if apart:
                hidden, old_hidden = layers, old_layers
                last = [getattr(head, name)[scale] for name in apart]
                old_last = [getattr(old, name)[scale] for name in apart]
            else:
                (hidden, last), (old_hidden, old_last) = ((some[:-1], [some[-1]]) for some in (layers, old_layers))
            hidden = _adopt_hidden(hidden, old_hidden, wider=last[0].in_channels > old_last[0].in_channels)
            width = max(last[0].in_channels, old_last[0].in_channels)
            last = [_adopt_last(mine, other, width, places) for mine, other in zip(last, old_last, strict=True)]
            if apart:
                getattr(head, branch)[scale] = hidden
                for name, layer in zip(apart, last, strict=True):
                    getattr(head, name)[scale] = layer
            else:
                getattr(head, branch)[scale] = type(layers)(*hidden, *last)


def is_narrower(network: Any, source: Any) -> bool:
    """Whether a network's keypoint head has fewer hidden channels than another one's, which had been adopted."""
    head, old = network.model[-1], source.model[-1]
    return bool(head.cv4[0][0].conv.out_channels < old.cv4[0][0].conv.out_channels)


def _adopt_hidden(hidden: Any, old: Any, *, wider: bool) -> Any:
    """Return hidden layers that give the old ones' channels first."""
    import torch

    if not wider:
        adopted = deepcopy(old).to(next(hidden.parameters()).device).float().train(hidden.training)
        return adopted.requires_grad_(True)
    values = hidden.state_dict()
    with torch.no_grad():
        for name, value in old.state_dict().items():
            if values[name].shape == value.shape:
                values[name].copy_(value)
            else:
                part = values[name][: len(value)]
                if value.ndim > 1:
                    part.zero_()
                    part = part[:, : value.shape[1]]
                part.copy_(value)
    return hidden


def _adopt_last(mine: Any, old: Any, width: int, places: Sequence[int | None]) -> Any:
    """Return a last layer, a row for each value of each keypoint."""
    import torch

    per_slot = mine.out_channels // len(places)
    layer: Any = torch.nn.Conv2d(width, mine.out_channels, 1).to(mine.weight.device)
    with torch.no_grad():
        for slot, place in enumerate(places):
            if place is not None:
                rows = slice(slot * per_slot, (slot + 1) * per_slot)
                old_rows = slice(place * per_slot, (place + 1) * per_slot)
                layer.weight[rows] = 0
                layer.weight[rows, : old.in_channels] = old.weight[old_rows].float()
                layer.bias[rows] = old.bias[old_rows].float()
    return layer
