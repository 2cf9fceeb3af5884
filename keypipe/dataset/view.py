"""The YOLO folder of a split dataset: links to the images, label files beside them, brought up to date in place.

What was written is remembered by a mark of what it was made from, and the size and times that the label file then had,
as git's index does. So what is still right is neither formatted nor read again, and what somebody edited is noticed.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.dataset import yolo
from keypipe.dataset.coco_stream import CocoLines, annotation_without_ids, image_without_id, parse_image
from keypipe.dataset.yolo import LabelFormatter, label_name, view_names
from keypipe.errors import DatasetError
from keypipe.files.atomic import replacing_file
from keypipe.keypoints.skeleton import Schema

_FILES_PER_PROCESS = 2000  # below this a process costs more than it saves
_SHARE = 2 / 3  # of the labels for the other process; links take about a third as long as labels
_TICK_NS = 50_000_000
"""A file changed so shortly before it was remembered may have changed once more without its times telling; file systems
count time in steps of up to some milliseconds. Such a one is read again (git calls such entries racy)."""

_OF_ULTRALYTICS = (".cache", ".npy")
"""What Ultralytics keeps beside labels and images; goes when anything changes, since it outlives what it describes."""

_ABSENT, _WRONG, _RIGHT = 0, 1, 2


class Layout(msgspec.Struct):
    """Where the images of a dataset go, and what makes their labels; images in the order of the splits and their files.

    Attributes:
        places: for each image its split and name, ``train/a/1.jpg``.
        paths: where the image is, relative to ``data/``.
        marks: uint64 (n,), a hash of all that place, link and label file follow from.
    """

    places: list[str]
    paths: list[str]
    marks: NDArray[np.uint64]


class _Found(msgspec.Struct):
    """What a folder holds.

    Attributes:
        links: uint8 (n,), for each image whether its link is absent, wrong or right.
        labels: int64 (n, 3), size, mtime and ctime (ns) of its label file; -1 without a file.
        others: names of all else.
    """

    links: NDArray[np.uint8]
    labels: NDArray[np.int64]
    others: list[str]


class Labels(msgspec.Struct):
    """Label files to write.

    Attributes:
        numbers: int (n,), of their images in the layout, rising.
        places: of these images.
        sizes: int64 (n,), of the files that are there; -1 for none.
    """

    numbers: NDArray[np.intp]
    places: list[str]
    sizes: NDArray[np.int64]

    def cut(self, n: int) -> tuple[Labels, Labels]:
        """Return all but the first n, and these."""
        return (
            Labels(self.numbers[n:], self.places[n:], self.sizes[n:]),
            Labels(self.numbers[:n], self.places[:n], self.sizes[:n]),
        )


def lay_out(splits: Mapping[str, CocoLines], schema: Schema) -> Layout:
    """Lay out a split dataset.

    Args:
        splits: the dataset's splits; those without images are left out.
        schema: class ids and slots of the labels.
    """
    places: list[str] = []
    paths: list[str] = []
    marks = array("Q")
    for split, coco in splits.items():
        own = [image.file_name for image in coco.images()]
        names = view_names(own)
        base = _digest(_code() + msgspec.json.encode([split, coco.categories, schema.class_names, schema.slots]))
        for path, (image_line, lines) in zip(own, coco.entries(), strict=True):
            name = names[path]
            said = [base, name.encode(), image_without_id(image_line), *map(annotation_without_ids, lines)]
            marks.frombytes(_digest(b"\n".join(said)))
            places.append(f"{split}/{name}")
        paths += own
    return Layout(places, paths, np.array(marks, np.uint64))


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=8).digest()


def _code() -> bytes:
    """Return the code that writes labels: what other code wrote may not be right any more."""
    return Path(__file__).read_bytes() + Path(yolo.__file__).read_bytes()


def refresh(
    folder: Path,
    layout: Layout,
    splits: Mapping[str, CocoLines],
    schema: Schema,
    texts: Mapping[str, str],
    memory: Path,
) -> bool:
    """Bring the YOLO folder up to a dataset, changing only what differs.

    Args:
        folder: ``data/yolo``; the images lie beside it, under ``data/``.
        layout: of the dataset.
        splits: the dataset's splits, as they were laid out.
        schema: class ids and slots of the labels.
        texts: other files, relative to the folder -> content.
        memory: file that remembers what was written; it and its folder are made. Without it all is compared.

    Returns:
        Whether anything was written or removed.

    Raises:
        DatasetError: the folder is a link.
    """
    if folder.is_symlink():
        raise DatasetError(f"{folder} is a link; what is not of the dataset is removed there, so it must be a folder")
    found = _survey(str(folder), layout)
    known = _match(layout.marks, found.labels, _read_memory(memory))
    stale, wrong = np.flatnonzero(~known), np.flatnonzero(found.links != _RIGHT)
    changed = [name for name, text in texts.items() if _read(folder / name) != text.encode()]
    spare = [name for name in found.others if name not in texts]
    if not (len(stale) or len(wrong) or changed) and all(name.endswith(_OF_ULTRALYTICS) for name in spare):
        return False
    _remove(folder, spare)
    for place in {place.rpartition("/")[0] for place in layout.places}:
        for kind in ("images", "labels"):
            (folder / kind / place).mkdir(parents=True, exist_ok=True)
    labels = Labels(stale, [layout.places[number] for number in stale], found.labels[stale, 0])
    files = {split: coco.path for split, coco in splits.items()}
    if min(len(stale), len(wrong)) < _FILES_PER_PROCESS:
        _write_links(str(folder), layout, found, wrong)
        found.labels[stale] = _write_labels(str(folder), labels, files, schema)
    else:  # making files is most of the work of a first split
        from concurrent.futures import ProcessPoolExecutor

        ours, theirs = labels.cut(round(_SHARE * len(stale)))
        with ProcessPoolExecutor(1) as pool:
            written = pool.submit(_write_labels, str(folder), theirs, files, schema)
            _write_links(str(folder), layout, found, wrong)
            found.labels[ours.numbers] = _write_labels(str(folder), ours, files, schema)
            found.labels[theirs.numbers] = written.result()
    for name in changed:
        (folder / name).unlink(missing_ok=True)  # a link that somebody put in its place stays what it leads to
        (folder / name).write_bytes(texts[name].encode())
    _write_memory(memory, layout.marks, found.labels)
    return True


def _survey(folder: str, layout: Layout) -> _Found:
    links, labels, others = bytearray(len(layout.places)), array("q"), list[str]()
    index = {place.rpartition(".")[0]: number for number, place in enumerate(layout.places)}
    folders = [""] if os.path.isdir(folder) else []  # noqa: PTH112
    for base in folders:  # which grows on the way
        kind, _, above = base.partition("/")
        with os.scandir(f"{folder}/{base}") as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{base}{entry.name}/")
                    continue
                place = above + entry.name
                stem, _, suffix = place.rpartition(".")
                number = index.get(stem, -1)
                if number >= 0 and kind == "images" and place == layout.places[number]:
                    right = entry.is_symlink() and os.readlink(entry.path) == _target(place, layout.paths[number])  # noqa: PTH115
                    links[number] = _RIGHT if right else _WRONG
                elif number >= 0 and kind == "labels" and suffix == "txt" and not entry.is_symlink():
                    labels.extend((number, *_sign(entry.stat(follow_symlinks=False))))
                else:
                    others.append(base + entry.name)
    rows = np.array(labels, np.int64).reshape(-1, 4)
    states = np.full((len(layout.places), 3), -1)
    states[rows[:, 0]] = rows[:, 1:]
    return _Found(np.array(links, np.uint8), states, others)


def _target(place: str, path: str) -> str:
    """Return what the link of an image says: the way up from it to ``data/``, and down to the image."""
    return "../" * (place.count("/") + 2) + path


def _sign(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _match(marks: NDArray[np.uint64], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which label files are remembered just as they are.

    Args:
        marks: uint64 (n,).
        labels: int64 (n, 3), what is there.
        rows: int64 (m, 4), what is remembered: mark, and what was there.

    Returns:
        bool (n,).
    """
    if not len(rows):
        return np.zeros(len(marks), bool)
    rows = rows[np.argsort(rows[:, 0].view(np.uint64))]
    remembered = rows[:, 0].copy().view(np.uint64)
    at = np.searchsorted(remembered, marks).clip(max=len(rows) - 1)
    same: NDArray[np.bool_] = (remembered[at] == marks) & (rows[at, 1:] == labels).all(axis=1)
    return same


