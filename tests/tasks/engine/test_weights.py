"""Equal weights hash equally, whatever else their files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keypipe.errors import ModelError
from tasks.engine.settings import configure


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    configure(tmp_path / "settings")


def checkpoint(path: Path, *, date: str, key: str = "model", change: Any = None) -> Path:
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).half()
    with torch.no_grad():
        if change is not None:
            change(model)
    torch.save({"date": date, "model": None, "ema": None, key: model}, path)
    return path


def test_equal_weights_in_files_that_differ(tmp_path: Path) -> None:
    from tasks.engine.weights import hash_weights

    one = checkpoint(tmp_path / "one.pt", date="today")
    two = checkpoint(tmp_path / "two.pt", date="tomorrow", key="ema")
    assert one.read_bytes() != two.read_bytes()
    assert hash_weights(one) == hash_weights(two)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model[0].weight[0, 0, 0, 0].add_(0.001),
        lambda model: model[1].running_mean[3].add_(0.001),
        lambda model: model.float(),
    ],
    ids=["a weight", "a buffer", "the type"],
)
def test_every_tensor_counts(tmp_path: Path, change: Any) -> None:
    from tasks.engine.weights import hash_weights

    one, two = checkpoint(tmp_path / "one.pt", date=""), checkpoint(tmp_path / "two.pt", date="", change=change)
    assert hash_weights(one) != hash_weights(two)


@pytest.mark.parametrize("content", [b"", b"words", None])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: bytes | None) -> None:
    from tasks.engine.weights import hash_weights

    path = tmp_path / "model.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match="not a checkpoint whose weights can be read"):
        hash_weights(path)
