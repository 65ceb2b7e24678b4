# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The scene graph: everything that is true of a clip, free of resolution and frame count.

Coordinates have x to the right and y down, in [-1, 1] across the frame; lengths such as a radius
are fractions of half its shorter side. Times are fractions of the clip, 0 the first frame and 1
the last.
"""

import dataclasses
import json
import math
from typing import Literal

from mimir_jax.data.toyworld import vocabulary

RADII = {"small": 0.21, "large": 0.36}
"""Nominal radius of each size, unless a scene has larger ones."""

CENTRE_BAND, SIDE_BAND = 0.14, 0.34
"""A lone object is in the centre of an axis below the first offset, on a side above the second."""

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Background:
    """What the objects hang in front of.

    Attributes:
        kind: A key of `vocabulary.PATTERNS` or `vocabulary.LANDSCAPES`.
        tone: A key of `vocabulary.TONES`; None for landscapes, which have colours of their own.
        phase: Where the pattern starts along both axes, in periods.
    """

    kind: str
    tone: str | None
    phase: Point


@dataclasses.dataclass(frozen=True)
class Group:
    """One to four equal objects that act together.

    Attributes:
        positions: Centres at time 0, one per object, before any camera motion.
    """

    shape: str
    colour: str
    size: Literal["small", "large"]
    count: int
    arrangement: str | None = None
    positions: tuple[Point, ...] = ()


@dataclasses.dataclass(frozen=True)
class Action:
    """Something that group number `group` does from time `start` to time `stop`.

    Attributes:
        verb: A key of `vocabulary.VERBS`.
        amount: Distance of a move, height of a jump, angle of a spin in radians; otherwise 0.
    """

    group: int
    verb: str
    start: float
    stop: float
    amount: float = 0.0

    def frame_span(self, frames: int) -> tuple[int, int]:
        """Last frame before the action and first frame after it."""
        last = frames - 1
        return math.floor(self.start * last), math.ceil(self.stop * last)


@dataclasses.dataclass(frozen=True)
class Relation:
    """Every object of group `subject` is left, right, above or below of all of group `object`.

    Holds in every frame, with a margin.
    """

    subject: int
    name: str
    object: int

    @property
    def inverse(self) -> "Relation":
        """The same fact, told from the other group."""
        return Relation(self.object, vocabulary.INVERSE[self.name], self.subject)


@dataclasses.dataclass(frozen=True)
class Scene:
    """A clip as a graph.

    Attributes:
        light: A key of `vocabulary.LIGHT`.
        camera: A key of `vocabulary.CAMERA`.
        groups: One to three; no two share both shape and colour.
        layout: `single` for one group, `pair` for two, `line` for three along an axis, `apex` for
            a pair with the third group above or below both.
        relations: What the layout states, in telling order.
        timing: `none`, `single` (one action), `then` (two, in order), `while` (two at once).
        actions: By start time, then in telling order.
        large: Nominal radius of large objects; `grow` and `shrink` go between it and the small.
    """

    background: Background
    light: str
    camera: str
    groups: tuple[Group, ...]
    layout: Literal["single", "pair", "line", "apex"]
    relations: tuple[Relation, ...]
    timing: Literal["none", "single", "then", "while"]
    actions: tuple[Action, ...]
    large: float = RADII["large"]

    def radius(self, size: str) -> float:
        """Returns the nominal radius of a size."""
        return self.large if size == "large" else RADII[size]

    @property
    def num_objects(self) -> int:
        """Objects in the scene, also those that appear late or leave early."""
        return sum(group.count for group in self.groups)

    @property
    def actors(self) -> tuple[int, ...]:
        """Groups that act, in order of their first action."""
        return tuple(dict.fromkeys(action.group for action in self.actions))

    @property
    def place(self) -> tuple[str, str] | None:
        """Column and row of a lone object at time 0; None for several, or under a pan."""
        if self.num_objects != 1 or self.camera.startswith("pan"):
            return None
        ((x, y),) = self.groups[0].positions
        return _band(x, ("left", "centre", "right")), _band(y, ("top", "middle", "bottom"))


def _band(value: float, names: tuple[str, str, str]) -> str:
    middle = (CENTRE_BAND + SIDE_BAND) / 2
    return names[1 + (value > middle) - (value < -middle)]


def to_json(scene: Scene) -> str:
    """Returns the scene as one line of JSON."""
    return json.dumps(dataclasses.asdict(scene), separators=(",", ":"))


def from_json(text: str) -> Scene:
    """Returns the scene that `to_json` wrote."""
    tree = json.loads(text)
    groups = tuple(
        Group(**{**group, "positions": tuple((x, y) for x, y in group["positions"])})
        for group in tree.pop("groups")
    )
    background = tree.pop("background")
    x, y = background.pop("phase")
    return Scene(
        background=Background(**background, phase=(x, y)),
        groups=groups,
        relations=tuple(Relation(**relation) for relation in tree.pop("relations")),
        actions=tuple(Action(**action) for action in tree.pop("actions")),
        **tree,
    )
