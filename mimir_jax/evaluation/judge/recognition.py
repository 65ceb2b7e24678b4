# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From a clip to an observation, with no knowledge of the scene that it was made from."""

import dataclasses
import functools

import numpy as np

from mimir_jax.evaluation.judge import (
    actions,
    background,
    camera,
    observation,
    quality,
    segment,
    templates,
    tracks,
)
from mimir_jax.evaluation.judge import frames as frames_lib

_BORDER = 0.275  # radius between small and large, in half shorter sides
_TRUSTED = 0.3  # trust in a frame from which size is read
_BRIEF = 0.3  # share of a clip in which a piece of a track must be seen for its shape to count
_OTHER = 2.0  # loss of likelihood beyond which two pieces of a track are two objects
_TURNED = -0.03  # how much worse a turned object fits its shape, upright, than another
_DOUBT = 1.0  # loss of likelihood at which a shape may still be that of its neighbours
_NEEDS_CHANGE = {"star": 6e-4}  # a blurred star hardly fits its own shape even at rest


@dataclasses.dataclass(frozen=True)
class _Thing:
    """One object: its track, what it looks like, and its path through the world.

    `x`, `y` and `radius` are by frame, NaN where it is not seen. `start` is its radius at the
    start; of an object that never rests, the usual one.
    """

    track: tracks.Track
    look: templates.Look
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    start: float


def observe(clip: frames_lib.Clip) -> observation.Observation:
    """Reads a clip.

    Args:
        clip: Any number of frames, 0 to 255, at least 32 pixels high and wide; shapes are told
            apart reliably from 64 on.

    Raises:
        ValueError: in one line, for another shape or dtype.
    """
    shown = frames_lib.read(clip)
    paint = segment.segment(shown)
    paths = tracks.follow(paint, shown.half, functools.partial(_may_be_one, shown, paint))
    view = camera.find(shown, paths)
    behind = background.find(shown, view)
    looks = [templates.look(paint, track, shown.half) for track in paths]
    groups = []
    for (shape, colour), members in _alike(paths, looks).items():
        things = [_thing(shown, view, paths[index], looks[index], shape) for index in members]
        groups.append(_group(shape, colour, things, view))
    return observation.Observation(
        groups=tuple(groups),
        light=shown.light,
        camera=view.name,
        background=behind.kind,
        tone=behind.tone,
        steadiness=behind.steadiness,
        quality=quality.imaging_quality(shown.video),
    )


def _may_be_one(
    shown: frames_lib.Footage, paint: segment.Paint, first: tracks.Track, second: tracks.Track
) -> bool:
    """Tells whether two pieces of a track may show the same shape; short ones always may."""
    if min(len(first.blobs), len(second.blobs)) < _BRIEF * len(shown.video):
        return True
    before, after = (templates.look(paint, piece, shown.half) for piece in (first, second))
    return min(before.loss(after.shape), after.loss(before.shape)) < _OTHER


