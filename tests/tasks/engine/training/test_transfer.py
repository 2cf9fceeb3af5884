"""A network that starts from weights of another schema says of every keypoint that it keeps what the weights say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keypipe.errors import ModelError
from keypipe.keypoints.skeleton import Schema, parse_schema, schema_to_mapping
from tasks.engine.settings import configure
from tasks.engine.training.transfer import match_keypoints
from tests.pose_checkpoint import SIDE_PX, write_random_checkpoint

BEFORE = ("nose", "left_ear", "right_ear", "withers", "tail", "hoof", "hip", "knee")
SCHEMAS = {
    "in another order": ("right_ear", "hip", "nose", "tail", "left_ear", "knee", "hoof", "withers"),
    "two added, which widens the head": (*BEFORE[:3], "chin", *BEFORE[3:], "horn"),
    "two removed, whose head would be narrower": tuple(name for name in BEFORE if name not in {"left_ear", "hip"}),
    "all but three removed": ("tail", "withers", "nose"),
    "one renamed in its place": ("snout", *BEFORE[1:]),
    "added, removed and moved": ("knee", "chin", "nose", "right_ear", "horn", "brow", "mouth", "back", "tail", "rump"),
}


@pytest.fixture(autouse=True)
def _configured(tmp_path: Path) -> None:
    configure(tmp_path / "settings")


def make_schema(keypoints: Sequence[str], classes: Sequence[str] = ("cow",)) -> Schema:
    return parse_schema({"classes": {name: {"keypoints": list(keypoints)} for name in classes}})


def write_weights(path: Path, keypoints: Sequence[str] = BEFORE, classes: Sequence[str] = ("cow",)) -> Path:
    """Write weights as train leaves them, with their schema."""
    from tasks.engine.weights import write_checkpoint

    write_random_checkpoint(path, classes, keypoints)
    write_checkpoint(path, path, {"schema": schema_to_mapping(make_schema(keypoints, classes))})
    return path


def start(weights: Path, schema: Schema, *, new_head: bool = False) -> tuple[Any, Any]:
    """Return the network of the weights, and the one that a training would begin with."""
    import torch

    from tasks.engine.training.run import load_start
    from tasks.engine.training.trainer import Trainer

    loaded, transfer = load_start(str(weights), schema, new_head=new_head)
    trainer = Trainer.__new__(Trainer)  # a trainer's own start reads a dataset
    trainer.transfer, trainer.args = transfer, SimpleNamespace()
    names = dict(enumerate(schema.class_names))
    trainer.data = {"nc": len(names), "names": names, "channels": 3, "kpt_shape": [len(schema.slots), 3]}
    torch.manual_seed(1)
    return loaded.model, trainer.get_model(cfg=loaded.model.yaml, weights=loaded.model, verbose=False)


def see(network: Any, n_classes: int) -> tuple[Any, Any]:
    """Return what a network finds: boxes and scores (4 + n_classes, n_anchors), keypoints (n_slots, 3, n_anchors)."""
    import torch

    torch.manual_seed(2)
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 20), (SIDE_PX, SIDE_PX))
    with torch.no_grad():
        found = network.float().eval()(images)[0][0].numpy()
    return found[: 4 + n_classes], found[4 + n_classes :].reshape(-1, 3, found.shape[1])


@pytest.mark.parametrize("keypoints", SCHEMAS.values(), ids=SCHEMAS)
def test_kept_keypoints_are_where_the_weights_put_them(tmp_path: Path, keypoints: Sequence[str]) -> None:
    champion, network = start(write_weights(tmp_path / "best.pt"), make_schema(keypoints))
    boxes, points = see(champion, 1)
    new_boxes, new_points = see(network, 1)
    assert len(new_points) == len(keypoints)
    np.testing.assert_array_equal(new_boxes, boxes)
    for slot, name in enumerate(keypoints):
        if name in BEFORE:
            before = points[BEFORE.index(name)]
            # A wider layer adds up more terms, all of them 0; the kernel may add them in another order.
            np.testing.assert_allclose(new_points[slot], before, atol=1e-4 * np.abs(points).max(), err_msg=name)
        else:
            away = [float(np.abs(new_points[slot] - other).max()) for other in points]
            assert min(away) > 1, f"{name} is new, and no copy of another"
    assert all(parameter.requires_grad for parameter in network.model[-1].cv4.parameters())


def test_the_same_schema_gives_the_bits_that_ultralytics_gives(tmp_path: Path) -> None:
    import torch
    from ultralytics.models.yolo.pose import PoseTrainer

    weights = write_weights(tmp_path / "best.pt")
    champion, network = start(weights, make_schema(BEFORE))
    plain = PoseTrainer.__new__(PoseTrainer)
    plain.args = SimpleNamespace()
    plain.data = {"nc": 1, "names": {0: "cow"}, "channels": 3, "kpt_shape": [8, 3]}
    torch.manual_seed(1)
    expected = plain.get_model(cfg=champion.yaml, weights=champion, verbose=False)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    start(weights, make_schema(BEFORE))
    assert torch.equal(torch.rand(3), drawn), "nothing more is drawn"
    assert network.state_dict().keys() == expected.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


def test_a_head_that_is_wider_than_its_number_of_keypoints_asks_for_stays_so(tmp_path: Path) -> None:
    """Three keypoints keep the hidden layers of eight; the next training starts from those, and loses nothing."""
    import torch

    _, network = start(write_weights(tmp_path / "best.pt"), make_schema(BEFORE[:3]))
    assert network.model[-1].cv4[0][0].conv.out_channels == 3 * len(BEFORE)
    network.args, network.task = {"imgsz": SIDE_PX, "task": "pose"}, "pose"
    description = {"schema": schema_to_mapping(make_schema(BEFORE[:3]))}
    torch.save({"model": network.half(), "train_args": network.args, "keypipe": description}, tmp_path / "next.pt")
    champion, again = start(tmp_path / "next.pt", make_schema(BEFORE[:3]))
    for one, other in zip(see(champion, 1), see(again, 1), strict=True):
        np.testing.assert_array_equal(one, other)


def test_classes_keep_their_scores_by_name(tmp_path: Path) -> None:
    weights = write_weights(tmp_path / "best.pt", BEFORE, ("cow", "dog", "horse"))
    champion, network = start(weights, make_schema(SCHEMAS["in another order"], ("horse", "goat", "cow")))
    boxes, new_boxes = see(champion, 3)[0], see(network, 3)[0]
    np.testing.assert_allclose(new_boxes[[0, 1, 2, 3, 4, 6]], boxes[[0, 1, 2, 3, 6, 4]], rtol=1e-5)
    assert np.abs(new_boxes[5] - boxes[5]).max() > 0.01


def test_heads_of_yolo26_are_taken_over_as_well() -> None:
    import torch
    from ultralytics.nn.tasks import PoseModel

    from tasks.engine.training.transfer import adopt_keypoints

    torch.manual_seed(0)
    keypoints = SCHEMAS["two added, which widens the head"]
    old, new = (
        PoseModel("yolo26n-pose.yaml", ch=3, nc=1, data_kpt_shape=(n, 3), verbose=False)
        for n in (len(BEFORE), len(keypoints))
    )
    new.load(old, verbose=False)
    adopt_keypoints(new, old, match_keypoints(BEFORE, keypoints).places)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before, after = old.train()(images), new.train()(images)
    for branch in ("one2many", "one2one"):
        for name, values in (("kpts", 3), ("kpts_sigma", 2)):
            one = before[branch][name].reshape(len(BEFORE), values, -1)
            other = after[branch][name].reshape(len(keypoints), values, -1)
            for slot, keypoint in enumerate(keypoints):
                if keypoint in BEFORE:
                    torch.testing.assert_close(other[slot], one[BEFORE.index(keypoint)])


def test_weights_without_a_common_keypoint_are_refused(tmp_path: Path) -> None:
    weights, schema = write_weights(tmp_path / "best.pt"), make_schema(["a", "b"])
    with pytest.raises(ModelError, match=r"best.pt knows none of the dataset's keypoints \(it has nose, left_ear"):
        start(weights, schema)
    start(weights, schema, new_head=True)


def test_weights_that_do_not_say_what_their_keypoints_are(tmp_path: Path) -> None:
    from tasks.engine.training.run import load_start

    weights = write_random_checkpoint(tmp_path / "other.pt", ("cow",), BEFORE)
    assert load_start(str(weights), make_schema(BEFORE[::-1]), new_head=False)[1] is None
    with pytest.raises(ModelError, match=r"is for 8 keypoints, the dataset has 3, and it does not say which"):
        load_start(str(weights), make_schema(BEFORE[:3]), new_head=False)


def test_what_is_kept_new_and_left_out() -> None:
    found = match_keypoints(BEFORE, SCHEMAS["one renamed in its place"])
    assert found.places == (None, 1, 2, 3, 4, 5, 6, 7)
    assert str(found) == "7 of 8 by name; new: snout; left out: nose"
    assert found.changes
    assert not match_keypoints(BEFORE, BEFORE).changes
    assert match_keypoints(BEFORE, BEFORE[:3]).changes
    assert match_keypoints(BEFORE, BEFORE[::-1]).changes
