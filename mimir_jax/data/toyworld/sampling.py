# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scene number `index` of a split: first what is in it, then where it all fits.

Held-out combinations occur in every scene of the `heldout` split and in none of the others:
(colour, shape) pairs, spatial relations between two shapes, and ordered pairs of actions. All
their parts are seen in training.

Two single objects under a still camera alone allow 3160 pairs of different (colour, shape) x 4
size pairs x 4 relations x 40 backgrounds x 6 lights x 350 stories on average: 4.3 x 10^9 scenes, of
which about three quarters fit the frame and about 2 x 10^9 may occur in training. Positions, camera
moves, larger counts and three groups multiply that.
"""

import dataclasses
import math
from typing import Literal

from mimir_jax.data.toyworld import layout as layout_lib
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import vocabulary
from mimir_jax.data.toyworld.draws import Draws
from mimir_jax.errors import InputError

VERSION = 3
"""Raised whenever the scene of some (seed, split, index) changes."""

Scenery = Literal["varied", "plain", "single"]
SPLITS = ("train", "validation", "heldout")

HELDOUT_PAIRS = frozenset({
    ("red", "star"), ("orange", "ring"), ("yellow", "cross"), ("green", "heart"),
    ("cyan", "triangle"), ("blue", "diamond"), ("purple", "circle"), ("pink", "square"),
})  # fmt: skip
"""(colour, shape) pairs that train never shows."""

HELDOUT_RELATIONS = frozenset({
    ("circle", "left", "square"), ("star", "left", "heart"), ("ring", "left", "triangle"),
    ("cross", "left", "oval"), ("diamond", "left", "crescent"), ("square", "left", "star"),
    ("square", "above", "circle"), ("heart", "above", "star"), ("triangle", "above", "diamond"),
    ("oval", "above", "ring"), ("crescent", "above", "cross"), ("circle", "above", "heart"),
})  # fmt: skip
"""(shape, relation, shape) triples that train never shows, nor their inverses."""

HELDOUT_ORDERS = frozenset({
    ("right", "up"), ("jump", "spin"), ("shrink", "left"), ("grow", "disappear"),
})  # fmt: skip
"""(first verb, second verb) pairs that train never shows, for one actor or two."""

_MAX_TRIES = 2000
_WHOLE, _FIRST, _SECOND, _JUMP = (0.1, 0.9), (0.05, 0.47), (0.53, 0.95), (0.25, 0.75)
SPIN_STEP = {
    "square": 1 / 4, "triangle": 1 / 3, "star": 1 / 5, "heart": 1.0, "diamond": 1 / 2,
    "cross": 1 / 4, "crescent": 1.0, "oval": 1 / 2,
}  # fmt: skip
"""Smallest turn that maps a shape to itself; shapes without one never spin."""


@dataclasses.dataclass(frozen=True)
class Shares:
    """How often what occurs, before positions are drawn.

    Attributes:
        counts: Of the objects of a group, by the number of groups.
        large: Chance that a group is large, by the number of groups and by its count.
        radius: Of large objects.
    """

    layouts: dict[str, float]
    timings: dict[str, float]
    counts: dict[int, dict[int, float]]
    large: dict[int, dict[int, float]]
    radius: float = scene_lib.RADII["large"]


SHARES = Shares(
    layouts={"single": 0.34, "pair": 0.44, "line": 0.11, "apex": 0.11},
    timings={"none": 0.32, "single": 0.26, "then": 0.34, "while": 0.08},
    counts={
        1: {1: 0.4, 2: 0.2, 3: 0.2, 4: 0.2},
        2: {1: 0.54, 2: 0.2, 3: 0.16, 4: 0.1},
        3: {1: 0.85, 2: 0.15},
    },
    large={
        groups: {count: share / count for count in (1, 2, 3, 4)}
        for groups, share in {1: 0.6, 2: 0.4, 3: 0.2}.items()
    },
)
"""Shares of `varied` and `plain` scenery."""

_SINGLE = Shares(  # what a small network learns: large, slow and in few places, or a small group
    layouts={"single": 1.0},
    timings={"none": 0.3, "single": 0.5, "then": 0.2},
    counts={1: {1: 0.6, 2: 0.2, 3: 0.1, 4: 0.1}},
    large={1: {1: 0.9, 2: 0.0, 3: 0.0, 4: 0.0}},
    radius=0.5,
)


def sample(seed: int, split: str, index: int, scenery: Scenery = "varied") -> scene_lib.Scene:
    """Returns scene `index` of a split; a pure function of its arguments.

    With `plain` scenery every scene is in front of a plain wall in daylight, under a still camera:
    objects, counts, relations and actions are all that varies. `single` scenery is plain, with one
    kind of object, more often large, alone, and doing one thing.
    """
    draws = Draws(seed, split_number(split), index)
    shares = _SINGLE if scenery == "single" else SHARES
    skeleton = _skeleton(draws, shares)
    if scenery != "varied":
        tone = draws.choice(list(vocabulary.TONES))
        wall = scene_lib.Background("plain", tone, (0.0, 0.0))
        skeleton = dataclasses.replace(skeleton, background=wall, light="day", camera="still")
    for _ in range(_MAX_TRIES):
        plan = dataclasses.replace(make_plan(draws, skeleton, shares), large=shares.radius)
        if is_heldout(plan) != (split == "heldout"):
            continue
        if (placed := layout_lib.place(plan, draws, grid=scenery == "single")) is not None:
            return placed
    raise RuntimeError(f"no scene fits for seed {seed}, split {split!r}, index {index}")


def split_number(split: str) -> int:
    """Returns the number of a split by name."""
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    return SPLITS.index(split)


def is_heldout(scene: scene_lib.Scene) -> bool:
    """Tells whether a scene shows any held-out combination."""
    return bool(heldout_combinations(scene))


def heldout_combinations(scene: scene_lib.Scene) -> tuple[tuple[str, ...], ...]:
    """Returns every held-out combination that a scene shows."""
    found: list[tuple[str, ...]] = [
        (group.colour, group.shape)
        for group in scene.groups
        if (group.colour, group.shape) in HELDOUT_PAIRS
    ]
    for relation in implied_relations(scene):
        for told in (relation, relation.inverse):
            names = (scene.groups[told.subject].shape, told.name, scene.groups[told.object].shape)
            if names in HELDOUT_RELATIONS:
                found.append(names)
    if scene.timing == "then":
        order = (scene.actions[0].verb, scene.actions[1].verb)
        if order in HELDOUT_ORDERS:
            found.append(order)
    return tuple(found)


def implied_relations(scene: scene_lib.Scene) -> tuple[scene_lib.Relation, ...]:
    """Returns the stated relations and, for a line of three, that of its ends."""
    if scene.layout != "line":
        return scene.relations
    first, second = scene.relations
    return (*scene.relations, scene_lib.Relation(first.subject, first.name, second.object))


def verbs(group: scene_lib.Group) -> tuple[str, ...]:
    """Returns what objects of a group can do first."""
    size_verb = "grow" if group.size == "small" else "shrink"
    spin = ("spin",) if group.shape in SPIN_STEP else ()
    return (*vocabulary.DIRECTIONS, size_verb, *spin, "jump", "appear", "disappear")


def verb_pairs(group: scene_lib.Group) -> tuple[tuple[str, str], ...]:
    """Returns what the same objects can do first and then.

    Nothing acts unseen, repeats itself, or imitates a jump by going up and then down.
    """
    undo = {"grow": "shrink", "shrink": "grow"}
    pairs = []
    for first in verbs(group):
        if first == "disappear":
            continue
        for second in verbs(group):
            second = undo.get(first, second) if second == first else second
            if second not in (first, "appear") and (first, second) != ("up", "down"):
                pairs.append((first, second))
    return tuple(pairs)


def act(draws: Draws, group: scene_lib.Group, verb: str) -> scene_lib.Action:
    """Returns what the one group of a scene does over the whole clip."""
    return _action(draws, (group,), 0, verb, _WHOLE)


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """What stays fixed while the details are redrawn until they fit, to keep its shares exact."""

    layout: str
    camera: str
    timing: str
    actors: int
    background: scene_lib.Background
    light: str


def _skeleton(draws: Draws, shares: Shares) -> Skeleton:
    layout = draws.weighted(shares.layouts)
    timing = draws.weighted(shares.timings)
    actors = {"none": 0, "while": 2}.get(timing, 1)
    if layout != "pair" and timing == "while":  # two actors only with short captions
        timing, actors = "then", 1
    elif layout == "pair" and timing == "then" and draws.chance(0.5):
        actors = 2
    camera = "still"
    if timing == "none" and draws.chance(0.7):
        moves = [name for name in vocabulary.CAMERA if name != "still"]
        camera = draws.choice(moves[:2] if layout == "line" else moves)  # no room to zoom
    light = draws.choice([name for name in vocabulary.LIGHT if name != "day"])
    light = "day" if draws.chance(0.4) else light
    return Skeleton(layout, camera, timing, actors, _background(draws, camera), light)


def make_plan(draws: Draws, skeleton: Skeleton, shares: Shares) -> scene_lib.Scene:
    """Draws everything but positions."""
    groups = _groups(draws, skeleton.layout, shares)
    return scene_lib.Scene(
        background=skeleton.background,
        light=skeleton.light,
        camera=skeleton.camera,
        groups=groups,
        layout=skeleton.layout,
        relations=_relations(draws, skeleton.layout),
        timing=skeleton.timing,
        actions=_actions(draws, groups, skeleton),
    )


def _background(draws: Draws, camera: str) -> scene_lib.Background:
    """Draws a background on which the camera's motion shows."""
    kinds = [*vocabulary.PATTERNS, *vocabulary.LANDSCAPES]
    if camera != "still":
        kinds.remove("plain")
    if camera.startswith("pan"):
        kinds.remove("horizontal stripes")
    kind = draws.choice(kinds)
    tone = draws.choice(list(vocabulary.TONES)) if kind in vocabulary.PATTERNS else None
    phase = (round(draws.uniform(), 3), round(draws.uniform(), 3))
    return scene_lib.Background(kind, tone, phase)


