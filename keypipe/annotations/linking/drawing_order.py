"""The order in which people draw boxes and points, and what it tells where several boxes could own a point.

Some draw a box and then its points, some all boxes and then the points object by object, some the points first, some
one keypoint of every object after the other. Nobody says which; the points whose box is beyond doubt show it. For each
of them all boxes of the image are looked at, and how each stands in the list to the point: whether the point before
went to the same box, and whether the box was drawn just before or after. How often a box that stands so was the right
one is all that is learnt.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.keypoints.skeleton import Schema

Habit = NDArray[np.float64]
"""(3, 3, 3, 2): by the point's standing, the box's turn and its side (below), how many boxes were the point's own, and
how many were not."""

# A point stands first after a box or in the file, or its name comes later or earlier in the schema than that before it.
_FIRST, _LATER, _EARLIER = range(3)
# A box has the point before as well, or is the next one in the list after that one's (the first after the last).
_SAME, _NEXT, _OTHER = range(3)
# A box stands among those directly before the points that this one is drawn with, or directly after them, or elsewhere.
_BEFORE, _AFTER, _APART = range(3)

MAX_FILES = 200
"""So many files with several objects teach a folder's habit; they are taken evenly from all."""

_FOLDER_POINTS = 20  # so many points of the file itself weigh as much as the whole folder
_MIN_SEEN, _SELDOM = 3, 0.1  # what shows that people draw points before their box; else none is given to one behind it
_UNLINKED = 50.0  # nats; above what any order or place could cost
_WIDTH = 32  # readings of a file that are followed at once
_HOPELESS = 12.0  # nats above the best reading, from which on one is not followed


def _guess() -> Habit:
    """Say what is believed of a file of which nothing is known, as if a point had shown it."""
    turn = np.array([[0.1, 0.5, 0.3], [0.9, 0.4, 0.1], [0.7, 0.5, 0.2]])
    side = np.array([1.0, 0.5, 0.3])
    rate = turn[:, :, None] * side
    return np.stack([rate, 1 - rate], axis=-1)


_GUESS = _guess()


class Drawing:
    """The boxes and points of one image as they follow each other in the file.

    Attributes:
        boxes: shape indices, ascending.
        points: shape indices, ascending.
        points_first: whether the file begins with points, ends with a box, and has points before each box.
    """

    def __init__(
        self, boxes: Mapping[int, Collection[str]], points: Mapping[int, str], ranks: Mapping[str, int]
    ) -> None:
        """Take them in any order.

        Args:
            boxes: shape index of each -> the keypoints that it may have.
            points: shape index of each -> its name.
            ranks: name -> its place in the schema.
        """
        self.boxes = sorted(boxes)
        self.points = sorted(points)
        self._names = [points[point] for point in self.points]
        self._namesakes: list[list[int]] = []
        earlier: dict[str, list[int]] = {}
        for number, name in enumerate(self._names):
            before = earlier.setdefault(name, [])
            self._namesakes.append(before.copy())
            before.append(number)
        self._able = {name: [n for n, box in enumerate(self.boxes) if name in boxes[box]] for name in earlier}
        passed = [bisect(self.boxes, point) for point in self.points]
        self._standing = [_FIRST] * len(passed)
        for number in range(1, len(passed)):
            if passed[number] == passed[number - 1]:
                later = ranks[self._names[number]] > ranks[self._names[number - 1]]
                self._standing[number] = _LATER if later else _EARLIER
        row = [bisect(self.points, box) for box in self.boxes]  # boxes without a point in between have the same
        self._side = {count: _sides(row, count) for count in set(passed)}
        self.points_first = bool(passed) and passed[0] == 0 and passed[-1] < len(row) == len(set(row))
        self._passed = passed

    def available(self, number: int, owners: Sequence[int]) -> list[int]:
        """Return the numbers of the boxes that may have a point's name and were not given it by the points before."""
        taken = {owners[earlier] for earlier in self._namesakes[number]}
        return [box for box in self._able[self._names[number]] if box not in taken]

    def stands(self, number: int, previous: int, box: int) -> tuple[int, int, int]:
        """Say how a box stands to a point, if the point before belongs to box ``previous``, -1 at the beginning."""
        turn = _SAME if box == previous else _NEXT if box == (previous + 1) % len(self.boxes) else _OTHER
        return self._standing[number], turn, self._side[self._passed[number]][box]

    def count(self, owner: Mapping[int, int], counts: Habit) -> None:
        """Add what the points show whose box is known.

        Args:
            owner: shape index of a point -> that of its box.
            counts: is added to.
        """
        if len(self.boxes) == 1:  # its points could be no other's
            return
        index = {box: number for number, box in enumerate(self.boxes)}
        owners = [index[owner[point]] if point in owner else -1 for point in self.points]
        found: Counter[tuple[int, int, int, int]] = Counter()
        for number, own in enumerate(owners):
            previous = owners[number - 1] if number else -1
            if own < 0 or (number > 0 and previous < 0):
                continue
            for box in self.available(number, owners):
                found[*self.stands(number, previous, box), int(box != own)] += 1
        for cell, n in found.items():
            counts[cell] += n


def _sides(row: Sequence[int], passed: int) -> list[int]:
    before = row[passed - 1] if passed else None
    after = row[passed] if passed < len(row) else None
    return [
        (_BEFORE if at == before else _APART) if box < passed else (_AFTER if at == after else _APART)
        for box, at in enumerate(row)
    ]


