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
    "yolo11": {"model": "yolo11n-pose.yaml"},
    "yolo26": {"model": "yolo26n-pose.yaml"},
    "yolo26 in equal time": {"model": "yolo26n-pose.yaml"},
    "yolo26 without suppression": {"model": "yolo26n-pose.yaml", "nms": False},
    "light yolo26": {"model": "yolo26n-pose.yaml", "augmentation": "light"},
    "average": {"average_last": 10},
    "half lr": {"lr0": 0.0015},
    "double lr": {"lr0": 0.006},
    "no warm-up": {"warmup_epochs": 0},
    "long warm-up": {"warmup_epochs": 6},
    "batch 8": {"batch": 8, "nbs": 8},
    "batch 32": {"batch": 32, "nbs": 32},
}
"""All see each image equally often, so that those with other batches take more or fewer steps."""

EPOCHS: dict[str, float] = {"yolo26 in equal time": 0.7}
"""Recipes with another number of epochs, as a share of the others': a step of YOLO26n takes 1.44 times as long."""

MIRRORED: dict[str, str] = {"mirrored": SHIPPED, "light mirrored": "light"}
"""What is no training of its own: the weights of another recipe, which look at every image mirrored as well. Only of
data whose images are mirrored in training too."""


def describe(recipe: str) -> dict[str, Any] | None:
    """Return what a recipe is made of, to know whether a result is of today's; None for one that is not known."""
    if recipe in MIRRORED:
        return {"mirrored": MIRRORED[recipe], **RECIPES[MIRRORED[recipe]]}
    if recipe not in RECIPES:
        return None
    return RECIPES[recipe] | ({"epochs": EPOCHS[recipe]} if recipe in EPOCHS else {})
