"""Labels that are likely wrong: where they differ from what a model says that has never seen them.

A model that learnt from a wrong label says the same again, so only predictions of images that were held out tell
(confident learning uses out-of-sample probabilities for the same reason: C. Northcutt et al., Journal of Artificial
Intelligence Research 70, 2021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from keypipe.diagnosis.outliers import learn_shapes
from keypipe.keypoints.boxes import Box, box_iou
from keypipe.keypoints.instances import AnnotatedImage, Instance
from keypipe.keypoints.predictions import DEFAULT_CONF, Prediction
from keypipe.keypoints.skeleton import Schema

Kind = Literal["moved", "exchanged", "missing-keypoint", "other-class", "not-found", "not-labelled"]
Point = tuple[float, float]

KINDS: dict[Kind, str] = {
    "exchanged": "keypoints that probably bear each other's names",
    "moved": "keypoints far from where the model sees them",
    "other-class": "objects that the model takes for another class",
    "missing-keypoint": "keypoints that the model sees and nobody labelled",
    "not-labelled": "objects that the model sees and nobody labelled",
    "not-found": "labelled objects that the model does not see",
}

LIMIT = 5.0
"""From this score on a label is suspected. A keypoint's score is its distance from where the model sees it, in the
usual distances of that keypoint (their median over the dataset), times the model's confidence in it."""
MIN_DISTANCE = 0.04
"""Box diagonals; a keypoint nearer to where the model sees it is right enough."""
GAIN = 12.0
"""By how much an exchange of names must lower the sum of the squared distances, each in its usual distance, to count as
one; several exchanges of an object add up."""
FLOOR = 0.008
"""Box diagonals that a keypoint is usually off at least: no hand is steadier."""
MATCH_IOU = 0.3
"""Boxes may be wrong as well, so less than in an evaluation is enough."""
SURE = 0.99
"""Share of the times that a model was right when it was as sure as here, from which its word against a person's on what
is there at all is worth a look."""

UNUSUAL = 3.0
"""Usual deviations from the shapes of the labels, from which a shape that the model sees is one that hardly occurs."""

_SANE = (0.2, 5.0)  # of the median deviation of the labels themselves, which is about 1
_ENOUGH = 20  # objects that a keypoint's usual distance is taken from; with fewer, that of all keypoints


class Seen(msgspec.Struct, frozen=True):
    """An annotated image, and what a model that has not learnt from it found there."""

    image: AnnotatedImage
    predictions: list[Prediction]


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """An object whose label is likely wrong.

    Attributes:
        image: its path relative to ``data/``.
        source: its JSON, relative to ``data/raw``.
        kind: what is wrong, a key of ``KINDS``.
        score: the more, the likelier; from ``LIMIT`` on.
        class_name: of the label, or of what the model sees where there is none.
        box_xyxy: of the object, pixels.
        keypoints: names of those at fault.
        labelled: where they are, pixels; none for those that are not labelled.
        predicted: where the model sees them.
        number: of the object in its image; None for one that is not labelled.
    """

    image: str
    source: str
    kind: Kind
    score: float
    class_name: str
    box_xyxy: Box
    keypoints: tuple[str, ...] = ()
    labelled: tuple[Point, ...] = ()
    predicted: tuple[Point, ...] = ()
    number: int | None = None


class _Pair(msgspec.Struct, frozen=True):
    seen: Seen
    number: int
    instance: Instance
    found: Prediction

    @property
    def diagonal(self) -> float:
        return _diagonal(self.instance.box_xyxy)

    def distances(self) -> dict[str, tuple[float, float]]:
        """Return for every labelled keypoint its distance, in box diagonals, and the model's confidence."""
        distances: dict[str, tuple[float, float]] = {}
        for point in self.found.keypoints:
            label = self.instance.keypoints.get(point.name)
            if label is not None:
                away = float(np.hypot(label.x - point.x, label.y - point.y)) / self.diagonal
                distances[point.name] = (away, point.confidence)
        return distances


def _diagonal(box: Box) -> float:
    return max(float(np.hypot(box[2] - box[0], box[3] - box[1])), 1.0)