def learn_habit(drawings: Iterable[tuple[Drawing, Mapping[int, int]]]) -> Habit:
    """Learn a folder's habit from its images, each with the boxes of the points that are beyond doubt."""
    counts = np.zeros_like(_GUESS)
    for drawing, owner in drawings:
        drawing.count(owner, counts)
    return counts


def rank_keypoints(schema: Schema) -> dict[str, int]:
    """Number the keypoints by their place in the schema."""
    names = dict.fromkeys(name for skeleton in schema.classes.values() for name in skeleton.keypoints)
    return {name: rank for rank, name in enumerate(names)}


class Open(msgspec.Struct):
    """Points that several boxes could own; one, or a group that goes to one box.

    Attributes:
        points: their shape indices, ascending.
        costs: shape index of each box -> how unlikely the points lie there, in nats.
        group: of the points, or None; a box takes one group alone.
        placed: the box that the place alone gives them to, if it does.
    """

    points: Sequence[int]
    costs: Mapping[int, float]
    group: Hashable | None = None
    placed: int | None = None


class _Step(msgspec.Struct):
    """A point as it comes up in the file: all by number in the list.

    Attributes:
        number: of the point.
        costs: box -> how unlikely the point lies there, in nats; 0 for the only box of one that is decided.
        decided: whether it has a box already.
        mate: an earlier point that must have the same box.
        foreign: earlier points that must not.
    """

    number: int
    costs: Mapping[int, float]
    decided: bool = True
    mate: int | None = None
    foreign: Sequence[int] = ()


def decide_by_order(
    drawing: Drawing, owner: Mapping[int, int], undecided: Sequence[Open], folder: Habit | None = None
) -> dict[int, int]:
    """Find whose the undecided points of an image are, by their places and the habit of the file and of its folder.

    The file is read from its first point to its last, as it was drawn. Of all ways to give each point a box the
    likeliest is taken; so a point in the midst of others that are one box's goes there too.

    Args:
        drawing: the image; every point of it has an owner or is undecided.
        owner: shape index of a point -> that of its box, where that is beyond doubt.
        undecided: all others.
        folder: as learnt from its other images.

    Returns:
        Owners of the undecided points. One is left out if no box is left for it, or if it stands before all of its
        boxes, its place is not clear, and neither file nor folder shows that habit.
    """
    folder = np.zeros_like(_GUESS) if folder is None else folder
    seen = folder * min(1.0, _FOLDER_POINTS / max(folder[..., 0].sum(), 1))
    drawing.count(owner, seen)
    rates = seen + _GUESS
    rate = (rates[..., 0] / rates.sum(axis=-1)).tolist()
    own, others = seen[:, :, _AFTER, 0], seen[:, :, _AFTER, 1]
    box_first = not (drawing.points_first or ((own >= _MIN_SEEN) & (others <= _SELDOM * own)).any())
    readings: list[tuple[float, tuple[int, ...], int]] = [(0.0, (), -1)]
    steps = _to_steps(drawing, owner, undecided, box_first)
    for step in steps:
        if step.decided and len(readings) == 1:  # whatever it costs
            ((cost, owners, _),) = readings
            (box,) = step.costs
            readings = [(cost, (*owners, box), box)]
            continue
        grown: list[tuple[float, tuple[int, ...], int]] = []
        for cost, owners, previous in readings:
            shares = {}
            for box in drawing.available(step.number, owners):
                standing, turn, side = drawing.stands(step.number, previous, box)
                shares[box] = rate[standing][turn][side]
            closed = {owners[other] for other in step.foreign}
            able = [box for box in step.costs if box not in closed and (step.decided or box in shares)]
            if step.mate is not None:
                able = [box for box in able if box == owners[step.mate]]
            total = sum(shares.values())
            for box in able:
                more = step.costs[box] - math.log(shares[box] / total) if box in shares else _UNLINKED
                grown.append((cost + more, (*owners, box), box))
            if not able:
                grown.append((cost + (_UNLINKED if step.costs else 0), (*owners, -1), previous))
        grown.sort()
        readings = [reading for reading in grown[:_WIDTH] if reading[0] <= grown[0][0] + _HOPELESS]
    best = readings[0][1]
    return {
        drawing.points[step.number]: drawing.boxes[best[step.number]]
        for step in steps
        if not step.decided and best[step.number] >= 0
    }


def _to_steps(drawing: Drawing, owner: Mapping[int, int], undecided: Sequence[Open], box_first: bool) -> list[_Step]:
    """Say what may become of each point; with ``box_first``, one goes to no box that stands behind it."""
    numbers = {point: number for number, point in enumerate(drawing.points)}
    index = {box: number for number, box in enumerate(drawing.boxes)}
    steps = [_Step(number, {index[owner[point]]: 0.0} if point in owner else {}) for point, number in numbers.items()]
    for item in undecided:
        last = max(item.points) if box_first else math.inf
        share = 1 / len(item.points)
        costs = {index[box]: cost * share for box, cost in item.costs.items() if box < last or box == item.placed}
        first = numbers[item.points[0]]
        foreign = [
            numbers[point]
            for other in undecided
            if item.group is not None and other.group not in (None, item.group)
            for point in other.points
        ]
        for number in map(numbers.__getitem__, item.points):
            mate = first if number != first else None
            steps[number] = _Step(number, costs, False, mate, [other for other in foreign if other < number])
    return steps
