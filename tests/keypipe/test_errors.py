from __future__ import annotations

import pytest

from keypipe.errors import Fault, FaultsError, PoseError, format_count, needs_extra


def test_faults_of_a_file_come_before_those_of_its_first_shape() -> None:
    first, whole, other = (Fault("a.json", shape, kind, "", "") for shape, kind in ((0, "a"), (None, "z"), (1, "a")))
    assert FaultsError([other, first, whole]).faults == [whole, first, other]


def test_counts() -> None:
    assert [format_count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert format_count(2, "box", "boxes") == "2 boxes"


def import_nothing() -> None:
    with needs_extra("scikit-learn", "learn"):
        import keypipe_lacks_this  # type: ignore[import-not-found]  # noqa: F401


def test_a_package_that_is_not_there_is_named_with_what_to_install() -> None:
    with pytest.raises(PoseError, match=r"^scikit-learn is not installed: pip install 'keypipe\[learn\]'$"):
        import_nothing()


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), needs_extra("scikit-learn", "learn"):
        1 / 0  # noqa: B018
