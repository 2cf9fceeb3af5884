"""Champion and challenger on the same frozen test images: which images may judge, what the models see, what differs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from keypipe.dataset.coco import CocoCategory, CocoFile, CocoImage, to_categories
from keypipe.errors import DatasetError, PoseError
from keypipe.evaluation.matching import Detection
from keypipe.gate.common import Predictions, reduce_to_common
from keypipe.gate.comparison import Scored, Units, measure, number_units, score
from keypipe.gate.rules import Rules
from keypipe.gate.verdict import Facts, Verdict, decide
from keypipe.images.media import read_image
from keypipe.inference.onnx_model import load_onnx_model
from keypipe.inference.parity import CANDIDATE_CONF
from keypipe.inference.predictor import Predictor, Thresholds
from keypipe.splits.manifest import Manifest, read_manifest
from keypipe.splits.power import HEADLINES
from tasks.grading.rules import Grading, GradingParams, to_grading
from tasks.progress import Progress, tell_nobody
from tasks.proofs.parity import max_detections, to_evaluation
from tasks.registry.moves import history
from tasks.registry.moves.aliases import State, open_registry
from tasks.registry.moves.history import CHAMPION
from tasks.retraining.jury import TEST, Chosen, choose_images
from tasks.retraining.made_of import read_version_manifest
from tasks.tracking.models.registry import Registry, Version
from tasks.validate import read_units
from tasks.workspace import params as read
from tasks.workspace.dataset import read_schema, read_split
from tasks.workspace.places import LATENCY, MANIFEST, ONNX, REPORT_JSON, STATE, report_folder

CHALLENGER = "challenger"
SEEN = STATE / "cache/seen"
"""What earlier champions saw on images, by the hash of the model's file: they judge week after week."""

T = TypeVar("T")

_PACKED_ONNX = "artifacts/model.onnx"


class CannotJudgeError(PoseError):
    """The models cannot be compared; a person has to say what is to be used."""


class Part(msgspec.Struct, frozen=True):
    """The headline figures of every model on a part of the test images.

    Attributes:
        title: which part.
        images: how many.
        figures: by model its figures by name; empty where the part holds nothing to measure.
    """

    title: str
    images: int
    figures: dict[str, dict[str, float]]


class Judgement(msgspec.Struct, frozen=True):
    """What came of the comparison.

    Attributes:
        verdict: of the gate.
        champion: number of the version in use; "" where none is.
        best: number of the best version that was ever in use, where that is another one.
        parts: figures on all images that judge, and on the old and the new part of a test split that has grown.
        left_out: test images that may not judge: why -> how many.
        draw: number of the draw of the splits.
        remarks: what could not be compared.
    """

    verdict: Verdict
    champion: str
    best: str
    parts: list[Part]
    left_out: dict[str, int]
    draw: int
    remarks: list[str]


class _Model(msgspec.Struct):
    """A model that is compared: what it is called, its file, and what it saw on each image, by the image's md5."""

    name: str
    categories: list[CocoCategory]
    seen: dict[str, list[Detection]]

    def predictions(self, images: Iterable[CocoImage]) -> Predictions:
        found = [msgspec.structs.replace(item, image_id=image.id) for image in images for item in self.seen[image.md5]]
        return Predictions(self.name, self.categories, found)


def judge(
    root: Path,
    state: State,
    rules: Rules,
    doctor_errors: int | None,
    progress: Progress = tell_nobody,
) -> Judgement:
    """Compare the workspace's exported model with the one in use, and ask the gate.

    Args:
        root: the workspace, whose validate and export are up to date.
        state: the registry's.
        rules: the section ``retrain.gate``.
        doctor_errors: that the doctor found in the data; None: nobody looked.
        progress: is told how far it is.

    Raises:
        CannotJudgeError: nothing can be compared.
        PoseError: the registry does not answer, or a file is damaged.
    """
    registry = open_registry(root)
    truth, own = read_split(root, TEST), read_manifest(root / MANIFEST)
    versions = {version.number: version for version in state.versions}
    champion = versions.get(state.aliases.get(CHAMPION, ""))
    document = read.read_params(root)
    params = read.load_section(document, "validate", GradingParams)
    court = _Court(root, truth, to_grading(params, read_schema(root), root), params.conf, progress)
    facts = _gather_facts(root, doctor_errors, history.count_judgements(state.entries, own.draw))
    seed = read.load_seed(document)
    manifests: dict[str, Manifest] = {}
    if champion is not None:
        manifests["champion"] = _manifest_of(root, registry, champion)
    chosen = choose_images(truth, own, manifests)
    mine = court.look(CHALLENGER, (root / ONNX).read_bytes(), [*chosen.common, *chosen.new])
    try:
        if champion is None:
            return _judge_first(court, rules, mine, chosen, facts, seed, own.draw)
        theirs = court.look("champion", _network(registry, champion), [*chosen.common, *chosen.new])
        earlier = [versions[n] for n in history.ever_champions(state.entries) if n in versions and n != champion.number]
        best = _find_best(court, registry, earlier, own, manifests, theirs) if rules.no_creep else None
        gone = [n for n in history.ever_champions(state.entries) if n not in versions]
        remarks = [f"v{number} was in use once and is deleted; nothing is compared with it" for number in gone]
        return _judge_both(court, rules, mine, theirs, best, chosen, facts, seed, own.draw, champion, remarks)
    except DatasetError as error:
        raise CannotJudgeError(str(error)) from error


