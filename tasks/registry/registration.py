"""Registering a trained model as a version, with all that one should know of it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, ImageOps

from keypipe.dataset.coco import parse_coco
from keypipe.errors import ConfigError, ModelError
from keypipe.keypoints.skeleton import Schema
from tasks.registry.card import FILE, to_card, to_description
from tasks.registry.facts import Facts, Read, gather
from tasks.registry.moves import history
from tasks.registry.moves.aliases import challenge, open_registry
from tasks.registry.moves.history import CHALLENGER, CHAMPION
from tasks.registry.moves.lease import hold
from tasks.tracking.history import try_show
from tasks.tracking.models.packaging import save_package
from tasks.tracking.models.registry import Registry, Version, to_tags
from tasks.tracking.tags import REGISTERED
from tasks.versions import git, snapshots
from tasks.versions.stages.state import stage_version
from tasks.versions.store import opened_commit
from tasks.workspace.places import ANNOTATIONS, LOCK, MANIFEST, ONNX
from tasks.workspace.program import write_json

CLASSES = "keypipe.classes"
WORKSPACE = "keypipe.workspace"
WHO = "keypipe.registered_by"
GATE = "keypipe.gate."
SETTLED = "keypipe.settled"
LINEAGE_FILE = "lineage.json"
KEPT_FILES = (LOCK, MANIFEST)
"""What else of the workspace lies in a version's folder: what each stage ran on, and which image is in which split."""

_EXAMPLE_PX = 640
_OF_THE_MODEL = ("validate", "export")


class Registered(msgspec.Struct, frozen=True):
    """A version that was registered.

    Attributes:
        name: of the registered model.
        version: its number.
        new: False where this model was registered before.
        headline: its figures.
    """

    name: str
    version: str
    new: bool
    headline: str


def register(
    root: Path,
    *,
    commit: str = "",
    why: str = "",
    who: str = "",
    gate: Mapping[str, str] | None = None,
    challenger: bool = True,
) -> Registered:
    """Register the workspace's model, or that of a snapshot, as a version.

    A model is registered once: the same export of the same training keeps the version that it has.

    Args:
        root: the workspace.
        commit: the snapshot; default: the workspace as it is, whose validate and export must be up to date.
        why: the reason, for the history.
        who: who does it; default: the user of this process.
        gate: what the comparison with the model in use found; the card and the version's tags have it.
        challenger: let the alias ``challenger`` name the version.

    Raises:
        ModelError: there is no export, or it is not the one of the trained model.
        ConfigError: the registered model is another workspace's.
        PoseError: the server does not answer.
    """
    who = who or history.me()
    with _files(root, commit) as read:
        facts = _gather(root, read, commit)
        registry = open_registry(root)
        # The id under which this server knows the training; it may be another one than the training had when it ran.
        run_id = registry.find_training(facts.training.record.fingerprint)
        facts = msgspec.structs.replace(facts, run_id=run_id)
        _introduce(registry, root, facts.info.schema)
        with hold(registry, "registration", who):
            known = _find(registry.versions(), facts)
            number = known or _add(registry, read, facts, who, gate or {})
    if not known:
        try_show(root, run_id, {REGISTERED: f"v{number} of {registry.name}"})
    if challenger and number not in {registry.aliases().get(alias) for alias in (CHALLENGER, CHAMPION)}:
        challenge(root, number, why, who)
    return Registered(registry.name, number, not known, facts.headline())


def tag_gate(root: Path, version: str, gate: Mapping[str, str]) -> None:
    """Write what the gate found into the tags of a version that is registered already; it is not settled yet."""
    tags = {f"{GATE}{key}": value for key, value in to_tags(gate).items()}
    open_registry(root).tag_version(version, {**tags, SETTLED: ""})


def mark_settled(root: Path, version: str) -> None:
    """Write down that what the gate said of a version has been carried out, and when."""
    open_registry(root).tag_version(version, {SETTLED: datetime.now(UTC).isoformat(timespec="milliseconds")})


@contextmanager
def _files(root: Path, commit: str) -> Iterator[Read]:
    if commit:
        with opened_commit(root, commit) as read:
            yield read
        return
    stale = {stage: stage_version(root, stage).changes for stage in _OF_THE_MODEL}
    changed = [f"{stage} ({', '.join(changes[:3])})" for stage, changes in stale.items() if changes]
    if changed:
        raise ModelError(
            f"what the workspace has is not of one make: {'; '.join(changed)}; `keypipe run` brings it up to date"
        )

    def read_now(path: str) -> bytes | None:
        return (root / path).read_bytes() if (root / path).is_file() else None

    yield read_now


def _gather(root: Path, read: Read, commit: str) -> Facts:
    if not commit and git.is_repository(root):
        settled = snapshots.settle(root)
        return gather(read, settled.commit if settled else "")
    return gather(read, commit)


def _introduce(registry: Registry, root: Path, schema: Schema) -> None:
    """Make the registered model, or check that the one of that name is this workspace's.

    Raises:
        ConfigError: its classes are others, all of them.
    """
    classes = ", ".join(schema.class_names)
    tags = {CLASSES: classes, WORKSPACE: root.resolve().name}
    registry.create(f"Keypoints of {classes}. Versions, aliases and their history are kept by keypipe.", tags)
    there = registry.read_tags().get(CLASSES)
    if there and not {*there.split(", ")} & {*schema.class_names}:
        raise ConfigError(
            f"the registered model {registry.name} is of the classes {there}, this workspace has {classes}; give"
            " registry.model in params.yaml a name that no other workspace uses"
        )


def _find(versions: list[Version], facts: Facts) -> str:
    same = {"keypipe.run": facts.run_id, "keypipe.onnx_sha256": facts.onnx_sha256}
    return next((v.number for v in versions if same.items() <= v.tags.items()), "")


def _add(registry: Registry, read: Read, facts: Facts, who: str, gate: Mapping[str, str]) -> str:
    card = to_card(facts, registry.name, gate)
    lineage = facts.lineage()

    def save(folder: Path) -> None:
        network = folder.with_name(ONNX.name)
        network.write_bytes(read(ONNX.as_posix()) or b"")
        save_package(folder, network, _example(read), lineage)
        (folder / FILE).write_text(card, encoding="utf-8")
        write_json(folder / LINEAGE_FILE, {**lineage, "gate": dict(gate)})
        for path in KEPT_FILES:
            if (content := read(path.as_posix())) is not None:
                (folder / path.name).write_bytes(content)

    tags = facts.tags() | {WHO: who} | {f"{GATE}{key}": value for key, value in to_tags(gate).items()}
    return registry.add_version(facts.run_id, save, to_description(card), tags)


def _example(read: Read) -> bytes:
    """Return an image of the val split, not larger than needed, as a JPEG file; without one, an even area."""
    content = read((ANNOTATIONS / "val.json").as_posix())
    file = parse_coco(content) if content else None
    seen = {one.image_id for one in file.annotations} if file else set()
    names = [image.file_name for image in file.images if image.id in seen] if file else []
    image: Any = Image.new("RGB", (64, 64), (128, 128, 128))
    encoded = read(f"data/{names[0]}") if names else None
    if encoded:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
        image.thumbnail((_EXAMPLE_PX, _EXAMPLE_PX))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=90)
    return written.getvalue()
