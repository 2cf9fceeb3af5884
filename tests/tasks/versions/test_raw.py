"""The raw data as DVC versions them."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat

import pytest

from keypipe.errors import DatasetError
from tasks.versions.raw import list_raw, raw_changes, raw_version, version_raw
from tests.flows.toy import Toy, dvc, run, write_raw


def test_raw_changes_are_counted(ran: Toy) -> None:
    assert raw_changes(ran.root) == (0, 0, 0)
    write_raw(ran.root, "new/one.json", label="x")
    write_raw(ran.root, "1.json", label="other")
    (ran.root / "data/raw/2.json").unlink()
    assert raw_changes(ran.root) == (1, 1, 1)
    version = version_raw(ran.root)
    assert (version.files, version.changed) == (4, True)
    assert raw_version(ran.root) == version.md5
    assert version_raw(ran.root) == version._replace(changed=False)
    assert raw_changes(ran.root) == (0, 0, 0)


def test_a_link_to_nothing_is_named(ran: Toy) -> None:
    (ran.root / "data/raw/dead.json").symlink_to("nowhere")
    for ask in (version_raw, raw_changes, list_raw):
        with pytest.raises(DatasetError, match=r"data/raw/dead\.json: a link to nothing, which no version can hold"):
            ask(ran.root)


def test_the_raw_data_stay_ordinary_files_whatever_the_type_of_dvcs_cache(ran: Toy) -> None:
    """With links into the cache labelme could not save: they are read-only."""
    dvc(ran.root, "config", "cache.type", "hardlink")
    write_raw(ran.root, "new.json", label="x")
    version = version_raw(ran.root)
    assert version.changed
    for path in (ran.root / "data/raw").iterdir():
        assert path.stat().st_nlink == 1
        assert path.stat().st_mode & stat.S_IWUSR
    assert "data/raw" not in dvc(ran.root, "status", "data/raw.dvc")
    shutil.rmtree(ran.root / "data/raw")
    dvc(ran.root, "checkout", "data/raw.dvc")
    assert json.loads((ran.root / "data/raw/new.json").read_text()) == {"label": "x"}


def test_a_version_that_the_cache_has_lost_is_kept_again(ran: Toy) -> None:
    shutil.rmtree(ran.root / ".dvc/cache")
    version = version_raw(ran.root)
    assert not version.changed
    shutil.rmtree(ran.root / "data/raw")
    dvc(ran.root, "checkout", "data/raw.dvc")
    assert version_raw(ran.root) == version


def test_raw_data_that_dvc_keeps_otherwise_are_refused(fresh: Toy) -> None:
    run(["sed", "-i", "s/outs: .exports./outs: [data\\/raw\\/made]/", "dvc.yaml"], fresh.root)
    with pytest.raises(DatasetError, match="both a dependency and an output"):
        version_raw(fresh.root)
    assert raw_version(fresh.root) is None


def test_versioning_tells_how_far_it_is(ran: Toy) -> None:
    write_raw(ran.root, "new.json", label="x")
    told: list[tuple[str, int, int]] = []

    version = version_raw(ran.root, lambda *how_far: told.append(how_far))
    assert ("files hashed", version.files, version.files) in told
    assert ("new files kept", 1, 1) in told


@pytest.mark.parametrize("times", [1, 9])
def test_a_file_that_is_saved_while_it_is_versioned_is_never_kept_under_a_wrong_name(ran: Toy, times: int) -> None:
    before = raw_version(ran.root)
    left = times
    write_raw(ran.root, "new.json", label="0")

    def progress(what: str, done: int, _: int) -> None:
        nonlocal left
        if what == "new files kept" and not done and left:  # hashed, and not yet copied
            left -= 1
            write_raw(ran.root, "new.json", label=f"{left} more to come")

    if times == 1:
        version = version_raw(ran.root, progress)
        assert version.md5 == raw_version(ran.root) != before
        assert "up to date" in dvc(ran.root, "status", "data/raw.dvc")
        (ran.root / "data/raw/new.json").unlink()
        dvc(ran.root, "checkout", "data/raw.dvc")
        assert json.loads((ran.root / "data/raw/new.json").read_text()) == {"label": "0 more to come"}
    else:
        with pytest.raises(DatasetError, match=r"new\.json changes again and again"):
            version_raw(ran.root, progress)
        assert raw_version(ran.root) == before
    for path in (ran.root / ".dvc/cache/files/md5").rglob("*"):
        if path.is_file():
            name = f"{path.parent.name}{path.name}".removesuffix(".dir")
            assert hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == name


def test_a_file_that_is_removed_while_it_is_versioned_is_no_part_of_the_version(ran: Toy) -> None:
    before = raw_version(ran.root)
    new = ran.root / "data/raw/new.json"
    write_raw(ran.root, "new.json", label="x")

    def progress(what: str, done: int, _: int) -> None:
        if what == "new files kept" and not done:
            new.unlink(missing_ok=True)

    version = version_raw(ran.root, progress)
    assert (version.md5, version.changed) == (before, False)
