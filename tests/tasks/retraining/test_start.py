"""The weights of the version in use, where a training starts from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from keypipe.errors import ConfigError, ModelError
from tasks.registry.moves.aliases import open_registry, promote
from tasks.registry.registration import register
from tasks.retraining.start import NOTE, PLACE, Fetched, fetch_champion, starts_from_champion
from tasks.retraining.upstream import own_files
from tasks.tracking.history import remove_run
from tasks.versions.weights import check_kept
from tests.registered import train_again
from tests.tasks.registry.conftest import _own_tracking, registrable, registrable_once  # noqa: F401 - fixtures
from tests.workspace import set_params


def test_they_are_those_of_the_version_in_use_and_follow_it(registrable: Path) -> None:  # noqa: F811
    root = registrable
    with pytest.raises(ConfigError, match=r"no version of farm is in use.*yolov8n-pose\.yaml for the first training"):
        fetch_champion(root)
    first = (root / "models/best.pt").read_bytes()
    register(root)
    with pytest.raises(ConfigError, match="no version of farm is in use"):
        fetch_champion(root)
    promote(root, "1", why="the first")
    assert fetch_champion(root) == Fetched("1", changed=True)
    assert (root / PLACE).read_bytes() == first
    assert fetch_champion(root) == Fetched("1", changed=False)
    check_kept(root, {"model": PLACE.as_posix()})
    (root / PLACE).unlink()
    assert fetch_champion(root).changed

    train_again(root, 3)
    second = (root / "models/best.pt").read_bytes()
    register(root)
    assert not fetch_champion(root).changed, "the second one is not in use yet"
    promote(root, "2", why="better")
    assert fetch_champion(root) == Fetched("2", changed=True)
    assert (root / PLACE).read_bytes() == second != first
    check_kept(root, {"model": PLACE.as_posix()})

    assert NOTE.as_posix() not in own_files(root)
    set_params(root, **{"train.model": PLACE.as_posix()})
    assert starts_from_champion(root)
    assert NOTE.as_posix() in own_files(root), "a retraining commits it"

    remove_run(root, open_registry(root).versions()[0].tags["keypipe.run"])
    with pytest.raises(ModelError, match=r"the weights of v2 of farm are gone from the artifacts of MLflow run"):
        fetch_champion(root)
    assert (root / PLACE).read_bytes() == second