def _groups(draws: Draws, layout: str, shares: Shares) -> tuple[scene_lib.Group, ...]:
    """Draws one to three groups, different in colour or shape."""
    number = {"single": 1, "pair": 2}.get(layout, 3)
    groups: list[scene_lib.Group] = []
    while len(groups) < number:
        shape = draws.choice(list(vocabulary.SHAPES))
        colour = draws.choice(list(vocabulary.COLOURS))
        count = draws.weighted(shares.counts[number])
        size = "large" if draws.chance(shares.large[number][count]) else "small"
        arrangement = {
            1: (None,), 2: ("row", "column"), 3: ("row", "column", "pyramid"), 4: ("grid",),
        }[count]  # fmt: skip
        arranged = draws.choice(arrangement)
        if any((shape, colour) == (other.shape, other.colour) for other in groups):
            continue
        groups.append(scene_lib.Group(shape, colour, size, count, arranged))
    return tuple(groups)


def _relations(draws: Draws, layout: str) -> tuple[scene_lib.Relation, ...]:
    if layout == "single":
        return ()
    if layout == "pair":
        return (scene_lib.Relation(0, draws.choice(list(vocabulary.RELATIONS)), 1),)
    if layout == "line":
        name = draws.choice(("left", "above"))
        return scene_lib.Relation(0, name, 1), scene_lib.Relation(1, name, 2)
    side = draws.choice(("above", "below"))
    return (
        scene_lib.Relation(0, "left", 1),
        scene_lib.Relation(2, side, 0),
        scene_lib.Relation(2, side, 1),
    )


