"""What a model found, as labelme files that a person corrects: beside their images, and never over a person's work."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from keypipe.annotations.labelme import LabelmeError, LabelmeOptions, parse_labelme
from keypipe.annotations.machine import find_untouched, to_machine_document
from keypipe.errors import AnnotationError, ConfigError, format_count
from keypipe.keypoints.predictions import DEFAULT_KEYPOINT_CONF, Prediction

Outcome = Literal["written", "kept", "nothing"]


class LabelTarget(msgspec.Struct, frozen=True):
    """Where labelme files go, and how they are written.

    Attributes:
        folder: made when absent; images that do not lie in it are copied into it.
        options: how the workspace marks occluded keypoints.
    """

    folder: Path
    options: LabelmeOptions = LabelmeOptions()


class LabelCounts(msgspec.Struct):
    """What became of labelme files.

    Attributes:
        folder: where they are.
        written: images with a file of what the model found.
        kept: files that somebody else wrote or worked on; nothing was changed in them.
        nothing: images without a file, since the model found nothing: an empty one would say that nothing is there.
        videos: videos, which have no labelme file.
    """

    folder: Path
    written: int = 0
    kept: list[str] = []
    nothing: int = 0
    videos: int = 0

    def __str__(self) -> str:
        text = f"{format_count(self.written, 'labelme file')} in {self.folder} to be corrected and confirmed"
        text += f"; {format_count(len(self.kept), 'file')} of a person kept" if self.kept else ""
        text += f"; nothing found on {format_count(self.nothing, 'image')}" if self.nothing else ""
        return text + ("; videos: `keypipe label VIDEO` takes frames out of them" if self.videos else "")


class LabelFolder:
    """Writes labelme files one by one."""

    def __init__(self, target: LabelTarget, keypoint_conf: float = DEFAULT_KEYPOINT_CONF, model: str = "") -> None:
        """Take a folder.

        Args:
            target: where and how.
            keypoint_conf: confidence from which a keypoint counts as visible.
            model: says which model it is.

        Raises:
            ConfigError: the folder is a file.
        """
        if target.folder.exists() and not target.folder.is_dir():
            raise ConfigError(f"{target.folder}: labelme files should go into a folder, this is a file")
        self.counts = LabelCounts(target.folder)
        self._target, self._keypoint_conf, self._model = target, keypoint_conf, model

    def put(self, image: Path, relative: Path, size_wh: tuple[int, int], predictions: list[Prediction]) -> Outcome:
        """Write what was found on an image, beside it.

        Args:
            image: the file.
            relative: where it belongs below the folder; the image is copied there if it is not there.
            size_wh: its width and height in pixels, upright.
            predictions: pixels.

        Returns:
            What was done.

        Raises:
            AnnotationError: another image has this name, or this JSON, in the folder.
        """
        place = self._target.folder / relative
        target = place.with_suffix(".json")
        before = read_if_there(target)
        if before is not None and not is_replaceable(before, place.name):
            self.counts.kept.append(target.relative_to(self._target.folder).as_posix())
            return "kept"
        if not predictions:
            self.counts.nothing += 1
            return "nothing"
        _check_place(image, place)
        document = to_machine_document(
            predictions, place.name, size_wh, self._target.options, self._keypoint_conf, self._model
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            with _beside(place) as temporary:
                shutil.copyfile(image, temporary)
                put_if_absent(temporary, place)
        content = json.dumps(document, ensure_ascii=False, indent=2).encode()
        if not write_over(target, content, before):
            self.counts.kept.append(target.relative_to(self._target.folder).as_posix())
            return "kept"
        self.counts.written += 1
        return "written"


def read_if_there(path: Path) -> bytes | None:
    """Read a file; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def is_replaceable(content: bytes, image_name: str) -> bool:
    """Tell whether a labelme file is a model's alone, so that a newer one may take its place.

    Args:
        content: of the file.
        image_name: of the image that it would be written for.

    Returns:
        False where a person drew, moved, renamed, deleted all or confirmed, and where it cannot be read.

    Raises:
        AnnotationError: it is of another image.
    """
    try:
        file = parse_labelme(content)
    except LabelmeError:
        return False
    if not file.shapes or len(find_untouched(file)) < len(file.shapes):
        return False
    of = (file.image_path or "").replace("\\", "/").rpartition("/")[2]
    if of != image_name:
        raise AnnotationError(f"its JSON would be {of}'s as well; rename one of the two images")
    return True


def _check_place(image: Path, place: Path) -> None:
    """Check that the image at the place is the one that was predicted on."""
    if place.exists() and not place.samefile(image) and place.read_bytes() != image.read_bytes():
        raise AnnotationError(f"{place}: another image has this name there; choose another folder")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a hidden name in a file's folder, which no reader takes for an annotation; it is gone afterwards."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def put_if_absent(temporary: Path, target: Path) -> bool:
    """Give a finished file its name, unless another one has it; return whether it got it."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # no links on this file system
        try:
            with target.open("xb") as file:
                file.write(temporary.read_bytes())
        except FileExistsError:
            return False
    return True


def write_over(target: Path, content: bytes, before: bytes | None) -> bool:
    """Write a file whole, if what is there is still what was looked at.

    Args:
        target: the file.
        content: to be written.
        before: what was there; None: nothing.

    Returns:
        False where somebody wrote meanwhile; nothing is changed then.
    """
    with _beside(target) as temporary:
        temporary.write_bytes(content)
        if before is None:
            return put_if_absent(temporary, target)
        if read_if_there(target) != before:
            return False
        temporary.replace(target)
    return True