def find_suspects(seen: Sequence[Seen], schema: Schema, conf: float = DEFAULT_CONF) -> list[Suspect]:
    """Find labels that are likely wrong.

    Args:
        seen: every image with what a model found that has not learnt from it.
        schema: classes and skeletons.
        conf: score from which a detection counts.

    Returns:
        One for each object at most, the likeliest first; of equal score in the images' order.
    """
    pairs: list[_Pair] = []
    lost: list[tuple[Seen, int, Instance]] = []
    extra: list[tuple[Seen, Prediction]] = []
    for item in seen:
        matched, alone, left = _match(item, conf)
        pairs += matched
        lost += [(item, number, item.image.instances[number]) for number in alone]
        extra += [(item, found) for found in left]
    usual = _usual_distances(pairs, schema)
    calibration = _calibrate(pairs)
    examined = zip(pairs, _trust(pairs, schema), strict=True)
    suspects = [
        found
        for pair, trusted in examined
        if (found := _examine(pair, usual, calibration, trusted=trusted)) is not None
    ]
    suspects += _of_whole_objects(pairs, lost, extra)
    return sorted(suspects, key=lambda found: -found.score)


def _match(item: Seen, conf: float) -> tuple[list[_Pair], list[int], list[Prediction]]:
    """Give each labelled object the prediction of its class that covers it best; return what is left of both."""
    found = [prediction for prediction in item.predictions if prediction.score >= conf]
    instances = item.image.instances
    if not found or not instances:
        return [], list(range(len(instances))), found
    first = np.array([instance.box_xyxy for instance in instances], dtype=np.float64)
    second = np.array([prediction.box_xyxy for prediction in found], dtype=np.float64)
    overlap = box_iou(first[:, None], second[None])
    same = np.array([[a.class_name == b.class_name for b in found] for a in instances])
    overlap = np.where(same, overlap, 0.0)
    pairs: list[_Pair] = []
    rows, columns = set(range(len(instances))), set(range(len(found)))
    for place in np.argsort(-overlap, axis=None, kind="stable").tolist():
        row, column = divmod(place, len(found))
        if overlap[row, column] < MATCH_IOU:
            break
        if row in rows and column in columns:
            rows.discard(row)
            columns.discard(column)
            pairs.append(_Pair(item, row, instances[row], found[column]))
    return pairs, sorted(rows), [found[column] for column in sorted(columns)]


def _usual_distances(pairs: Iterable[_Pair], schema: Schema) -> dict[tuple[str, str], float]:
    """Return the median distance of every keypoint of every class, in box diagonals."""
    collected: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        for name, (away, _) in pair.distances().items():
            collected[pair.instance.class_name, name].append(away)
    every = [away for values in collected.values() for away in values]
    overall = float(np.median(every)) if every else FLOOR
    usual: dict[tuple[str, str], float] = {}
    for class_name, skeleton in schema.classes.items():
        for name in skeleton.keypoints:
            values = collected.get((class_name, name), [])
            middle = float(np.median(values)) if len(values) >= _ENOUGH else overall
            usual[class_name, name] = max(middle, FLOOR)
    return usual


class _Calibration(msgspec.Struct, frozen=True):
    """How often a keypoint was labelled when the model was so sure of it: confidences, descending, and shares."""

    confidences: list[float]
    shares: list[float]

    def share(self, confidence: float) -> float:
        """Return the share that was labelled among the other keypoints of this confidence or more."""
        place = int(np.searchsorted(-np.array(self.confidences), -confidence, side="right")) - 1
        return self.shares[place] * (place + 1) / place if place >= _ENOUGH else 0.0


def _calibrate(pairs: Iterable[_Pair]) -> dict[tuple[str, str], _Calibration]:
    collected: dict[tuple[str, str], list[tuple[float, bool]]] = defaultdict(list)
    for pair in pairs:
        for point in pair.found.keypoints:
            key = pair.instance.class_name, point.name
            collected[key].append((point.confidence, point.name in pair.instance.keypoints))
    found: dict[tuple[str, str], _Calibration] = {}
    for key, values in collected.items():
        values.sort(key=lambda item: -item[0])
        shares = np.cumsum([labelled for _, labelled in values]) / np.arange(1, len(values) + 1)
        found[key] = _Calibration([confidence for confidence, _ in values], shares.tolist())
    return found


