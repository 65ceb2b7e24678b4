# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores of an observation against the scene graph of a prompt, by category, with reasons.

Names follow VBench (arXiv:2311.17982) where it has such a category. A scene is scored only in the
categories that it exercises; the others are None and do not enter averages.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import vocabulary
from mimir_jax.evaluation.judge import frames, observation, recognition

CATEGORIES = (
    "object_class", "multiple_objects", "colour", "size", "count", "spatial_relation", "layout",
    "action", "action_order", "light", "temporal_style", "background", "background_consistency",
    "imaging_quality",
)  # fmt: skip
"""In the order of reports."""

MIN_STEADINESS = 0.85
"""Least steadiness of a consistent background."""
MIN_QUALITY = 0.25
"""Least imaging quality that passes."""

_APART = 0.2  # least time between the middles of consecutive actions
_BAND = (scene_lib.CENTRE_BAND + scene_lib.SIDE_BAND) / 2


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of a clip in one category.

    Attributes:
        value: 0 to 1; the share of the requirements that are met, or a measure.
        passed: Whether all are met.
        reason: What is missing or wrong, else what was observed.
    """

    value: float
    passed: bool
    reason: str


Verdict = dict[str, Score | None]


def judge(scene: scene_lib.Scene, clip: frames.Clip) -> Verdict:
    """Scores a clip against the scene that its prompt describes.

    Args:
        scene: Scene graph of the prompt.
        clip: uint8, 0 to 255, at least 32 pixels high and wide.

    Returns:
        A score for every one of `CATEGORIES`, None where the scene does not exercise it.

    Raises:
        InputError: for a clip of another shape or dtype.
    """
    return compare(scene, recognition.observe(clip))


def compare(scene: scene_lib.Scene, seen: observation.Observation) -> Verdict:
    """Scores an observation against the scene of a prompt."""
    match = match_groups(scene.groups, seen.groups)
    matched = [None if index is None else seen.groups[index] for index in match]
    verdict: Verdict = {
        "object_class": _object_class(scene, seen),
        "multiple_objects": _multiple_objects(scene, matched),
        "colour": _colour(scene, matched),
        "size": _size(scene, matched),
        "count": _count(scene, seen, match),
        "spatial_relation": _spatial_relation(scene, matched),
        "layout": _layout(scene, matched),
        "action": _action(scene, matched),
        "action_order": _action_order(scene, seen, match),
        "light": _same("light", scene.light, seen.light),
        "temporal_style": _temporal_style(scene, seen),
        "background": _background(scene, seen),
        "background_consistency": _background_consistency(scene, seen),
        "imaging_quality": Score(
            seen.quality, seen.quality >= MIN_QUALITY, f"imaging quality is {seen.quality:.2f}"
        ),
    }
    return {name: verdict[name] for name in CATEGORIES}


@dataclasses.dataclass(frozen=True)
class Summary:
    """One category over many clips: number of scenes that exercise it, mean value, share passed."""

    scenes: int
    value: float
    passed: float


def summarise(verdicts: Iterable[Verdict]) -> dict[str, Summary | None]:
    """Averages verdicts by category, each over the scenes that exercise it; None where none do."""
    table: dict[str, list[Score]] = {name: [] for name in CATEGORIES}
    for verdict in verdicts:
        for name, score in verdict.items():
            if score is not None:
                table[name].append(score)
    return {
        name: Summary(
            len(scores),
            float(np.mean([score.value for score in scores])),
            float(np.mean([score.passed for score in scores])),
        )
        if scores
        else None
        for name, scores in table.items()
    }


def match_groups(
    asked: Sequence[scene_lib.Group], seen: Sequence[observation.Group]
) -> list[int | None]:
    """Matches the groups of the scene with the observed ones; returns an index for each.

    A group is identified by shape and colour, else by one of them if that is unique in the scene
    and in the clip.
    """
    match: list[int | None] = [None] * len(asked)
    for keys in (("shape", "colour"), ("colour",), ("shape",)):
        wanted = [tuple(getattr(group, key) for key in keys) for group in asked]
        shown = [tuple(getattr(group, key) for key in keys) for group in seen]
        for index, name in enumerate(wanted):
            if match[index] is not None or wanted.count(name) != 1 or shown.count(name) != 1:
                continue
            other = shown.index(name)
            if other not in match:
                match[index] = other
    return match


def _share(checks: Sequence[tuple[bool, str]], good: str) -> Score | None:
    """Scores a list of checks, each with the reason given if it fails."""
    if not checks:
        return None
    wrong = [reason for right, reason in checks if not right]
    value = 1.0 - len(wrong) / len(checks)
    return Score(value, not wrong, "; ".join(wrong) if wrong else good)


def _same(subject: str, asked: str, seen: str | None) -> Score:
    right = asked == seen
    reason = f"{subject} is {seen}" if right else f"{subject} must be {asked}, is {seen}"
    return Score(float(right), right, reason)


def _name(group: scene_lib.Group | observation.Group) -> str:
    return f"{group.colour} {vocabulary.SHAPES[group.shape][0][group.count != 1]}"


def _object_class(scene: scene_lib.Scene, seen: observation.Observation) -> Score:
    shown = {group.shape for group in seen.groups}
    asked = dict.fromkeys(group.shape for group in scene.groups)
    return _share([(shape in shown, f"no {shape}") for shape in asked], "all shapes are there")


def _multiple_objects(scene, matched) -> Score | None:
    if len(scene.groups) < 2:
        return None
    checks = [
        (other is not None and _is(group, other), f"no {_name(group)}")
        for group, other in zip(scene.groups, matched, strict=True)
    ]
    return _share(checks, "all objects are there")


def _is(group: scene_lib.Group, other: observation.Group) -> bool:
    return (group.shape, group.colour) == (other.shape, other.colour)


def _colour(scene, matched) -> Score:
    checks = []
    for group, other in zip(scene.groups, matched, strict=True):
        right = other is not None and other.colour == group.colour
        seen = "not seen" if other is None else f"{other.colour}"
        checks.append((right, f"the {_name(group)}: {seen}"))
    return _share(checks, "all colours are right")


def _size(scene, matched) -> Score:
    checks = []
    for group, other in zip(scene.groups, matched, strict=True):
        right = other is not None and other.size == group.size
        seen = "not seen" if other is None else f"radius {other.radius:.2f}"
        checks.append((right, f"the {_name(group)} must be {group.size}: {seen}"))
    return _share(checks, "all sizes are right")


def _count(scene, seen, match) -> Score:
    """Counts every group; groups that were not asked for are one more mistake."""
    checks = []
    for group, index in zip(scene.groups, match, strict=True):
        count = 0 if index is None else seen.groups[index].count
        checks.append((count == group.count, f"{count} for {group.count} {_name(group)}"))
    extra = [group for index, group in enumerate(seen.groups) if index not in match]
    if extra:
        names = ", ".join(f"{group.count} {_name(group)}" for group in extra)
        checks.append((False, f"not asked for: {names}"))
    return _share(checks, "all numbers are right")


def _spatial_relation(scene, matched) -> Score | None:
    checks = []
    for relation in scene.relations:
        a, b = matched[relation.subject], matched[relation.object]
        right = a is not None and b is not None and observation.relation_holds(a, relation.name, b)
        first, second = scene.groups[relation.subject], scene.groups[relation.object]
        words = vocabulary.RELATIONS[relation.name][0]
        checks.append((right, f"not seen: {_name(first)} {words} {_name(second)}"))
    return _share(checks, "all relations hold")


def _layout(scene, matched) -> Score | None:
    """Scores arrangements of groups and the place of a lone object."""
    checks = []
    for group, other in zip(scene.groups, matched, strict=True):
        if group.arrangement is not None:
            seen = None if other is None else other.arrangement
            right = seen == group.arrangement
            checks.append((right, f"{_name(group)} must form a {group.arrangement}, is {seen}"))
    if scene.place is not None:
        place = None if matched[0] is None else _place(matched[0].positions[0, 0])
        words = vocabulary.PLACES[scene.place]
        checks.append((place == scene.place, f"must be {words}, is {vocabulary.PLACES.get(place)}"))
    return _share(checks, "all places are right")


def _place(point: np.ndarray) -> tuple[str, str]:
    x, y = (1 + int(value > _BAND) - int(value < -_BAND) for value in point)
    return ("left", "centre", "right")[x], ("top", "middle", "bottom")[y]


def _action(scene, matched) -> Score | None:
    checks = []
    for action in scene.actions:
        other = matched[action.group]
        seen = [] if other is None else [event.verb for event in other.events]
        verbs = ", ".join(seen) or "nothing"
        name = _name(scene.groups[action.group])
        checks.append((action.verb in seen, f"{name} must {_infinitive(action.verb)}: {verbs}"))
    return _share(checks, "all actions are seen")


def _action_order(scene, seen, match) -> Score | None:
    """Scores the order of two actions; nothing else may happen."""
    if scene.timing not in ("then", "while"):
        return None
    events = []
    for action in scene.actions:
        index = match[action.group]
        group = None if index is None else seen.groups[index]
        same = [] if group is None else [e for e in group.events if e.verb == action.verb]
        events.append(same[0] if same else None)
    missing = [
        f"{_name(scene.groups[action.group])} does not {_infinitive(action.verb)}"
        for action, event in zip(scene.actions, events, strict=True)
        if event is None
    ]
    if missing:
        return Score(0.0, False, "; ".join(missing))
    if sum(len(group.events) for group in seen.groups) > len(events):
        return Score(0.5, False, "something else happens too")
    gap = events[1].middle - events[0].middle
    right = bool(gap >= _APART if scene.timing == "then" else abs(gap) < _APART)
    order = "after" if gap >= _APART else "before" if gap <= -_APART else "at the same time as"
    second, first = scene.actions[1].verb, scene.actions[0].verb
    return Score(float(right), right, f"{second} comes {order} {first}")


def _infinitive(verb: str) -> str:
    return vocabulary.VERBS[verb][0][1]


def _temporal_style(scene, seen) -> Score | None:
    """Scores camera motion; a still camera does not exercise the category."""
    return None if scene.camera == "still" else _same("camera", scene.camera, seen.camera)


def _background(scene, seen) -> Score:
    asked = scene.background
    checks = [(seen.background == asked.kind, f"kind must be {asked.kind}, is {seen.background}")]
    if asked.tone is not None:
        checks.append((seen.tone == asked.tone, f"tone must be {asked.tone}, is {seen.tone}"))
    return _share(checks, "the background is right")


def _background_consistency(scene, seen) -> Score:
    if seen.background is None:
        return Score(0.0, False, "there is no background that could stay the same")
    value = seen.steadiness
    if scene.camera == "still" != seen.camera:
        return Score(0.5 * value, False, f"the camera must stay still, is {seen.camera}")
    return Score(value, value >= MIN_STEADINESS, f"{value:.0%} of the background stays the same")
