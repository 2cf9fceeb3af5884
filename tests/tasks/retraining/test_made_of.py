"""How a workspace differs from what a version was made of."""

from __future__ import annotations

from pathlib import Path

from tasks.retraining.made_of import find_change, note_same
from tasks.tracking.models.registry import Registry
from tasks.versions.raw import version_raw
from tests.flows.toy import make_workspace, write_raw
from tests.tasks.tracking.models.test_registry import register_file


def changed_images(root: Path, registry: Registry) -> int | None:
    (version,) = registry.versions()
    return find_change(root, registry, version, lambda _name, before, now: bool(before == now)).images


def test_data_that_gave_the_same_model_count_as_the_versions_own(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "cows")
    registry, number = register_file(root)
    registry.tag_version(number, {"keypipe.data": version_raw(root).md5})
    assert changed_images(root, registry) == 0
    for name in ("0.json", "1.json"):
        write_raw(root, name, label="calf")
    data = version_raw(root).md5
    assert changed_images(root, registry) == 2
    note_same(root, number, data)
    assert changed_images(root, registry) == 0
    write_raw(root, "2.json", label="calf")
    version_raw(root)
    assert changed_images(root, registry) == 1