def _judge_first(
    court: _Court, rules: Rules, mine: _Model, chosen: Chosen, facts: Facts, seed: int, draw: int
) -> Judgement:
    units, (scored,), left_out = court.score(chosen.common, [mine])
    verdict = decide(rules, units, scored, facts=facts, left_out=left_out, seed=seed)
    parts = [court.part("all test images", chosen.common, [mine])]
    return Judgement(verdict, "", "", parts, chosen.left_out, draw, [])


def _judge_both(
    court: _Court,
    rules: Rules,
    mine: _Model,
    theirs: _Model,
    best: _Best | None,
    chosen: Chosen,
    facts: Facts,
    seed: int,
    draw: int,
    champion: Version,
    remarks: list[str],
) -> Judgement:
    units, (challenger, reference), left_out = court.score(chosen.common, [mine, theirs])
    compared, elsewhere = None, None
    if best is not None:
        there, (again, compared), _ = court.score(best.images, [mine, best.model])
        elsewhere = there, again
    verdict = decide(
        rules,
        units,
        challenger,
        reference,
        compared,
        facts=facts,
        left_out=left_out,
        seed=seed,
        elsewhere=elsewhere,
    )
    parts = [court.part("images that judge: on the test split of both", chosen.common, [mine, theirs])]
    if chosen.new:
        parts.append(court.part("images that came to the test split since", chosen.new, [mine, theirs]))
        parts.append(court.part("both together", [*chosen.common, *chosen.new], [mine, theirs]))
    number = best.version if best is not None else ""
    return Judgement(verdict, champion.number, number, parts, chosen.left_out, draw, remarks)


class _Best(msgspec.Struct):
    """The best model that was ever in use beside the champion: its version, and the images that may judge it."""

    version: str
    model: _Model
    images: list[CocoImage]


def _find_best(
    court: _Court,
    registry: Registry,
    earlier: Sequence[Version],
    own: Manifest,
    manifests: Mapping[str, Manifest],
    champion: _Model,
) -> _Best | None:
    """Return the best of the earlier champions, on images that none of them learnt from; None where no other is better.

    An earlier version whose manifest nobody has is passed over, and so are those of which no image is left.
    """
    found = {f"v{item.number}": (item, read_version_manifest(court.root, registry, item)) for item in earlier}
    known = {name: (item, manifest) for name, (item, manifest) in found.items() if manifest is not None}
    names = {name: manifest for name, (_, manifest) in known.items()}
    images = choose_images(court.truth, own, {**manifests, **names}).common if known else []
    if not images:
        return None
    models = {name: court.look(name, _network(registry, item), images) for name, (item, _) in known.items()}
    figures = court.part("", images, [*models.values(), champion]).figures
    name = max(figures, key=lambda name: figures[name].get(HEADLINES[0], 0.0), default=champion.name)
    return None if name == champion.name else _Best(known[name][0].number, models[name], images)


def _manifest_of(root: Path, registry: Registry, version: Version) -> Manifest:
    found = read_version_manifest(root, registry, version)
    if found is None:
        raise CannotJudgeError(
            f"which images v{version.number} of {registry.name} learnt from is not known here (it was registered before"
            " keypipe kept its manifest, and its snapshot is not in this clone), so no test image may judge it;"
            " compare by hand, then `keypipe promote VERSION --why …`"
        )
    return found


def _network(registry: Registry, version: Version) -> bytes:
    content = registry.read_file(version.number, _PACKED_ONNX)
    if content is None:
        raise CannotJudgeError(f"the files of v{version.number} of {registry.name} are gone from MLflow's artifacts")
    return content


