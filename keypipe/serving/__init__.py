"""A prediction server over HTTP."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.serving.app import Settings, make_app, serve
    from keypipe.serving.model import ServedModel, open_model
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        app=("Settings", "make_app", "serve"),
        model=("ServedModel", "open_model"),
    )

__all__ = ["ServedModel", "Settings", "make_app", "open_model", "serve"]