def _trust(pairs: Sequence[_Pair], schema: Schema) -> list[bool]:
    """Tell for each object whether the model's word on its shape counts.

    Where the model sees a shape that hardly occurs among the labels, and the label one that does, the model is wrong.
    """
    trusted = [True] * len(pairs)
    for name, skeleton in schema.classes.items():
        rows = [row for row, pair in enumerate(pairs) if pair.instance.class_name == name]
        column = {keypoint: number for number, keypoint in enumerate(skeleton.keypoints)}
        partners = skeleton.partners()
        labels = np.full((len(rows), len(column)), np.nan, dtype=np.complex128)
        seen = labels.copy()
        for at, row in enumerate(rows):
            pair = pairs[row]
            for point in pair.found.keypoints:
                label = pair.instance.keypoints.get(point.name)
                if label is not None:  # the same keypoints of both, so that their shapes can be compared
                    labels[at, column[point.name]] = complex(label.x, label.y)
                    seen[at, column[point.name]] = complex(point.x, point.y)
        flip = [column[partners.get(keypoint, keypoint)] for keypoint in skeleton.keypoints]
        examiner = learn_shapes(labels, flip) if rows else None
        if examiner is None:
            continue
        ours, theirs = examiner.distances(labels), examiner.distances(seen)
        if not _SANE[0] <= np.median(ours[np.isfinite(ours)]) <= _SANE[1]:  # labels that are copies of each other
            continue
        with np.errstate(invalid="ignore"):
            odd = (theirs > UNUSUAL) & (theirs > ours)
        for row in np.array(rows)[odd].tolist():
            trusted[row] = False
    return trusted


def _examine(
    pair: _Pair,
    usual: Mapping[tuple[str, str], float],
    calibration: Mapping[tuple[str, str], _Calibration],
    *,
    trusted: bool,
) -> Suspect | None:
    """Examine the keypoints of an object that the model has found as well."""
    if not trusted:
        return None
    class_name = pair.instance.class_name
    places = {point.name: (point.x, point.y) for point in pair.found.keypoints}
    exchanged, gain = _find_exchanged(pair, usual)
    if gain >= GAIN:
        return _to_suspect(pair, "exchanged", LIMIT * float(np.sqrt(gain / GAIN)), exchanged, places)
    scores = {
        name: away / usual[class_name, name] * confidence
        for name, (away, confidence) in pair.distances().items()
        if away >= MIN_DISTANCE
    }
    far = sorted((name for name, score in scores.items() if score >= LIMIT), key=lambda name: -scores[name])
    if far:
        return _to_suspect(pair, "moved", scores[far[0]], far, places)
    missing = [
        (share, point.name)
        for point in pair.found.keypoints
        if point.name not in pair.instance.keypoints
        and (share := calibration[class_name, point.name].share(point.confidence)) >= SURE
    ]
    if missing:
        missing.sort(key=lambda item: -item[0])
        return _to_suspect(
            pair, "missing-keypoint", LIMIT * missing[0][0] / SURE, [name for _, name in missing], places
        )
    return None


