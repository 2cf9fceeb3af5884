"""The command weights: a file that a training is to start from, or to learn from, put where DVC keeps it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from keypipe.errors import ConfigError
from keypipe.files.atomic import replacing_file
from tasks.engine.door.inference import engine
from tasks.versions.weights import CONFIGS, MODEL, SUFFIX, TEACHER, hash_file, read_versioned, version_weights
from tasks.workspace.params import load_schema, read_params
from tasks.workspace.places import WEIGHTS

_MAX_NAME_BYTES = 200  # names of 255 are too long for the files beside them


class Taken(NamedTuple):
    """A file in its place.

    Attributes:
        key: of the section ``train`` that is to name it.
        name: by which ``params.yaml`` names it.
        about: what it is, in words.
        note: the file that git is to keep, relative to the workspace.
    """

    key: str
    name: str
    about: str
    note: str


def take_weights(root: Path, file: Path, name: str | None = None, *, teacher: bool = False) -> Taken:
    """Copy weights, or a model YAML, to ``data/weights``, and let DVC keep weights.

    Args:
        root: the workspace.
        file: wherever it is; one that lies there already is versioned as it is.
        name: its name there; default: its own.
        teacher: weights that the training learns from as well, which need not be those of a pose model.

    Raises:
        PoseError: it cannot be loaded, is no pose model, or other weights have its name. Nothing was copied then.
    """
    name = name or file.name
    _check_name(file, name, teacher=teacher)
    engine().configure(root)
    about = _describe(root, file, teacher=teacher)
    place = root / WEIGHTS / name
    known = hash_file(place) if place.exists() else read_versioned(place)
    if known not in (None, hash_file(file)):
        raise ConfigError(f"{WEIGHTS / name}: another file has this name; `--name` gives this one another")
    if not place.exists():
        with replacing_file(place) as temporary:
            shutil.copyfile(file, temporary)
    note = WEIGHTS / name
    if place.suffix == SUFFIX:
        version_weights(root, place)
        note = note.with_name(f"{name}.dvc")
    return Taken(TEACHER if teacher else MODEL, (WEIGHTS / name).as_posix(), about, note.as_posix())


def _check_name(file: Path, name: str, *, teacher: bool) -> None:
    known = (SUFFIX,) if teacher else (SUFFIX, *CONFIGS)
    if file.suffix not in known:
        raise ConfigError(f"{file}: expected {' or '.join(known)}")
    is_plain = name.isprintable() and name == name.strip() and len(name.encode()) <= _MAX_NAME_BYTES
    if not is_plain or Path(name).name != name or Path(name).suffix != file.suffix or name.startswith("."):
        raise ConfigError(
            f"--name {name if name.isprintable() else ascii(name)}: expected a name on one line that ends in"
            f" {file.suffix}, without a folder, of {_MAX_NAME_BYTES} bytes at most"
        )


def _describe(root: Path, file: Path, *, teacher: bool) -> str:
    size = f"{file.stat().st_size / 1e6:.1f} MB"
    if teacher:
        return f"weights to learn from, {size}, state dict {engine().hash_weights(file)[:12]}"
    found, wanted = engine().count_keypoints(file), len(load_schema(read_params(root)).slots)
    what = f"weights, {size}," if file.suffix == SUFFIX else "a model YAML"
    other = "" if found == wanted or file.suffix in CONFIGS else f" (the schema has {wanted})"
    return f"{what} for {found} keypoints{other}"
