"""Skeletons and the dataset schema: which keypoints a class has, and where they sit in YOLO's slots."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from keypipe.errors import ConfigError
from keypipe.keypoints.names import normal_form


class Skeleton(msgspec.Struct, frozen=True):
    """Named keypoints in a fixed order, the edges drawn between them, and the left/right pairs.

    Attributes:
        keypoints: names, unique, in schema order.
        edges: pairs of names to connect with a line.
        pairs: pairs of names that swap when the image is mirrored; a name is in one pair at most.
    """

    keypoints: tuple[str, ...]
    edges: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()

    def partners(self) -> dict[str, str]:
        """Return each paired name's partner, both ways."""
        return {a: b for pair in self.pairs for a, b in (pair, pair[::-1])}


class Schema(msgspec.Struct, frozen=True, dict=True):  # dict: what follows from it is kept once computed
    """The classes of a dataset and their skeletons, in class-id order.

    YOLO knows one keypoint layout for all classes. Its slots are the union of the keypoint names over
    the classes in schema order: classes that share a name share the slot.

    Attributes:
        classes: class name -> skeleton.
        aliases: other labels that people used -> the class or keypoint that they mean.
    """

    classes: dict[str, Skeleton]
    aliases: dict[str, str] = {}

    @cached_property
    def class_labels(self) -> dict[str, str]:
        """Every label that a rectangle may carry -> the class it means: names and aliases."""
        return _labels(self.classes, self.aliases)

    @cached_property
    def keypoint_labels(self) -> dict[str, str]:
        """Every label that a point may carry -> the keypoint it means: names and aliases."""
        return _labels(self.slots, self.aliases)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class names; the position is the class id."""
        return tuple(self.classes)

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Keypoint name of every YOLO slot."""
        return tuple(dict.fromkeys(name for skeleton in self.classes.values() for name in skeleton.keypoints))

    def slot_indices(self, class_name: str) -> NDArray[np.intp]:
        """Return the slot of each keypoint of a class, (n_keypoints of the class,)."""
        slots = self.slots
        return np.array([slots.index(name) for name in self.classes[class_name].keypoints], dtype=np.intp)

    @cached_property
    def flip_idx(self) -> tuple[int, ...]:
        """For every slot, the slot it becomes when the image is mirrored; undoes itself."""
        slots = self.slots
        partners: dict[str, str] = {}
        for skeleton in self.classes.values():
            partners |= skeleton.partners()
        return tuple(slots.index(partners.get(name, name)) for name in slots)

    @property
    def has_pairs(self) -> bool:
        """Whether any class has left/right pairs."""
        return any(skeleton.pairs for skeleton in self.classes.values())

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Edges of all classes as pairs of slots, each once."""
        slots = self.slots
        found = {
            (slots.index(a), slots.index(b)): None for skeleton in self.classes.values() for a, b in skeleton.edges
        }
        return tuple(found)


def _labels(names: Iterable[str], aliases: Mapping[str, str]) -> dict[str, str]:
    own = {name: name for name in names}
    return {alias: name for alias, name in aliases.items() if name in own} | own


_SIDE_WORDS = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("左", "右"))
_LATIN_SIDE = r"(?<![A-Za-z]){word}(?![a-z])"


def mirror_name(name: str) -> str | None:
    """Return a keypoint name with its side word exchanged, or None when it has none.

    ``left_ear`` -> ``right_ear``, ``LeftEar`` -> ``RightEar``, ``左耳`` -> ``右耳``; ``leftover`` has none.
    """
    for left, right in _SIDE_WORDS:
        for word, other in ((left, right), (right, left)):
            pattern = _LATIN_SIDE.format(word=word) if word.isascii() else re.escape(word)
            mirrored, n_replaced = re.subn(pattern, other, name)
            if n_replaced:
                return mirrored
    return None


def find_pairs(keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pair the names that differ only in their side word.

    Args:
        keypoints: names in schema order.

    Returns:
        Pairs in the order of their first member.
    """
    pairs: list[tuple[str, str]] = []
    paired: set[str] = set()
    for name in keypoints:
        other = mirror_name(name)
        if name not in paired and other in keypoints and other is not None:
            pairs.append((name, other))
            paired |= {name, other}
    return tuple(pairs)


