"""The model that is in use: its file, and which images it has not learnt from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from keypipe.errors import ConfigError, ModelError
from keypipe.splits.manifest import USED, Manifest, read_manifest
from tasks.registry.moves.aliases import open_registry, read_state
from tasks.registry.moves.history import CHAMPION
from tasks.retraining.made_of import read_version_manifest
from tasks.workspace.models import read_run_id
from tasks.workspace.places import MANIFEST, ONNX

_PACKED_ONNX = "artifacts/model.onnx"


class ModelInUse(msgspec.Struct, frozen=True):
    """A model, and where each image was when it learnt.

    Attributes:
        name: as it is told, such as ``v3 of cows``.
        version: number of the registered version; "" of an export that is not registered.
        sha256: hash of its file.
        onnx: the file.
        splits: splits of every image by its md5.
        run: the MLflow run of its training; "" where it is not known.
    """

    name: str
    version: str
    sha256: str
    onnx: bytes
    splits: dict[str, set[str]]
    run: str = ""

    def heldout(self, md5: str, splits: set[str]) -> bool:
        """Tell whether an image lies in some splits alone, and was there when the model learnt."""
        there = self.splits.get(md5, set())
        return bool(there) and there <= splits


def find_model_in_use(root: Path) -> ModelInUse:
    """Find the champion; the export as long as no version was ever registered, as ``keypipe serve`` does.

    Raises:
        ConfigError: versions are registered, and none is in use; or it is not known what the champion learnt from.
        ModelError: there is no model.
        PoseError: the registry does not answer.
    """
    registry = open_registry(root)
    state = read_state(root)
    if registry.untouched or not state.versions:
        path = root / ONNX
        if not path.is_file():
            raise ModelError(f"no model here: {ONNX} is not there, and none is registered; `keypipe run` makes one")
        content = path.read_bytes()
        splits = _splits(read_manifest(root / MANIFEST))
        return ModelInUse(f"the export ({ONNX})", "", _sha256(content), content, splits, read_run_id(root))
    number = state.aliases.get(CHAMPION)
    version = next((version for version in state.versions if version.number == number), None)
    if version is None:
        raise ConfigError(
            f"no version of {registry.name} is in use; `keypipe promote VERSION --why …` puts one into use"
        )
    found = registry.read_file(version.number, _PACKED_ONNX)
    if found is None:
        raise ModelError(f"the files of v{version.number} of {registry.name} are gone from MLflow's artifacts")
    manifest = read_version_manifest(root, registry, version)
    if manifest is None:
        raise ConfigError(
            f"which images v{version.number} of {registry.name} learnt from is not known here, so nothing can be"
            " compared with what it has not seen; register it again, or train anew"
        )
    return ModelInUse(
        f"v{version.number} of {registry.name}",
        version.number,
        _sha256(found),
        found,
        _splits(manifest),
        version.tags.get("keypipe.run", ""),
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _splits(manifest: Manifest) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in manifest.lines:
        if line.split and line.state == USED:
            found.setdefault(line.md5, set()).add(line.split)
    return found