def _find_exchanged(pair: _Pair, usual: Mapping[tuple[str, str], float]) -> tuple[list[str], float]:
    """Find keypoints that fit the model's places far better under each other's names, two by two, the best first.

    Returns:
        Their names, and by how much the sum of the squared distances falls, each in its usual distance and weighed by
        the model's confidence.
    """
    class_name = pair.instance.class_name
    names = list(pair.distances())
    found = {point.name: point for point in pair.found.keypoints}
    labels = np.array([complex(pair.instance.keypoints[name].x, pair.instance.keypoints[name].y) for name in names])
    seen = np.array([complex(found[name].x, found[name].y) for name in names])
    if len(names) < 2:
        return [], 0.0
    scale = np.array([usual[class_name, name] for name in names]) * pair.diagonal
    weight = np.array([found[name].confidence for name in names])
    # cost[i, j]: the label of i, if it were the keypoint j
    cost = np.abs(labels[:, None] - seen[None]) ** 2 / scale[None] ** 2 * weight[None]
    away = np.abs(labels[:, None] - seen[None]) >= MIN_DISTANCE * pair.diagonal
    names_of = np.arange(len(names))  # of each label, the keypoint that it is taken for
    total = 0.0
    for _ in names:
        now, off = cost[np.arange(len(names)), names_of], away[np.arange(len(names)), names_of]
        under = cost[:, names_of]
        gains = np.where(off[:, None] & off[None], now[:, None] + now[None] - under - under.T, 0.0)
        i, j = divmod(int(np.argmax(np.triu(gains, 1))), len(names))
        if gains[i, j] < GAIN / 3:
            break
        total += float(gains[i, j])
        names_of[[i, j]] = names_of[[j, i]]
    return [name for index, name in enumerate(names) if names_of[index] != index], total


def _to_suspect(pair: _Pair, kind: Kind, score: float, names: Sequence[str], places: Mapping[str, Point]) -> Suspect:
    labels = pair.instance.keypoints
    return Suspect(
        image=pair.seen.image.path,
        source=pair.seen.image.source,
        kind=kind,
        score=round(score, 3),
        class_name=pair.instance.class_name,
        box_xyxy=pair.instance.box_xyxy,
        keypoints=tuple(names),
        labelled=tuple((labels[name].x, labels[name].y) for name in names if name in labels),
        predicted=tuple(places[name] for name in names),
        number=pair.number,
    )


def _of_whole_objects(
    pairs: Sequence[_Pair], lost: Sequence[tuple[Seen, int, Instance]], extra: Sequence[tuple[Seen, Prediction]]
) -> list[Suspect]:
    """Suspect objects of another class than the model's, and those that only one of the two knows."""
    suspects: list[Suspect] = []
    explained: set[int] = set()
    for item, number, instance in lost:
        rivals = [found for other, found in extra if other is item and found.class_name != instance.class_name]
        rival = max(rivals, key=lambda found: _overlap(found.box_xyxy, instance.box_xyxy), default=None)
        of = {"image": item.image.path, "source": item.image.source, "number": number}
        if rival is not None and _overlap(rival.box_xyxy, instance.box_xyxy) >= 0.5:
            explained.add(id(rival))
            score = LIMIT * (1 + rival.score)
            suspects.append(_whole("other-class", score, instance.class_name, instance.box_xyxy, of))
    # Where nearly all objects are found, one that is not is worth a look; where many are not, the model is weak.
    found_share = len(pairs) / max(len(pairs) + len(lost) - 1, 1)
    if found_share >= SURE and len(pairs) >= _ENOUGH:
        told = {(found.image, found.number) for found in suspects}
        for item, number, instance in lost:
            if (item.image.path, number) not in told:
                of = {"image": item.image.path, "source": item.image.source, "number": number}
                suspects.append(
                    _whole("not-found", LIMIT * found_share / SURE, instance.class_name, instance.box_xyxy, of)
                )
    scores = sorted(
        [(pair.found.score, True) for pair in pairs] + [(found.score, False) for _, found in extra], reverse=True
    )
    shares = np.cumsum([labelled for _, labelled in scores]) / np.arange(1, len(scores) + 1)
    for item, found in extra:
        place = sum(score >= found.score for score, _ in scores) - 1
        share = float(shares[place]) * (place + 1) / max(place, 1)  # among the others
        if id(found) not in explained and place >= _ENOUGH and share >= SURE:
            of = {"image": item.image.path, "source": item.image.source, "number": None}
            score = LIMIT * share / SURE
            suspects.append(_whole("not-labelled", score, found.class_name, found.box_xyxy, of))
    return suspects


def _whole(kind: Kind, score: float, class_name: str, box: Box, of: Mapping[str, object]) -> Suspect:
    return msgspec.convert(
        {**of, "kind": kind, "score": round(score, 3), "class_name": class_name, "box_xyxy": box}, Suspect
    )


def _overlap(first: Box, second: Box) -> float:
    return float(box_iou(np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)))
