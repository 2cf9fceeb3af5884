"""The recipes that are compared: named sets of parameters of the section ``train``, over the shipped ones."""

from __future__ import annotations

from typing import Any

SHIPPED = "shipped"
"""What all others are compared with: nothing changed."""

RECIPES: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "light": {"augmentation": "light"},
    "rising": {"augmentation": {"from": "light", "to": "strong", "over": 0.5}},
    "falling": {"augmentation": {"from": "strong", "to": "light", "over": 1}},
    "paste": {"paste": 0.5},
    "light paste": {"augmentation": "light", "paste": 0.5},
}
