# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""An observation: the content of a clip in the vocabulary of a scene graph."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mimir_jax.data.toyworld import grammar, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation.judge import actions as actions_lib

MIN_GAP = 0.2
"""Least distance between two objects along the axis of a relation; scenes keep twice that."""
MIN_DOMINANCE = 1.0
"""Least ratio of the offset along the axis to that across it, at the start; scenes keep 1.2."""
MIN_FRAME_SHARE = 0.9
"""Least share of frames in which a relation holds."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Equal objects, as observed.

    Attributes:
        shape, colour, size: As in a scene.
        count: Number of objects in most frames.
        radius: Nominal radius at the start, in half shorter sides.
        positions: World coordinates x and y of the centres, -1 to 1, frames by objects. An object
            that is not visible stays at its last position, or is at its first.
        events: Their actions, in order.
    """

    shape: str
    colour: str
    size: str
    count: int
    radius: float
    positions: Float[np.ndarray, "f n 2"]
    events: tuple[actions_lib.Event, ...] = ()

    @property
    def arrangement(self) -> str | None:
        """Key of `vocabulary.ARRANGEMENTS` at the start; None for one object or no arrangement."""
        return _arrangement(self.positions[0])


@dataclasses.dataclass(frozen=True)
class Observation:
    """The content of a clip.

    Attributes:
        groups: Objects that share shape and colour, most certain first.
        light: Key of `vocabulary.LIGHT`, or None.
        camera: Key of `vocabulary.CAMERA`.
        background: Kind, a key of `vocabulary.PATTERNS` or `vocabulary.LANDSCAPES`, or None.
        tone: Key of `vocabulary.TONES`, or None.
        steadiness: Share of the background that stays the same, 0 to 1.
        quality: See `quality.imaging_quality`.
    """

    groups: tuple[Group, ...]
    light: str | None
    camera: str
    background: str | None
    tone: str | None
    steadiness: float
    quality: float

    @property
    def num_objects(self) -> int:
        """Number of objects."""
        return sum(group.count for group in self.groups)

    @property
    def relations(self) -> tuple[scene_lib.Relation, ...]:
        """All relations between two groups, in both directions."""
        return tuple(
            scene_lib.Relation(a, name, b)
            for a, first in enumerate(self.groups)
            for b, second in enumerate(self.groups)
            for name in vocabulary.RELATIONS
            if a != b and relation_holds(first, name, second)
        )

    def describe(self) -> str:
        """Describes the content in plain sentences."""
        lines = [_objects(self.groups)]
        for relation in self.relations:
            if relation.subject < relation.object:
                first, second = self.groups[relation.subject], self.groups[relation.object]
                words = vocabulary.RELATIONS[relation.name][0]
                lines.append(f"the {_name(first)} {_be(first)} {words} the {_name(second)}")
        for group in self.groups:
            for event in group.events:
                verb = vocabulary.VERBS[event.verb][0][group.count != 1]
                lines.append(
                    f"the {_name(group)} {verb} ({event.start:.2f} to {event.stop:.2f} of the clip)"
                )
        tone = f"{self.tone} " if self.tone else ""
        lines.append(f"the background is {tone}{self.background or 'unknown'}")
        lines.append(
            vocabulary.LIGHT_SENTENCES[self.light][0] if self.light else "the light is unknown"
        )
        lines.append(vocabulary.CAMERA[self.camera][0])
        return grammar.sentences(*lines)


def relation_holds(first: Group, name: str, second: Group) -> bool:
    """Returns whether all objects of `first` are left, right, above or below of all of `second`."""
    axis = 0 if name in ("left", "right") else 1
    sign = -1.0 if name in ("left", "above") else 1.0
    a, b = sign * first.positions[:, :, axis], sign * second.positions[:, :, axis]
    gap = a.min(axis=1) - b.max(axis=1)  # (f,)
    centres = first.positions[0].mean(axis=0) - second.positions[0].mean(axis=0)
    dominates = sign * centres[axis] >= MIN_DOMINANCE * abs(centres[1 - axis])
    return bool((gap >= MIN_GAP).mean() >= MIN_FRAME_SHARE and dominates)


def _arrangement(positions: Float[np.ndarray, "n 2"]) -> str | None:
    count = len(positions)
    spread = np.ptp(positions, axis=0)
    if count < 2:
        return None
    if count == 4:
        middle = positions - positions.mean(axis=0)
        corners = {(x > 0, y > 0) for x, y in middle}
        even = 0.5 < spread[0] / max(spread[1], 1e-6) < 2.0
        return "grid" if len(corners) == 4 and even else None
    if spread[0] > 2.5 * spread[1]:
        return "row"
    if spread[1] > 2.5 * spread[0]:
        return "column"
    if count == 3:
        top = positions[:, 1].argmin()
        low = np.delete(positions, top, axis=0)
        level = abs(low[0, 1] - low[1, 1]) < 0.4 * spread[0]
        if level and low[:, 0].min() < positions[top, 0] < low[:, 0].max():
            return "pyramid"
    return None


def _name(group: Group) -> str:
    return f"{group.colour} {vocabulary.SHAPES[group.shape][0][group.count != 1]}"


def _be(group: Group) -> str:
    return "is" if group.count == 1 else "are"


def _objects(groups: tuple[Group, ...]) -> str:
    if not groups:
        return "there is nothing to be seen"
    parts = []
    for group in groups:
        phrase = f"{group.size} {_name(group)}"
        number = str(group.count)
        if group.count < len(vocabulary.NUMBERS):
            number = vocabulary.NUMBERS[group.count]
        start = grammar.article(phrase) if group.count == 1 else number
        arranged = vocabulary.ARRANGEMENTS.get(group.arrangement, "")
        parts.append(f"{start} {phrase} {arranged}".rstrip())
    return f"there {_be(groups[0])} {grammar.join(parts)}"
