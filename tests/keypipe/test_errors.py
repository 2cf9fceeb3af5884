from __future__ import annotations

from keypipe.errors import Fault, FaultsError, format_count


def test_faults_of_a_file_come_before_those_of_its_first_shape() -> None:
    first, whole, other = (Fault("a.json", shape, kind, "", "") for shape, kind in ((0, "a"), (None, "z"), (1, "a")))
    assert FaultsError([other, first, whole]).faults == [whole, first, other]


def test_counts() -> None:
    assert [format_count(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert format_count(2, "box", "boxes") == "2 boxes"
