# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Positions for a planned scene: nothing overlaps, leaves the frame or breaks a relation, ever.

Candidates are drawn and checked together, over all times; the first that passes is taken.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from mimir_jax.data.toyworld import motion, shapes
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.draws import Draws

GAP = 0.11
"""Least distance between the bounding circles of two objects."""
BORDER = 0.03
"""Least distance between a bounding circle and the edge of the frame."""
MARGIN = 0.4
"""Least distance between centres along the axis of a relation, at all times."""
DOMINANCE = 1.2
"""At time 0 a relation's offset exceeds that across it by this factor, between group centres."""

_CANDIDATES = 96
_TIMES = 17
_JITTER = 0.02
_PATTERNS = {
    None: ((0.0, 0.0),),
    "row": ((-0.5, 0.0), (0.5, 0.0)),
    "column": ((0.0, -0.5), (0.0, 0.5)),
    "row of three": ((-1.0, 0.0), (0.0, 0.0), (1.0, 0.0)),
    "column of three": ((0.0, -1.0), (0.0, 0.0), (0.0, 1.0)),
    "pyramid": ((0.0, -0.577), (-0.5, 0.289), (0.5, 0.289)),
    "grid": ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)),
}


@dataclasses.dataclass(frozen=True)
class _Body:
    """A group before it has a place: members around its centre, and its motion."""

    members: Float[np.ndarray, "n 2"]
    path: Float[np.ndarray, "t 2"]
    bound: Float[np.ndarray, "t"]  # radius of the bounding circle of each member
    low: Float[np.ndarray, "2"]  # range of the centre that keeps all members in the frame
    high: Float[np.ndarray, "2"]


def place(plan: scene_lib.Scene, draws: Draws, *, grid: bool = False) -> scene_lib.Scene | None:
    """Returns `plan` with positions, or None where none of the candidates fits.

    Args:
        plan: The scene without positions.
        draws: Where chance comes from.
        grid: Put a lone group at the sides or the middle of where it may be, nowhere between.
    """
    times = np.linspace(0.0, 1.0, _TIMES if plan.actions else 1)
    half = _half_view(plan.camera)
    bodies = [_body(plan, index, times, half, draws) for index in range(len(plan.groups))]
    if any((body.low > body.high).any() for body in bodies):
        return None
    centres = _propose(plan, bodies, draws, grid)
    fits = np.ones(_CANDIDATES, bool)
    for first in range(len(bodies)):
        for second in range(first + 1, len(bodies)):
            fits &= _apart(bodies, centres, first, second)
    for relation in plan.relations:
        fits &= _holds(bodies, centres, relation)
    if plan.num_objects == 1:
        offset = np.abs(centres[:, 0])  # (candidates, 2)
        clear = (offset < scene_lib.CENTRE_BAND) | (offset > scene_lib.SIDE_BAND)
        fits &= clear.all(axis=1)
    if not fits.any():
        return None
    chosen = centres[fits.argmax()]
    groups = []
    for group, body, centre in zip(plan.groups, bodies, chosen, strict=True):
        positions = tuple((round(x, 4), round(y, 4)) for x, y in (centre + body.members).tolist())
        groups.append(dataclasses.replace(group, positions=positions))
    return dataclasses.replace(plan, groups=tuple(groups))


def _half_view(camera: str) -> np.ndarray:
    """Half extents of the part of the world that the camera always sees."""
    if camera.startswith("pan"):
        return np.array([1.0 - motion.PAN, 1.0])
    if camera.startswith("zoom"):
        return np.full(2, 1.0 / motion.ZOOM)
    return np.ones(2)


