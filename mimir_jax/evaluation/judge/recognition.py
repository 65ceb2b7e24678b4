# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Turns a clip into an observation, without access to its scene."""

import dataclasses
import functools

import numpy as np

from mimir_jax.evaluation.judge import (
    actions,
    background,
    camera,
    observation,
    quality,
    segmentation,
    templates,
    tracks,
)
from mimir_jax.evaluation.judge import frames as frames_lib

_BORDER = 0.275  # radius between small and large, in half shorter sides
_TRUSTED = 0.3  # least trust in a frame from which size is read
_BRIEF = 0.3  # share of a clip below which the shape of a track piece is unreliable
_OTHER = 2.0  # log likelihood gap beyond which two track pieces are two objects
_TURNED = -0.03  # correlation margin below which an object is not upright
_DOUBT = 1.0  # log likelihood gap below which a track may join another shape of its colour
_NEEDS_CHANGE = {"star": 6e-4}  # a blurred star hardly matches its own shape even at rest


@dataclasses.dataclass(frozen=True)
class TrackedObject:
    """One object: its track, its shape and its path in world coordinates.

    Attributes:
        track: Its blobs over time.
        match: How well it matches each shape.
        x, y, radius: By frame; NaN where it is not visible, and `radius` also where it moves fast.
        start: Radius at the start; the median radius of an object that never rests.
    """

    track: tracks.Track
    match: templates.ShapeMatch
    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    start: float


def observe(clip: frames_lib.Clip) -> observation.Observation:
    """Observes a clip.

    Args:
        clip: Any number of frames, 0 to 255, at least 32 pixels high and wide; shapes are
            recognised reliably from 64 pixels.

    Raises:
        InputError: for another shape or dtype.
    """
    clip_frames = frames_lib.read_clip(clip)
    mask = segmentation.segment_foreground(clip_frames)
    paths = tracks.track_objects(
        mask, clip_frames.half, functools.partial(_may_be_same_object, clip_frames, mask)
    )
    view = camera.estimate_camera(clip_frames, paths)
    estimate = background.estimate_background(clip_frames, view)
    matches = [templates.match_shape(mask, track, clip_frames.half) for track in paths]
    groups = []
    for (shape, colour), members in _group_tracks(paths, matches).items():
        objects = [
            _measure_object(clip_frames, view, paths[index], matches[index], shape)
            for index in members
        ]
        groups.append(_group(shape, colour, objects, view))
    return observation.Observation(
        groups=tuple(groups),
        light=clip_frames.light,
        camera=view.name,
        background=estimate.kind,
        tone=estimate.tone,
        steadiness=estimate.steadiness,
        quality=quality.imaging_quality(clip_frames.video),
    )


def _may_be_same_object(
    clip_frames: frames_lib.ClipFrames,
    mask: segmentation.ForegroundMask,
    first: tracks.Track,
    second: tracks.Track,
) -> bool:
    """Returns whether two track pieces may show the same shape; short pieces always may."""
    if min(len(first.blobs), len(second.blobs)) < _BRIEF * len(clip_frames.video):
        return True
    before, after = (
        templates.match_shape(mask, piece, clip_frames.half) for piece in (first, second)
    )
    return (
        min(before.log_likelihood_gap(after.shape), after.log_likelihood_gap(before.shape)) < _OTHER
    )


