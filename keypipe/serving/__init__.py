"""A prediction server over HTTP."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keypipe.serving.app import make_app
    from keypipe.serving.model import ServedModel, open_model
    from keypipe.serving.server import serve
    from keypipe.serving.settings import Settings
else:
    from keypipe.lazy import offer

    __getattr__, __dir__ = offer(
        __name__,
        app=("make_app",),
        model=(
            "ServedModel",
            "open_model",
        ),
        server=("serve",),
        settings=("Settings",),
    )

__all__ = ["ServedModel", "Settings", "make_app", "open_model", "serve"]