def parse_schema(mapping: Mapping[str, Any]) -> Schema:
    """Build a schema from its ``params.yaml`` section.

    Args:
        mapping: ``{"classes": {name: {"keypoints": [...], "skeleton": [[a, b], ...],
            "pairs": "auto" | [[a, b], ...]}}, "aliases": {label: name}}``; ``skeleton``, ``pairs`` and
            ``aliases`` may be left out. Names are taken in their normal form, numbers as text.

    Returns:
        The schema.

    Raises:
        ConfigError: something is missing, repeated, unknown or contradictory; all of it in one message.
    """
    problems: list[str] = []
    classes: dict[str, Skeleton] = {}
    section = mapping.get("classes")
    if not isinstance(section, Mapping) or not section:
        raise ConfigError(
            "schema.classes: expected at least one class with its keypoints, such as {cow: {keypoints: [nose, tail]}}"
        )
    known = {"classes", "aliases"}
    problems += [f"schema.{key}: unknown key (known: classes, aliases)" for key in mapping if key not in known]
    for key, entry in section.items():
        class_name = normal_form(str(key))
        where = f"schema.classes.{class_name}"
        if class_name in classes:
            problems.append(f"{where}: stands there twice")
        if not class_name:
            problems.append(f"{where}: a class without a name")
        if not isinstance(entry, Mapping):
            problems.append(f"{where}: expected a mapping with keypoints, got {entry!r}")
            continue
        skeleton, found = _parse_skeleton(entry, where)
        problems += found
        classes[class_name] = skeleton
    problems += _disagreeing_partners(classes)
    aliases, found = _parse_aliases(mapping.get("aliases"), classes)
    problems += found
    if problems:
        raise ConfigError("\n".join(problems))
    return Schema(classes, aliases)


def _parse_aliases(raw: Any, classes: Mapping[str, Skeleton]) -> tuple[dict[str, str], list[str]]:
    if raw is None:
        return {}, []
    if not isinstance(raw, Mapping):
        return {}, [f"schema.aliases: expected other labels and the names they stand for, got {raw!r}"]
    keypoints = {name for skeleton in classes.values() for name in skeleton.keypoints}
    aliases: dict[str, str] = {}
    problems: list[str] = []
    for key, value in raw.items():
        alias, name = normal_form(str(key)), normal_form(str(value))
        if alias in aliases:  # 1 and "1" are two keys to YAML
            problems.append(f"schema.aliases.{alias}: stands there twice")
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
            problems.append(f"schema.aliases.{alias}: expected one name, got {value!r}")
        elif name not in keypoints and name not in classes:
            problems.append(f"schema.aliases.{alias}: {name!r} is neither a class nor a keypoint")
        else:
            problems += [
                f"schema.aliases.{alias}: {alias!r} is a {kind} itself, and cannot stand for {name!r} as well"
                for kind, names in (("class", classes), ("keypoint", keypoints))
                if name in names and alias in names
            ]
        aliases[alias] = name
    return aliases, problems