def _alike(
    paths: tuple[tracks.Track, ...], looks: list[templates.Look]
) -> dict[tuple[str, str], list[int]]:
    """Puts tracks of one shape and colour together, the most certain first.

    Where the shape of a track is in doubt, it follows another of its colour that is not.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index in sorted(range(len(paths)), key=lambda index: -looks[index].certainty):
        shape, colour = looks[index].shape, paths[index].colour
        for known, painted in groups:
            if painted == colour and looks[index].loss(known) < _DOUBT:
                shape = known
                break
        groups.setdefault((shape, colour), []).append(index)
    return groups


def _thing(
    shown: frames_lib.Footage,
    view: camera.Camera,
    track: tracks.Track,
    look: templates.Look,
    shape: str,
) -> _Thing:
    kind = templates.SHAPES.index(shape)
    frames = look.frames
    x, y, spread = np.array([[b.x, b.y, b.spread] for b in track.blobs]).T
    radius = spread / templates.spreads()[kind]
    x, y = shown.screen(x, y)
    height, width = shown.video.shape[1:3]
    offset = templates.centres()[kind] * (2.0 * shown.half / np.array([width, height]))
    x, y = x - offset[0] * radius, y - offset[1] * radius
    turned = _margin(look, kind) < _TURNED
    reach = 2.2 * np.linalg.norm(templates.centres()[kind]) * radius  # a turn moves no centre more
    x, y = _settle(x, turned, reach), _settle(y, turned, reach)
    path = np.full((3, len(shown.video)), np.nan)
    path[0, frames] = x / view.zoom[frames] + view.pan[frames]
    path[1, frames] = y / view.zoom[frames]
    radius = radius / view.zoom[frames]
    trusted = look.rest >= _TRUSTED
    path[2, frames[trusted]] = radius[trusted]
    start = np.median(radius[trusted][:2] if trusted.any() else radius)
    return _Thing(track, look, *path, start=float(start))


def _margin(look: templates.Look, kind: int) -> np.ndarray:
    """Returns how much better an object fits a shape than any other, by its frames."""
    return look.fits[:, kind] - np.delete(look.fits, kind, axis=1).max(axis=1)


def _settle(path: np.ndarray, turned: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Takes back what turning does to the centre of lopsided paint, which is read as if upright."""
    if turned.all():
        return path
    frames = np.arange(len(path))
    straight = np.interp(frames, frames[~turned], path[~turned])
    return np.where(turned & (np.abs(path - straight) < reach), straight, path)


def _group(shape: str, colour: str, things: list[_Thing], view: camera.Camera) -> observation.Group:
    count = _count(things)
    things = sorted(things, key=lambda thing: -len(thing.track.blobs))[:count]
    radius = float(np.median([thing.start for thing in things]))
    places = np.stack([np.stack([_held(t.x), _held(t.y)], axis=-1) for t in things], axis=1)
    events = ()
    if view.name == "still":
        can_turn = shape not in templates.EVEN
        curves = _curves(things, templates.SHAPES.index(shape))
        events = actions.find(curves, can_turn, _NEEDS_CHANGE.get(shape, 0.0))
    return observation.Group(
        shape=shape,
        colour=colour,
        size="small" if radius < _BORDER else "large",
        count=count,
        radius=radius,
        places=places,
        events=events,
    )


def _count(things: list[_Thing]) -> int:
    """Counts the objects that show together in most frames."""
    shown = np.isfinite([thing.x for thing in things]).sum(axis=0)
    numbers = np.bincount(shown[shown > 0])
    return int(numbers.argmax())


def _curves(things: list[_Thing], kind: int) -> actions.Curves:
    """Combines the paths of the members of a group."""
    x = _together([thing.x - _start(thing.x) for thing in things])
    y = _together([thing.y - _start(thing.y) for thing in things])
    size = _together([np.log(thing.radius) for thing in things])
    fit, change = [], []
    for thing in things:
        look = thing.look
        margin = _margin(look, kind)
        solid = look.solid > 0.6
        by_frame = np.full((2, len(thing.x)), np.nan)
        by_frame[0, look.frames[solid]] = margin[solid]
        after = solid[1:] & solid[:-1] & (np.diff(look.frames) == 1)
        by_frame[1, look.frames[1:][after]] = templates.changes(look)[after]
        fit.append(by_frame[0])
        change.append(by_frame[1])
    return actions.Curves(x, y, size, _together(fit), _together(change))


def _together(curves: list[np.ndarray]) -> np.ndarray:
    """Median over the members that are seen, by frame."""
    table = np.stack(curves)
    result = np.full(table.shape[1], np.nan)
    seen = np.isfinite(table).any(axis=0)
    result[seen] = np.nanmedian(table[:, seen], axis=0)
    return result


def _start(curve: np.ndarray) -> float:
    """Value where it is first seen, from up to two frames; NaN where it never is."""
    seen = curve[np.isfinite(curve)]
    return float(np.median(seen[:2])) if len(seen) else np.nan


def _held(curve: np.ndarray) -> np.ndarray:
    """Fills a path: straight between sightings, at rest before the first and after the last."""
    seen = np.flatnonzero(np.isfinite(curve))
    return np.interp(np.arange(len(curve)), seen, curve[seen])