def _actions(
    draws: Draws, groups: tuple[scene_lib.Group, ...], skeleton: Skeleton
) -> tuple[scene_lib.Action, ...]:
    """Draws who does what and when."""
    if skeleton.timing == "none":
        return ()
    actor = draws.below(len(groups))
    other = actor if skeleton.actors == 1 else (actor + 1) % len(groups)
    spans = (_FIRST, _SECOND) if skeleton.timing == "then" else (_WHOLE, _WHOLE)
    if skeleton.timing == "single":
        told = (draws.choice(verbs(groups[actor])),)
    elif actor == other:
        told = draws.choice(verb_pairs(groups[actor]))
    else:
        told = draws.choice(verbs(groups[actor])), draws.choice(verbs(groups[other]))
        if skeleton.timing == "while" and told[0] == told[1]:
            return _actions(draws, groups, skeleton)
    return tuple(
        _action(draws, groups, index, verb, span)
        for index, verb, span in zip((actor, other), told, spans, strict=False)
    )


def _action(
    draws: Draws,
    groups: tuple[scene_lib.Group, ...],
    index: int,
    verb: str,
    span: tuple[float, float],
) -> scene_lib.Action:
    amount = 0.0
    if verb == "jump" and span == _WHOLE:
        span = _JUMP
    if verb in vocabulary.DIRECTIONS:
        amount = draws.uniform(0.55, 0.95)
    elif verb == "jump":
        amount = draws.uniform(0.45, 0.7)
    elif verb == "spin":
        # Full turns where time allows; else the nearest turn that leaves the shape upright.
        step = SPIN_STEP[groups[index].shape]
        turn = 1.0 if span == _WHOLE else max(1, round(0.6 / step)) * step
        amount = turn * 2.0 * math.pi
    return scene_lib.Action(index, verb, *span, round(amount, 4))