class _Court:
    """Test images, how they are graded, and what models see on them."""

    def __init__(self, root: Path, truth: CocoFile, grading: Grading, conf: float, progress: Progress) -> None:
        self.root = root
        self.truth = truth
        self._grading = grading
        self._conf = conf
        self._progress = progress
        self._limit = max_detections(truth)
        self._threads = read.read_local(root).threads
        self._paths: dict[str, Path] = {}

    def look(self, name: str, onnx: bytes, images: Sequence[CocoImage]) -> _Model:
        """Let a model look at images; what it saw there before is remembered."""
        for image in images:
            if image.md5 not in self._paths:
                self._paths[image.md5] = self._checked(image)
        memory = self.root / SEEN / f"{hashlib.sha256(onnx).hexdigest()}.msgpack"
        seen = _recall(memory, self._limit)
        with tempfile.TemporaryDirectory(prefix="keypipe-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(onnx)
            model, info = load_onnx_model(path, threads=self._threads, device="cpu")
        predictor = Predictor(model, info)
        thresholds = Thresholds(min(CANDIDATE_CONF, self._conf), max_det=self._limit)
        missing = [image for image in images if image.md5 not in seen]
        for index, image in enumerate(missing, start=1):
            pixels = read_image(self._paths[image.md5])
            seen[image.md5] = list(to_evaluation(image.id, predictor.detect(pixels, thresholds), info))
            self._progress(f"images seen by the {name}", index, len(missing))
        if missing:
            memory.parent.mkdir(parents=True, exist_ok=True)
            memory.write_bytes(msgspec.msgpack.encode(_Memory(self._limit, seen)))
        return _Model(name, to_categories(info.schema), seen)

    def _checked(self, image: CocoImage) -> Path:
        """Return an image's file, whose bytes are those that the manifests speak of."""
        path = self.root / "data" / image.file_name
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != image.md5:
            raise CannotJudgeError(f"data/{image.file_name} is no longer the image that was split; `keypipe run`")
        return path

    def score(self, images: Sequence[CocoImage], models: Sequence[_Model]) -> tuple[Units, list[Scored], list[str]]:
        """Match what models saw with the truth, on what all of them know."""
        ids = {image.id for image in images}
        truth = CocoFile(
            list(images),
            [item for item in self.truth.annotations if item.image_id in ids],
            self.truth.categories,
            self.truth.info,
        )
        common = reduce_to_common(truth, [model.predictions(images) for model in models], self._grading.sigmas)
        unit, units = read_units(self.root, common.truth)
        scored = [
            score(
                common.truth,
                common.detections[model.name],
                common.sigmas,
                self._conf,
                self._grading.area_factor,
                area_rule=self._grading.area_rule,
            )
            for model in models
        ]
        return number_units(units, unit), scored, common.left_out

    def part(self, title: str, images: Sequence[CocoImage], models: Sequence[_Model]) -> Part:
        """Measure the headline figures of models on some images."""
        figures: dict[str, dict[str, float]] = {}
        try:
            units, scored, _ = self.score(images, models)
            for model, item in zip(models, scored, strict=True):
                measures = measure(item, units)
                values = dict(zip(measures.names, measures.values.tolist(), strict=True))
                figures[model.name] = {name: values[name] for name in HEADLINES}
        except DatasetError:  # no labelled object there
            figures = {}
        return Part(title, len(images), figures)


class _Memory(msgspec.Struct):
    """What a model saw: at most so many objects an image; and the objects, by the image's md5."""

    limit: int
    seen: dict[str, list[Detection]]


def recall(root: Path, sha256: str) -> dict[str, list[Detection]]:
    """Return what a model that has judged saw on test images, by their md5."""
    try:
        return msgspec.msgpack.decode((root / SEEN / f"{sha256}.msgpack").read_bytes(), type=_Memory).seen
    except (OSError, msgspec.DecodeError):
        return {}


def _recall(path: Path, limit: int) -> dict[str, list[Detection]]:
    try:
        memory = msgspec.msgpack.decode(path.read_bytes(), type=_Memory)
    except (FileNotFoundError, msgspec.DecodeError):
        return {}
    return memory.seen if memory.limit == limit else {}


class _Proven(msgspec.Struct):
    proofs: dict[str, object] = {}
    faults: list[str] = []


class _Timing(msgspec.Struct):
    median_ms: float


class _Setting(msgspec.Struct):
    batch: int


class _Timed(msgspec.Struct):
    setting: _Setting
    timings: dict[str, _Timing]


class _Times(msgspec.Struct):
    measured: list[_Timed] = []


def _gather_facts(root: Path, doctor_errors: int | None, judged: int) -> Facts:
    proven = _decode(root / report_folder("export") / REPORT_JSON, _Proven)
    times = _decode(root / LATENCY, _Times)
    singles = [item.timings for item in times.measured if item.setting.batch == 1] if times else []
    alone = [timings["onnx"].median_ms for timings in singles if "onnx" in timings]
    return Facts(
        parity=None if proven is None or "onnx" not in proven.proofs else not proven.faults,
        latency_ms=min(alone, default=None),
        size_mb=(root / ONNX).stat().st_size / 1e6,
        doctor_errors=doctor_errors,
        judged=judged,
    )


def _decode(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