def _parse_skeleton(entry: Mapping[str, Any], where: str) -> tuple[Skeleton, list[str]]:
    unknown = [key for key in entry if key not in {"keypoints", "skeleton", "pairs"}]
    problems = [f"{where}.{key}: unknown key (known: keypoints, skeleton, pairs)" for key in unknown]
    raw_names = entry.get("keypoints")
    if not isinstance(raw_names, Sequence) or isinstance(raw_names, str) or not raw_names:
        return Skeleton(()), [*problems, f"{where}.keypoints: expected a list of names, got {raw_names!r}"]
    names = tuple(normal_form(str(name)) for name in raw_names)
    repeated = sorted({name for name in names if names.count(name) > 1})
    problems += [f"{where}.keypoints: {name!r} stands there twice" for name in repeated]
    problems += [f"{where}.keypoints: a keypoint without a name"] if "" in names else []

    edges, found = _parse_name_pairs(entry.get("skeleton", ()), names, f"{where}.skeleton")
    problems += found
    if entry.get("pairs", "auto") == "auto":
        return Skeleton(names, edges, find_pairs(names)), problems
    pairs, found = _parse_name_pairs(entry["pairs"], names, f"{where}.pairs")
    problems += found
    paired = [name for pair in pairs for name in pair]
    problems += [
        f"{where}.pairs: {name!r} is in two pairs" for name in sorted({n for n in paired if paired.count(n) > 1})
    ]
    return Skeleton(names, edges, pairs), problems


def _parse_name_pairs(raw: Any, names: Sequence[str], where: str) -> tuple[tuple[tuple[str, str], ...], list[str]]:
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        return (), [f"{where}: expected a list of pairs of keypoint names, got {raw!r}"]
    pairs: list[tuple[str, str]] = []
    problems: list[str] = []
    for index, item in enumerate(raw):
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            problems.append(f"{where}[{index}]: expected two keypoint names, got {item!r}")
            continue
        first, second = normal_form(str(item[0])), normal_form(str(item[1]))
        unknown = [name for name in (first, second) if name not in names]
        problems += [f"{where}[{index}]: {name!r} is not a keypoint of this class" for name in unknown]
        if first == second:
            problems.append(f"{where}[{index}]: joins {first!r} with itself")
        elif not unknown:
            pairs.append((first, second))
    return tuple(pairs), problems


def _disagreeing_partners(classes: Mapping[str, Skeleton]) -> list[str]:
    """Classes that share a name must agree on its partner, or no single flip_idx is true for both."""
    problems: list[str] = []
    seen: dict[str, tuple[str, str | None]] = {}
    for class_name, skeleton in classes.items():
        partners = skeleton.partners()
        for name in skeleton.keypoints:
            partner = partners.get(name)
            first_class, first_partner = seen.setdefault(name, (class_name, partner))
            if partner != first_partner:
                problems.append(
                    f"schema.classes: {first_class} mirrors {name!r} to {first_partner!r}, {class_name} to {partner!r};"
                    " classes that share a keypoint name must agree, or use different names"
                )
    return problems


def schema_to_mapping(schema: Schema) -> dict[str, Any]:
    """Return the schema in the form that ``parse_schema`` reads."""
    aliases: dict[str, Any] = {"aliases": dict(schema.aliases)} if schema.aliases else {}
    return {
        "classes": {
            name: {
                "keypoints": list(skeleton.keypoints),
                "skeleton": [list(edge) for edge in skeleton.edges],
                "pairs": [list(pair) for pair in skeleton.pairs],
            }
            for name, skeleton in schema.classes.items()
        },
        **aliases,
    }


_CHANGES = {
    "added": "added",
    "removed": "removed",
    "renamed": "renamed",
    "probably-renamed": "probably renamed",
    "reordered": "reordered",
    "changed": "changed",
}


class SchemaChange(msgspec.Struct, frozen=True):
    """One difference between two schemas.

    Attributes:
        kind: what happened.
        what: to what, such as ``class cow``, ``keypoint nose of cow`` or ``kpt_shape``.
        detail: from what to what, and what follows from it.
    """

    kind: Literal["added", "removed", "renamed", "probably-renamed", "reordered", "changed"]
    what: str
    detail: str = ""

    def __str__(self) -> str:
        text = f"{self.what} {_CHANGES[self.kind]}"
        return f"{text}: {self.detail}" if self.detail else text


