from __future__ import annotations

import pytest

from keypipe.errors import PoseError
from keypipe.errors import needs_extra


def import_nothing() -> None:
    with needs_extra("scikit-learn", "learn"):
        import keypipe_lacks_this  # type: ignore[import-not-found]  # noqa: F401


def test_a_package_that_is_not_there_is_named_with_what_to_install() -> None:
    with pytest.raises(PoseError, match=r"^scikit-learn is not installed: pip install 'keypipe\[learn\]'$"):
        import_nothing()


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), needs_extra("scikit-learn", "learn"):
        1 / 0  # noqa: B018
