"""The demo dataset: cows on a pasture and in a barn, drawn by a seeded program."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.demo.scene import SCHEMA, Scene, draw_scene, write_demo
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        scene=("SCHEMA", "Scene", "draw_scene", "write_demo"),
    )

__all__ = ["SCHEMA", "Scene", "draw_scene", "write_demo"]