def _group_tracks(
    paths: tuple[tracks.Track, ...], matches: list[templates.ShapeMatch]
) -> dict[tuple[str, str], list[int]]:
    """Groups tracks by shape and colour, the most certain first.

    A track of uncertain shape joins a more certain group of its colour.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index in sorted(range(len(paths)), key=lambda index: -matches[index].certainty):
        shape, colour = matches[index].shape, paths[index].colour
        for group_shape, group_colour in groups:
            if group_colour == colour and matches[index].log_likelihood_gap(group_shape) < _DOUBT:
                shape = group_shape
                break
        groups.setdefault((shape, colour), []).append(index)
    return groups


def _measure_object(
    clip_frames: frames_lib.ClipFrames,
    view: camera.Camera,
    track: tracks.Track,
    match: templates.ShapeMatch,
    shape: str,
) -> TrackedObject:
    kind = templates.SHAPES.index(shape)
    frames = match.frames
    x, y, spread = np.array([[b.x, b.y, b.spread] for b in track.blobs]).T
    radius = spread / templates.shape_spreads()[kind]
    x, y = clip_frames.to_screen(x, y)
    height, width = clip_frames.video.shape[1:3]
    offset = templates.shape_centres()[kind] * (2.0 * clip_frames.half / np.array([width, height]))
    x, y = x - offset[0] * radius, y - offset[1] * radius
    turned = _margin(match, kind) < _TURNED
    most = 2.2 * np.linalg.norm(templates.shape_centres()[kind]) * radius  # that a turn can move it
    x, y = _remove_turn_offset(x, turned, most), _remove_turn_offset(y, turned, most)
    path = np.full((3, len(clip_frames.video)), np.nan)
    path[0, frames] = x / view.zoom[frames] + view.pan[frames]
    path[1, frames] = y / view.zoom[frames]
    radius = radius / view.zoom[frames]
    trusted = match.size_trust >= _TRUSTED
    path[2, frames[trusted]] = radius[trusted]
    start = np.median(radius[trusted][:2] if trusted.any() else radius)
    return TrackedObject(track, match, *path, start=float(start))


def _margin(match: templates.ShapeMatch, kind: int) -> np.ndarray:
    """Returns by frame how much better an object matches a shape than any other shape."""
    return match.correlations[:, kind] - np.delete(match.correlations, kind, axis=1).max(axis=1)


def _remove_turn_offset(path: np.ndarray, turned: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Interpolates a path over turns, which shift the centre of mass of asymmetric shapes."""
    if turned.all():
        return path
    frames = np.arange(len(path))
    straight = np.interp(frames, frames[~turned], path[~turned])
    return np.where(turned & (np.abs(path - straight) < most), straight, path)


def _group(
    shape: str, colour: str, objects: list[TrackedObject], view: camera.Camera
) -> observation.Group:
    count = _count(objects)
    objects = sorted(objects, key=lambda tracked: -len(tracked.track.blobs))[:count]
    radius = float(np.median([tracked.start for tracked in objects]))
    positions = np.stack(
        [np.stack([_fill_gaps(t.x), _fill_gaps(t.y)], axis=-1) for t in objects], axis=1
    )
    events = ()
    if view.name == "still":
        can_turn = shape not in templates.ROTATION_INVARIANT
        curves = _curves(objects, templates.SHAPES.index(shape))
        events = actions.find_events(curves, can_turn, _NEEDS_CHANGE.get(shape, 0.0))
    return observation.Group(
        shape=shape,
        colour=colour,
        size="small" if radius < _BORDER else "large",
        count=count,
        radius=radius,
        positions=positions,
        events=events,
    )


def _count(objects: list[TrackedObject]) -> int:
    """Returns the most frequent number of objects visible together."""
    visible = np.isfinite([tracked.x for tracked in objects]).sum(axis=0)
    numbers = np.bincount(visible[visible > 0])
    return int(numbers.argmax())


def _curves(objects: list[TrackedObject], kind: int) -> actions.Curves:
    """Combines the paths of the members of a group."""
    x = _median_curve([tracked.x - _first_value(tracked.x) for tracked in objects])
    y = _median_curve([tracked.y - _first_value(tracked.y) for tracked in objects])
    size = _median_curve([np.log(tracked.radius) for tracked in objects])
    fit, change = [], []
    for tracked in objects:
        match = tracked.match
        margin = _margin(match, kind)
        solid = match.solidity > 0.6
        by_frame = np.full((2, len(tracked.x)), np.nan)
        by_frame[0, match.frames[solid]] = margin[solid]
        after = solid[1:] & solid[:-1] & (np.diff(match.frames) == 1)
        by_frame[1, match.frames[1:][after]] = templates.frame_changes(match)[after]
        fit.append(by_frame[0])
        change.append(by_frame[1])
    return actions.Curves(x, y, size, _median_curve(fit), _median_curve(change))


def _median_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Returns the median over the visible members, by frame."""
    table = np.stack(curves)
    result = np.full(table.shape[1], np.nan)
    seen = np.isfinite(table).any(axis=0)
    result[seen] = np.nanmedian(table[:, seen], axis=0)
    return result


def _first_value(curve: np.ndarray) -> float:
    """Returns the median of the first two finite values; NaN if there are none."""
    seen = curve[np.isfinite(curve)]
    return float(np.median(seen[:2])) if len(seen) else np.nan


def _fill_gaps(curve: np.ndarray) -> np.ndarray:
    """Interpolates a path over gaps; constant before the first and after the last value."""
    seen = np.flatnonzero(np.isfinite(curve))
    return np.interp(np.arange(len(curve)), seen, curve[seen])
