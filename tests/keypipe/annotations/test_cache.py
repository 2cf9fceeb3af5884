from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keypipe.annotations import folder as ingest
from keypipe.annotations.cache import Store, read_records, read_signed, write_records
from keypipe.annotations.folder import read_folder
from keypipe.annotations.labelme import LabelmeOptions
from keypipe.annotations.readings import Folder
from keypipe.keypoints.skeleton import parse_schema
from tests.conftest import point, rectangle
from tests.imports import ROOT, closure

SCHEMA = parse_schema({"classes": {"cow": {"keypoints": ["nose", "tail"]}}})
COW = [rectangle("cow", (10, 10, 90, 90)), point("nose", 20, 20)]

Write = Callable[..., Path]


class Cached:
    """Reads a folder with a cache and without, and tells how many files were read."""

    def __init__(self, folder: Path) -> None:
        self.raw = folder / "raw"
        self.cache = folder / "cache/annotations.msgpack"

    def read(self, schema: Any = SCHEMA, options: LabelmeOptions | None = None, **others: Any) -> tuple[Folder, int]:
        counts = [0]
        options = options or LabelmeOptions()
        folder = read_folder(
            self.raw,
            schema,
            options,
            cache=self.cache,
            progress=lambda done, total: counts.append(done),
            **others,
        )
        assert folder == read_folder(self.raw, schema, options, **others)
        return folder, max(counts)


@pytest.fixture
def cached(tmp_path: Path, write_labelme: Write, monkeypatch: pytest.MonkeyPatch) -> Cached:
    monkeypatch.setattr("keypipe.annotations.cache.RECENT_NS", 0)
    for index in range(6):
        write_labelme(f"{index}.jpg", COW)
    return Cached(tmp_path)


def test_what_did_not_change_is_not_read_again(cached: Cached, write_labelme: Write) -> None:
    first, count = cached.read()
    assert count == 6
    assert cached.read() == (first, 0)
    write_labelme("new.jpg", COW)
    folder, count = cached.read()
    assert (len(folder.files), count) == (7, 1)
    assert cached.read() == (folder, 0)


def test_what_changed_is_read_again(cached: Cached, write_labelme: Write) -> None:
    cached.read()
    write_labelme("2.jpg", [*COW, point("tail", 50, 50)])
    folder, count = cached.read()
    assert count == 1
    assert folder.files[2].image is not None
    assert list(folder.files[2].image.instances[0].keypoints) == ["nose", "tail"]
    (cached.raw / "3.jpg").write_bytes((cached.raw / "3.jpg").read_bytes() + b"\xff\xd9")
    assert cached.read()[1] == 1
    (cached.raw / "4.json").unlink()
    (cached.raw / "4.jpg").unlink()
    folder, count = cached.read()
    assert (len(folder.files), count) == (5, 0)


def test_an_image_that_appears_where_the_json_points_is_taken(cached: Cached, write_labelme: Write) -> None:
    write_labelme("7.jpg", COW, imagePath="photos/7.jpg")
    folder, _ = cached.read()
    assert folder.files[-1].raw_image == "7.jpg"
    (cached.raw / "photos").mkdir()
    (cached.raw / "7.jpg").rename(cached.raw / "photos/7.jpg")
    (cached.raw / "7.jpg").write_bytes((cached.raw / "1.jpg").read_bytes())
    folder, count = cached.read()
    assert folder.files[-1].raw_image == "photos/7.jpg"
    assert count == 1


def test_other_parameters_or_another_schema_read_all_again(cached: Cached) -> None:
    cached.read()
    assert cached.read(options=LabelmeOptions(unknown_labels="fail"))[1] == 6
    assert cached.read(parse_schema({"classes": {"cow": {"keypoints": ["nose"]}}}))[1] == 6


def test_faulty_and_embedded_images_are_read_every_time(cached: Cached, write_labelme: Write) -> None:
    (cached.raw / "5.json").write_text("{")
    cached.read()
    folder, count = cached.read()
    assert count == 1
    assert [fault.kind for fault in folder.faults] == ["broken-json"]


def test_negatives_are_kept_as_well(cached: Cached) -> None:
    (cached.raw / "alone.jpg").write_bytes((cached.raw / "1.jpg").read_bytes())
    first, _ = cached.read(unlabelled_images="negative")
    assert first.files[-1].source == "alone.jpg"
    assert cached.read(unlabelled_images="negative") == (first, 0)
    assert cached.read()[0].unlabelled == ["alone.jpg"]


def test_a_file_that_was_written_just_now_is_read_again(
    cached: Cached, write_labelme: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached.read()
    monkeypatch.setattr("keypipe.annotations.cache.RECENT_NS", 3_600_000_000_000)
    write_labelme("2.jpg", COW)
    assert cached.read()[1] == 1
    assert cached.read()[1] == 1  # as long as it was so when it was read
    monkeypatch.setattr("keypipe.annotations.cache.RECENT_NS", 0)
    assert cached.read()[1] == 1
    assert cached.read()[1] == 0


def test_a_cache_is_of_no_use_to_any_other_code_that_reads() -> None:
    hashed = {Path(str(module.__file__)).relative_to(ROOT).as_posix() for module in (ingest, *ingest._READERS)}
    assert hashed == closure(ROOT / "keypipe/annotations/folder.py")


@pytest.mark.parametrize("content", [b"", b"other key\n\x01\x00\x00\x00\x90", b"key", b"key\n\x91"])
def test_a_cache_that_is_damaged_or_of_another_key_is_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cache"
    assert list(read_records(path, "key")) == []
    path.write_bytes(content)
    assert list(read_records(path, "key")) == []
    write_records(path, "key", [b"one", b"", b"two"])
    assert list(read_records(path, "key")) == [b"one", b"", b"two"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]


def test_of_a_torn_cache_the_whole_records_are_taken(cached: Cached) -> None:
    first, _ = cached.read()
    cached.cache.write_bytes(cached.cache.read_bytes()[:-10])
    assert cached.read() == (first, 1)
    assert cached.read() == (first, 0)


def test_a_store_gives_records_back_in_any_order(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert [store.append(record) for record in (b"one", b"", b"three")] == [0, 1, 2]
    assert [store[2], store[0]] == [b"three", b"one"]
    assert store.append(b"four") == 3
    assert [store[number] for number in range(len(store))] == [b"one", b"", b"three", b"four"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 1, 4096, 1_000_000])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    content, signature = read_signed(str(path))
    assert (len(content), signature.size) == (size, size)
