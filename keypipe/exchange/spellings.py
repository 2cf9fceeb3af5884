"""Names that labels of other tools spell otherwise than the schema: ``Left Ear`` for ``left_ear``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from keypipe.errors import AnnotationError
from keypipe.exchange.labels import LabelSet
from keypipe.keypoints.instances import Instance
from keypipe.keypoints.names import find_look_alikes, spelling_key
from keypipe.keypoints.skeleton import Schema, Skeleton


def take_spellings(labels: LabelSet, schema: Schema) -> list[str]:
    """Give classes and keypoints the schema's names where they differ only in how they are spelt.

    Names and aliases of the schema are taken by the word. Another name is what all those of the schema stand for that
    look like it; where none does, names of the labels that look alike are one, the most frequent. Keypoints that stand
    in one object stay two, unless the schema has a name that both would be.

    Args:
        labels: get other names; their schema's are in the normal form.
        schema: the workspace's.

    Returns:
        What was renamed, and what was not though it looks like another name, a line each.

    Raises:
        AnnotationError: a name looks like several of the schema's, or several of one object like one of the schema's.
    """
    classes = Counter(instance.class_name for image in labels.images for instance in image.instances)
    keypoints = Counter(name for points, _ in labels.list_objects() for name in points)
    class_names, class_notes = _choose(
        "class", {**dict.fromkeys(labels.schema.classes, 0), **classes}, schema.class_labels, {}
    )
    point_names, point_notes = _choose(
        "keypoint",
        {**dict.fromkeys(labels.schema.slots, 0), **keypoints},
        schema.keypoint_labels,
        _find_together(labels),
    )
    if class_names or point_names:
        _rename(labels, class_names, point_names)
    renamed = [f"{theirs!r} as {ours!r}" for theirs, ours in {**class_names, **point_names}.items()]
    notes = [f"names read in another spelling: {', '.join(renamed)}"] if renamed else []
    return [*notes, *class_notes, *point_notes]


def _find_together(labels: LabelSet) -> dict[frozenset[str], str]:
    """Return the names that look like one and stand in one object, and an image that has such an object."""
    found: dict[frozenset[str], str] = {}
    seen: set[frozenset[str]] = set()
    for points, image in labels.list_objects():
        names = frozenset(points)
        if names not in seen:
            seen.add(names)
            found |= {frozenset(alike): image for alike in find_look_alikes(sorted(names))}
    return found


def _choose(
    kind: str, counts: Mapping[str, int], known: Mapping[str, str], together: Mapping[frozenset[str], str]
) -> tuple[dict[str, str], list[str]]:
    """Return what each name is called by the schema, where it is spelt otherwise, and notes.

    Args:
        kind: of the names, for messages.
        counts: how often each occurs.
        known: the schema's labels, and what they mean.
        together: names that look like one, yet stand in one object, and an image that shows it.
    """
    meant: dict[str, dict[str, None]] = {}
    for label, name in known.items():
        meant.setdefault(spelling_key(label), {})[name] = None
    chosen: dict[str, str] = {}
    notes: list[str] = []
    order = sorted(counts, key=lambda name: (-counts[name], name != name.lower(), name))
    by_key: dict[str, list[str]] = {}
    for name in order:
        by_key.setdefault(spelling_key(name), []).append(name)
    for key, alike in by_key.items():
        candidates = [*meant.get(key, ())]
        others = [name for name in alike if name not in known]
        image = next((image for names, image in together.items() if names <= {*alike}), None)
        if others and len(candidates) > 1:
            raise AnnotationError(
                f"the {kind} {others[0]!r} looks like {_join(candidates)} of the schema; write it under schema.aliases"
                " with the one that it means, or rename it in the source"
            )
        taken = [name for name in alike if name in known]
        if image and others and (taken or not candidates):
            notes.append(f"{_join(alike)} stand in one object ({image}) and stay two; rename one if they mean the same")
        elif image and others:
            raise AnnotationError(
                f"{image}: {_join(others)} stand in one object, and both look like the schema's {candidates[0]!r};"
                " rename one in the source, or write it under schema.classes"
            )
        else:
            chosen |= {name: name_of for name in others if (name_of := (candidates or alike)[0]) != name}
    return chosen, notes


def _join(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))


def _rename(labels: LabelSet, class_names: Mapping[str, str], point_names: Mapping[str, str]) -> None:
    """Put names in the place of others, in the schema and in every object."""

    def name(label: str) -> str:
        return point_names.get(label, label)

    classes: dict[str, Skeleton] = {}
    for label, skeleton in labels.schema.classes.items():
        class_name = class_names.get(label, label)
        old = classes.get(class_name, Skeleton(()))
        pairs = [*old.pairs]
        for pair in ((name(a), name(b)) for a, b in skeleton.pairs):
            if pair[0] != pair[1] and not {*pair} & {end for known in pairs for end in known}:
                pairs.append(pair)
        edges = ((name(a), name(b)) for a, b in skeleton.edges)
        classes[class_name] = Skeleton(
            tuple(dict.fromkeys([*old.keypoints, *map(name, skeleton.keypoints)])),
            tuple(dict.fromkeys([*old.edges, *(edge for edge in edges if edge[0] != edge[1])])),
            tuple(pairs),
        )
    names = {*classes} | {point for skeleton in classes.values() for point in skeleton.keypoints}
    aliases = {
        alias: class_names.get(meant, name(meant))
        for alias, meant in labels.schema.aliases.items()
        if alias not in names
    }
    labels.schema = msgspec.structs.replace(labels.schema, classes=classes, aliases=aliases)
    for image in labels.images:
        image.instances = [
            Instance(
                class_names.get(instance.class_name, instance.class_name),
                instance.box_xyxy,
                {name(label): point for label, point in instance.keypoints.items()},
            )
            for instance in image.instances
        ]
        image.loose = [{name(label): point for label, point in points.items()} for points in image.loose]
