"""What came of a training, told apart from what a workspace has gone on to since."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import yaml

from tasks.versions.stages.lockfile import (
    Files,
    Joined,
    join_locks,
    locked_fingerprint,
    locked_folders,
    locked_outputs,
    parse_lock,
)

ORDER = ["split", "train", "validate", "export"]
RAW, CODE, PARAMS = "md5 of raw", b"code", "validate: {sigma: 0.1}\n"
FILES = {"data/raw.dvc": f"outs: [{{md5: {RAW}}}]".encode(), "code.py": CODE, "params.yaml": PARAMS.encode()}


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def split(raw: str = RAW, out: str = "splits") -> dict[str, Any]:
    return {"cmd": "split", "deps": [{"path": "data/raw", "md5": raw}], "outs": [{"path": "data/splits", "md5": out}]}


def train(splits: str = "splits", weights: str = "one") -> dict[str, Any]:
    deps = [{"path": "data/splits", "md5": splits}]
    return {"cmd": "train", "deps": deps, "outs": [{"path": "models", "md5": f"{weights}.dir"}]}


def validate(weights: str = "one", sigma: float = 0.1, code: bytes = CODE) -> dict[str, Any]:
    deps = [{"path": "models/best.pt", "md5": weights}, {"path": "code.py", "md5": md5(code)}]
    params = {"params.yaml": {"validate": {"sigma": sigma}, "validate.sigma": sigma}}
    return {"cmd": "validate", "deps": deps, "params": params, "outs": [{"path": "m.json", "md5": weights}]}


def lock(**stages: dict[str, Any]) -> str:
    return yaml.safe_dump({"schema": "2.0", "stages": stages})


FOLDERS = {f"{name}.dir": {"best.pt": name} for name in ("one", "two")}


def join(begun: str, now: str) -> Joined:
    return join_locks(begun, now, ORDER, "train", Files(FILES.get, names), FOLDERS)


def names(folder: str) -> list[str]:
    return [path.removeprefix(f"{folder}/") for path in FILES if path.startswith(f"{folder}/")]


def test_an_ended_run_has_the_lock_of_the_workspace_byte_for_byte() -> None:
    begun = lock(split=split(), train=train(weights="two"), validate=validate("two"))
    now = "# as DVC writes it\n" + lock(split=split(), train=train(), validate=validate())
    assert join(begun, now) == Joined(now, frozenset({"train", "validate"}), frozenset({"train", "validate"}))


@pytest.mark.parametrize(
    ("begun", "now", "stages"),
    [
        # the stages after the training are still those of the training before
        (
            lock(split=split(), train=train(weights="two"), validate=validate("two")),
            lock(split=split(), train=train(), validate=validate("two")),
            {"split": split(), "train": train()},
        ),
        # the data are others already
        (
            lock(split=split()),
            lock(split=split("newer", "other splits"), train=train(), validate=validate()),
            {"split": split(), "train": train(), "validate": validate()},
        ),
        # the weights were validated again, with other parameters and with other code than the run's
        (
            lock(split=split(), train=train(), validate=validate()),
            lock(split=split(), train=train(), validate=validate(sigma=0.2)),
            {"split": split(), "train": train(), "validate": validate()},
        ),
        (
            lock(split=split(), train=train()),
            lock(split=split(), train=train(), validate=validate(code=b"other")),
            {"split": split(), "train": train()},
        ),
        # nothing was locked before
        ("", lock(split=split(), train=train()), {"split": split(), "train": train()}),
    ],
)
def test_only_what_is_the_trainings_is_taken(begun: str, now: str, stages: dict[str, Any]) -> None:
    joined = join(begun, now)
    assert parse_lock(joined.text) == stages
    assert joined.stages == stages.keys() - {"split"}
    assert joined.current == {name for name in joined.stages if parse_lock(now)[name] == stages[name]}


def test_outputs_and_fingerprints() -> None:
    text = lock(split=split(), train=train())
    assert locked_outputs(text) == {"data/splits": "splits", "models": "one.dir"}
    assert locked_folders(text, lock(train=train(weights="two"))) == {"one.dir", "two.dir"}
    assert locked_fingerprint(text, "train") == locked_fingerprint(lock(train=train(weights="two")), "train")
    assert locked_fingerprint(text, "train") != locked_fingerprint(lock(train=train("other")), "train")
    assert locked_fingerprint(text, "export") is None


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD", "[]", "stages: words"])
def test_a_text_that_is_no_lock_file_holds_nothing(text: str) -> None:
    assert parse_lock(text) == {}
    assert locked_fingerprint(text, "train") is None