def _body(
    plan: scene_lib.Scene, index: int, times: np.ndarray, half: np.ndarray, draws: Draws
) -> _Body:
    group = plan.groups[index]
    moves = motion.group_motion(plan, index, times)
    path = np.stack([moves.dx, moves.dy], axis=1)  # (t, 2)
    bound = moves.radius * shapes.BOUND[group.shape]
    name = group.arrangement
    if group.count == 3 and name != "pyramid":
        name = f"{name} of three"
    spacing = (2.0 * bound.max() + GAP + 2.0 * _JITTER) * draws.uniform(1.0, 1.2)
    jitter = (2.0 * draws.uniforms(group.count, 2) - 1.0) * _JITTER
    members = np.array(_PATTERNS[name]) * spacing + (jitter if group.count > 1 else 0.0)
    reach = bound[:, None] + BORDER
    low = -half + (reach - path).max(axis=0) - members.min(axis=0)
    high = half - (reach + path).max(axis=0) - members.max(axis=0)
    return _Body(members, path, bound, low, high)


def _propose(
    plan: scene_lib.Scene, bodies: list[_Body], draws: Draws, grid: bool
) -> Float[np.ndarray, "candidates groups 2"]:
    """Draws group centres inside the frame, leaning towards the stated relations."""
    share = draws.uniforms(_CANDIDATES, len(bodies), 2)
    if grid:
        share = np.floor(3.0 * share) / 2.0
    if plan.layout == "line":
        axis = _axis(plan.relations[0])[0]
        share[:, :, axis] = (np.arange(3) + share[:, :, axis]) / 3
    first = [body.low for body in bodies]
    extent = [body.high - body.low for body in bodies]
    centres = np.stack(first) + share * np.stack(extent)
    for relation in plan.relations[:2]:
        axis, sign = _axis(relation)
        across = 1 - axis
        subject, other = relation.subject, relation.object
        if plan.layout != "line":
            lean = 0.6 * share[:, :, axis]
            for index, end in ((subject, sign > 0), (other, sign < 0)):
                part = 1.0 - lean[:, index] if end else lean[:, index]
                centres[:, index, axis] = bodies[index].low[axis] + part * extent[index][axis]
        near = centres[:, subject, across]
        if plan.layout == "apex" and relation is plan.relations[1]:
            near = centres[:, :2, across].mean(axis=1)
            subject, other = other, subject
        spread = 0.9 * (share[:, other, across] - 0.5)
        centres[:, other, across] = np.clip(
            near + spread, bodies[other].low[across], bodies[other].high[across]
        )
    return centres


def _apart(
    bodies: list[_Body], centres: np.ndarray, first: int, second: int
) -> Bool[np.ndarray, "candidates"]:
    """Tells where no object of one group ever comes near one of the other."""
    a, b = bodies[first], bodies[second]
    offset = centres[:, None, None, None, second] - centres[:, None, None, None, first]
    offset = offset + (b.members[None, :] - a.members[:, None])[None, :, :, None]
    offset = offset + (b.path - a.path)[None, None, None]  # (candidates, n, m, t, 2)
    least = a.bound + b.bound + GAP
    return ((offset**2).sum(axis=-1) > least**2).all(axis=(1, 2, 3))


def _holds(
    bodies: list[_Body], centres: np.ndarray, relation: scene_lib.Relation
) -> Bool[np.ndarray, "candidates"]:
    """Tells where a relation holds at all times, and dominates at time 0."""
    axis, sign = _axis(relation)
    a, b = bodies[relation.subject], bodies[relation.object]
    offset = centres[:, relation.subject] - centres[:, relation.object]  # (candidates, 2)
    travel = sign * (a.path - b.path)[:, axis]
    members = sign * (a.members[:, None, axis] - b.members[None, :, axis])
    always = sign * offset[:, axis] + travel.min() + members.min() >= MARGIN
    return always & (np.abs(offset[:, axis]) >= DOMINANCE * np.abs(offset[:, 1 - axis]))


def _axis(relation: scene_lib.Relation) -> tuple[int, float]:
    """Returns the axis of a relation and the sign of subject minus object along it."""
    return {"left": (0, -1.0), "right": (0, 1.0), "above": (1, -1.0), "below": (1, 1.0)}[
        relation.name
    ]