def compare_schemas(old: Schema, new: Schema) -> list[SchemaChange]:
    """Tell what changed from one schema to the next.

    A name that is gone and one that is new are one that was renamed where an alias says so, and probably where the
    new one stands in the place of the old one, or is spelt much like it.

    Args:
        old: the schema of before.
        new: the schema of now.

    Returns:
        Changes of classes, then of each class, then of what YOLO makes of them; none for equal schemas.
    """
    renamed, changes = _compare_names(("class", "classes"), "", old.class_names, new.class_names, new.aliases)
    before = {renamed.get(name, name): skeleton for name, skeleton in old.classes.items()}
    for class_name, skeleton in new.classes.items():
        if class_name in before:
            changes += _compare_skeletons(class_name, before[class_name], skeleton, new.aliases)
    if old.aliases != new.aliases:
        differing = sorted({alias for alias, _ in {*old.aliases.items()} ^ {*new.aliases.items()}})
        changes.append(SchemaChange("changed", "aliases", ", ".join(differing)))
    if len(old.slots) != len(new.slots):
        detail = f"[{len(old.slots)}, 3] -> [{len(new.slots)}, 3]; keypipe's weights can be started from all the same"
        changes.append(SchemaChange("changed", "kpt_shape", detail))
    return changes


def _compare_skeletons(class_name: str, old: Skeleton, new: Skeleton, aliases: Mapping[str, str]) -> list[SchemaChange]:
    renamed, changes = _compare_names(
        ("keypoint", "keypoints"), f" of {class_name}", old.keypoints, new.keypoints, aliases
    )

    def now(pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
        return {frozenset(renamed.get(name, name) for name in pair) for pair in pairs}

    if now(old.pairs) != {frozenset(pair) for pair in new.pairs}:
        detail = "now " + (", ".join("/".join(pair) for pair in new.pairs) or "none")
        changes.append(SchemaChange("changed", f"left/right pairs of {class_name}", detail))
    if now(old.edges) != {frozenset(edge) for edge in new.edges}:
        changes.append(SchemaChange("changed", f"edges of {class_name}"))
    return changes


def _compare_names(
    nouns: tuple[str, str], of: str, old: Sequence[str], new: Sequence[str], aliases: Mapping[str, str]
) -> tuple[dict[str, str], list[SchemaChange]]:
    """Return which old names became which new ones, and the changes."""
    noun, plural = nouns
    removed = [name for name in old if name not in new]
    left = [name for name in new if name not in old]
    renamed: dict[str, str] = {}
    changes: list[SchemaChange] = []
    for name in removed:
        if aliases.get(name) in left:
            renamed[name] = aliases[name]
            left.remove(aliases[name])
            changes.append(SchemaChange("renamed", f"{noun} {name}{of}", f"{name} -> {renamed[name]} by its alias"))
    for name in removed:
        other = None if name in renamed else _successor(name, old, new, left)
        if other is not None:
            renamed[name] = other
            left.remove(other)
            detail = f"{name} -> {other}; if so, `{name}: {other}` under schema.aliases keeps the old annotations"
            changes.append(SchemaChange("probably-renamed", f"{noun} {name}{of}", detail))
    changes += [
        SchemaChange("removed", f"{noun} {name}{of}", "its shapes are passed over")
        for name in removed
        if name not in renamed
    ]
    older = "older annotations count as not labelled there" if noun == "keypoint" else ""
    changes += [SchemaChange("added", f"{noun} {name}{of}", older) for name in left]
    kept = [renamed.get(name, name) for name in old if name in new or name in renamed]
    order = [name for name in new if name in kept]
    if kept != order:
        changes.append(SchemaChange("reordered", f"{plural}{of}", f"{', '.join(kept)} -> {', '.join(order)}"))
    return renamed, changes


def _successor(name: str, old: Sequence[str], new: Sequence[str], candidates: Sequence[str]) -> str | None:
    """Return the new name that stands where the old one did, in lists of equal length, or looks much like it."""
    in_place = new[old.index(name)] if len(old) == len(new) else None
    if in_place in candidates:
        return in_place
    return next(iter(difflib.get_close_matches(name, candidates, n=1, cutoff=0.75)), None)
