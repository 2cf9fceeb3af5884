"""What models say of images that they have not learnt from: one training a fold, kept until what decides it changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml.comments import CommentedMap

from keypipe.dataset.coco import to_images
from keypipe.errors import AnnotationError, ConfigError
from keypipe.images.depth import DEPTHS
from keypipe.images.media import read_image
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.inference.results import round_prediction
from keypipe.keypoints.predictions import Prediction
from keypipe.keypoints.skeleton import Schema
from keypipe.ranking.suspects import Seen
from tasks.engine.door import inference
from tasks.engine.door.training import Epoch, TrainJob, engine
from tasks.grading.augmentation import DEFAULT_AUGMENTATION, StrengthCourse
from tasks.grading.epochs import make_scorer
from tasks.grading.loss_sigma import SigmaCourse
from tasks.grading.rules import GradingParams, to_grading
from tasks.progress import Progress, follow
from tasks.train import TrainParams, count_instances
from tasks.versions.weights import check_kept
from tasks.workspace import params as read
from tasks.workspace.dataset import read_depth, read_schema, read_split, refresh_view
from tasks.workspace.places import ANNOTATIONS, DATA_YAML, DERIVED, FOLDS, RAW, STATE, VIEW_YAML
from tasks.workspace.program import write_json
from tasks.workspace.scratch import remove

HELD_OUT = STATE / "held_out"
FOUND = "predictions.json"
CONF = 0.1
"""Smallest score of an object that is kept; who compares chooses a larger one."""

_decode = msgspec.json.Decoder(dict[str, list[Prediction]]).decode


def predict_held_out(root: Path, progress: Progress, epochs: int | None = None) -> list[Seen]:
    """Predict on every image with a model that has not learnt from it.

    For each fold that split dealt, a model is trained on the others, as the section ``train`` says; its last weights
    predict on the fold, since the best ones would be chosen by it. The images of test, which no fold holds, are
    predicted on by the first fold's. What is done already is not done again, and a training that was stopped goes on.

    Args:
        root: the workspace.
        progress: is told how far it is.
        epochs: of each training, instead of ``train.epochs``.

    Raises:
        ConfigError: there are no folds, or the parameters are wrong.
        PoseError: a training fails.
    """
    document = read.read_params(root)
    folds = sorted((path for path in (root / FOLDS).glob("*") if path.is_dir()), key=lambda path: int(path.name))
    if len(folds) < 2:
        raise ConfigError("no folds in the dataset; `keypipe run --set split.folds=5 --until split` deals them")
    params = read.load_section(document, "train", TrainParams)
    arguments = {**params.arguments, **({"epochs": epochs} if epochs else {})}
    check_kept(root, {"model": params.model, **arguments})
    local = read.read_local(root)
    engine().configure(root, local.threads)
    schema = read_schema(root)
    plan = _Plan(document, params, arguments, local, schema, read_depth(root))
    seen: list[Seen] = []
    kept: set[Path] = set()
    for number, fold in enumerate(folds, start=1):
        what = f"fold {number} of {len(folds)}"
        folder = root / HELD_OUT / _key(root, fold, plan)
        kept.add(folder)
        if not (folder / FOUND).exists():
            _train_and_predict(root, fold, folder, plan, with_test=number == 1, what=what, progress=progress)
        found = _decode((folder / FOUND).read_bytes())
        for split in ("val", "test") if number == 1 else ("val",):
            images = to_images(read_split(folder, split))
            seen += [Seen(image, found[image.path]) for image in images if image.path in found]
    for folder in (root / HELD_OUT).iterdir():
        if folder not in kept:
            remove(folder)
    return sorted(seen, key=lambda item: item.image.path)


class _Plan(msgspec.Struct, frozen=True):
    """What all folds have in common."""

    document: CommentedMap
    params: TrainParams
    arguments: dict[str, Any]
    local: read.Local
    schema: Schema
    depth: str


def _key(root: Path, fold: Path, plan: _Plan) -> str:
    """Return what names a training: its data and what decides what it learns."""
    digest = hashlib.sha256()
    for path in (*sorted((fold / "annotations").glob("*.json")), root / ANNOTATIONS / "test.json", root / DATA_YAML):
        digest.update(path.read_bytes())
    # What is kept from before there were these parameters stays good.
    new = {"augmentation": DEFAULT_AUGMENTATION, "paste": 0.0}
    unset = {name for name, default in new.items() if getattr(plan.params, name) == default}
    own = plan.params.model_dump(mode="json", exclude=unset) | plan.arguments
    digest.update(json.dumps([own, read.load_seed(plan.document), plan.depth], sort_keys=True, default=str).encode())
    return f"{fold.name}-{digest.hexdigest()[:16]}"


def _train_and_predict(
    root: Path, fold: Path, folder: Path, plan: _Plan, *, with_test: bool, what: str, progress: Progress
) -> None:
    """Train on the other folds in a workspace of its own that shares the images, and predict on this one."""
    _lay_out(root, fold, folder)
    refresh_view(folder)
    job = _to_job(folder, root, plan)
    total = int(plan.arguments.get("epochs", 0))

    def on_epoch(epoch: Epoch) -> None:
        progress(f"epochs of {what}", epoch.number, epoch.total)

    progress(f"epochs of {what}", 0, total)
    trained = engine().train(msgspec.structs.replace(job, on_epoch=on_epoch))
    raw_model, info = inference.engine().load_torch_model(trained.last, _device(plan.local))
    # A bare checkpoint of a training knows neither edges nor pairs, and calls keypoints by number.
    predictor = Predictor(raw_model, msgspec.structs.replace(info, schema=plan.schema))
    depth = next(depth for depth in DEPTHS if depth == plan.depth)
    found: dict[str, list[Prediction]] = {}
    splits = ("val", "test") if with_test else ("val",)
    paths = [image.file_name for split in splits for image in read_split(folder, split).images]
    for path in follow(paths, f"images of {what}", progress):
        try:
            image = read_image(folder / "data" / path, depth)
        except AnnotationError:
            continue
        predictions = predictor.predict_image(image, Thresholds(conf=CONF))
        found[path] = [round_prediction(item) for item in predictions]
    write_json(folder / FOUND, found)
    remove(job.scratch)


def _device(local: read.Local) -> str | None:
    return None if local.device is None else str(local.device)


def _lay_out(root: Path, fold: Path, folder: Path) -> None:
    """Make a workspace of a fold: its labels, and links to the images."""
    (folder / ANNOTATIONS).mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        (folder / ANNOTATIONS / f"{split}.json").write_bytes((fold / f"annotations/{split}.json").read_bytes())
    (folder / ANNOTATIONS / "test.json").write_bytes((root / ANNOTATIONS / "test.json").read_bytes())
    (folder / DATA_YAML).write_bytes((root / DATA_YAML).read_bytes())
    for images in (RAW, DERIVED):
        link = folder / images
        if not link.is_symlink() and (root / images).exists():
            link.symlink_to((root / images).resolve(), target_is_directory=True)


def _to_job(folder: Path, root: Path, plan: _Plan) -> TrainJob:
    splits = {split: read_split(folder, split) for split in ("train", "val")}
    grading = read.load_section(plan.document, "validate", GradingParams)
    fixed: dict[str, Any] = {"seed": read.load_seed(plan.document), "plots": False}
    if not plan.schema.has_pairs and not plan.params.symmetric:
        fixed["fliplr"] = 0.0
    model = root / plan.params.model
    return TrainJob(
        model=str(model.resolve()) if model.exists() else plan.params.model,
        schema=plan.schema,
        data=folder.resolve() / VIEW_YAML,
        arguments={**plan.arguments, **fixed},
        device=plan.local.device,
        workers=plan.local.workers,
        cache=plan.local.cache,
        scratch=(folder / "train").resolve(),
        instances={split: count_instances(file) for split, file in splits.items()},
        loss_sigma=SigmaCourse(plan.params.loss_sigma, len(plan.schema.slots)),
        best_by=plan.params.best_by,
        score=make_scorer(to_grading(grading, plan.schema, root), grading.conf, splits["val"], plan.schema),
        new_head=plan.params.new_head,
        augmentation=StrengthCourse(plan.params.augmentation),
        paste=plan.params.paste,
    )
