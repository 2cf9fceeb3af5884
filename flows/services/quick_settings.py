"""Which Prefect API the user has set, read without Prefect, whose import takes longer than a run with nothing to do."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

_VARIABLE = "PREFECT_API_URL"
_TEST_MODES = ("", "_UNIT", "_TESTING_UNIT", "_TESTING")


class UnclearError(Exception):
    """Prefect itself has to be asked."""


def configured_url() -> str | None:
    """Return the API that the user has set by environment or profile; None where there is none.

    Raises:
        UnclearError: a settings file of another kind is here, or one that cannot be read.
    """
    given = {name.upper(): value for name, value in os.environ.items()}  # as Prefect takes them
    if any(given.get(f"PREFECT{kind}_TEST_MODE") for kind in _TEST_MODES):
        raise UnclearError
    if url := given.get(_VARIABLE):
        return url
    if _VARIABLE in given or any(_says_something(name) for name in (".env", "prefect.toml", "pyproject.toml")):
        raise UnclearError
    if (named := os.environ.get("PREFECT_PROFILES_PATH")) is not None:
        path = Path(named)
    else:
        path = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect") / "profiles.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or document["active"]
        url = document["profiles"][active].get(_VARIABLE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UnclearError from error
    return str(url) if url else None


def _says_something(name: str) -> bool:
    """Tell whether a file of the current folder speaks of Prefect at all."""
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True
    return name == "prefect.toml" or "PREFECT" in text or "[tool.prefect" in text
