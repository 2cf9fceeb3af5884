"""Public names of a package, loaded when they are asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence


def offer(package: str, **names: Sequence[str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package that loads none of its modules by itself.

    Args:
        package: the package's ``__name__``.
        names: for each of its modules the names that the package offers of it.

    Returns:
        The two functions, to be assigned to ``__getattr__`` and ``__dir__``.
    """
    module_of = {name: module for module, offered in names.items() for name in offered}

    def load(name: str) -> object:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{module_of[name]}"), name)

    return load, lambda: sorted({*vars(sys.modules[package]), *module_of})
