from __future__ import annotations

from keypipe.errors import Fault, FaultsError


def test_faults_of_a_file_come_before_those_of_its_first_shape() -> None:
    first, whole, other = (Fault("a.json", shape, kind, "", "") for shape, kind in ((0, "a"), (None, "z"), (1, "a")))
    assert FaultsError([other, first, whole]).faults == [whole, first, other]
