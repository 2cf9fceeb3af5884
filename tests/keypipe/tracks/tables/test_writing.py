from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from keypipe.errors import PoseError
from keypipe.tracks.tables.writing import FORMATS, check_formats, open_tables
from tests.keypipe.tracks.tables.films import make_film


def test_what_is_missing_is_told_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, item in FORMATS.items():
        for package, extra in item.needs:
            with monkeypatch.context() as patched:
                patched.setitem(sys.modules, package, None)
                with pytest.raises(PoseError, match=rf"{package} is not installed: pip install 'keypipe\[{extra}\]'"):
                    check_formats([name])
    with pytest.raises(PoseError, match="'xlsx'; there are csv, parquet, dlc, dlc-h5, sleap"):
        check_formats(["xlsx"])


def test_a_failure_leaves_no_half_a_table(tmp_path: Path) -> None:
    frames, head = make_film(tmp_path / "film")
    out = tmp_path / "out"
    broken = msgspec.structs.replace(frames[1], gaps=[99])  # an identity that nobody knows
    with (
        pytest.raises(KeyError),
        open_tables({"csv": out / "a.csv", "parquet": out / "a.parquet"}, head) as write,
    ):
        write(broken)
    assert list(out.iterdir()) == []


def test_a_film_without_any_object_makes_tables_all_the_same(tmp_path: Path) -> None:
    names = [name for name, item in FORMATS.items() if not {"tables", "h5py"} & {package for package, _ in item.needs}]
    _, head = make_film(tmp_path / "film")
    empty = type(head)(head.schema, [], 0, head.video, head.about)
    with open_tables({name: tmp_path / f"none{FORMATS[name].ending}" for name in names}, empty):
        pass
    assert all((tmp_path / f"none{FORMATS[name].ending}").exists() for name in names)