def _read_memory(memory: Path) -> NDArray[np.int64]:
    try:
        rows = np.frombuffer(memory.read_bytes(), np.int64).reshape(-1, 4)
        settled = memory.stat().st_mtime_ns - _TICK_NS
    except (OSError, ValueError):
        return np.empty((0, 4), np.int64)
    recent: NDArray[np.bool_] = rows[:, 2:].max(axis=1, initial=0) >= settled
    return rows[~recent]


def _write_memory(memory: Path, marks: NDArray[np.uint64], labels: NDArray[np.int64]) -> None:
    with replacing_file(memory) as temporary:
        temporary.write_bytes(np.column_stack([marks.view(np.int64), labels]).tobytes())


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files, and the folders that become empty."""
    parents: set[str] = set()
    for name in names:
        os.unlink(f"{folder}/{name}")  # noqa: PTH108 - Path is several times as slow, here and below
        while name := name.rpartition("/")[0]:
            parents.add(name)
    for parent in sorted(parents, reverse=True):  # the inner ones first
        with suppress(OSError):  # it is not empty
            os.rmdir(f"{folder}/{parent}")  # noqa: PTH106


def _write_links(folder: str, layout: Layout, found: _Found, numbers: Iterable[int]) -> None:
    """Write the links of some images."""
    for number in numbers:
        place = layout.places[number]
        name = f"{folder}/images/{place}"
        if found.links[number] != _ABSENT:
            os.unlink(name)  # noqa: PTH108
        os.symlink(_target(place, layout.paths[number]), name)  # noqa: PTH211


def _write_labels(folder: str, labels: Labels, files: Mapping[str, Path], schema: Schema) -> NDArray[np.int64]:
    """Write label files that do not hold what they must.

    Args:
        folder: the YOLO folder.
        labels: which.
        files: the splits' COCO files.
        schema: class ids and slots.

    Returns:
        int64 (n, 3), size, mtime and ctime (ns) of each file as it is now.
    """
    states = array("q")
    contents = _format_labels(labels.numbers, files, schema)
    for place, size, content in zip(labels.places, labels.sizes, contents, strict=True):
        path = f"{folder}/labels/{label_name(place)}"
        if size == len(content):
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                state = _sign(os.fstat(file.fileno()))
                if file.read() == content:
                    states.extend(state)
                    continue
        with open(path, "wb", buffering=0) as file:  # noqa: PTH123
            file.write(content)
            states.extend(_sign(os.fstat(file.fileno())))
    return np.array(states, np.int64).reshape(-1, 3)


def _format_labels(numbers: Iterable[int], files: Mapping[str, Path], schema: Schema) -> Iterator[bytes]:
    """Yield the label files of images, given by their numbers in the layout, rising."""
    wanted = chain(map(int, numbers), [-1])
    number = next(wanted)
    start = 0
    for path in files.values():
        coco = CocoLines(path)
        formatter = LabelFormatter(coco.categories, schema)
        for at, (image_line, lines) in enumerate(coco.entries() if number >= 0 else (), start):
            if at == number:
                image = parse_image(image_line)
                yield formatter.format((image.width, image.height), coco.annotations(lines)).encode()
                number = next(wanted)
        start += coco.n_images
