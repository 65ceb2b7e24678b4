# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Detects the timed actions of a group from its curves of position, size and shape.

A curve is split at its turning points into swings; a swing up followed by a swing down is a jump.
An object spins while its crop changes although it rests, or while it matches its own upright shape
badly; the latter is visible even where blur hides the angle.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

_MOVE = 0.32  # least distance of a move or jump, in half frames; the renderer's is 0.45
_GROWTH = 0.3  # least change of size, as a logarithm; the renderer's is 0.54
_LATE = 0.16  # least time without an object before it appears or after it disappears
_FADING = 0.14  # time around appearing and disappearing in which size is unreliable
_EDGE = 0.15  # share of a swing cut off at either end to time it
_SIZE_EDGE = 0.3  # ... of a swing in size, which blur lengthens
_TAIL, _TAIL_LEAST = 0.09, 0.26  # time around another action in which no spin is visible
_SPIN_WINDOW = 0.3  # time for which an object must not match upright
_SPIN_MARGIN = 0.004  # correlation margin of an upright object over other shapes
_SPIN_CHANGE = 0.05  # change per frame that only a spin makes

Curve = Float[np.ndarray, "f"]


@dataclasses.dataclass(frozen=True)
class Event:
    """An action of a group.

    Attributes:
        verb: Key of `vocabulary.VERBS`.
        start, stop: Times between which most of it happens, from 0 (first frame) to 1 (last).
    """

    verb: str
    start: float
    stop: float

    @property
    def middle(self) -> float:
        """Time half way."""
        return (self.start + self.stop) / 2


@dataclasses.dataclass(frozen=True)
class Curves:
    """Median curves of the objects of a group, by frame; NaN where none is visible.

    Attributes:
        x, y: Displacement from the first position, in world coordinates.
        size: Logarithm of their radius.
        fit: How much better they match their own upright shape than any other.
        change: How much their crop differs from the crop before.
    """

    x: Curve
    y: Curve
    size: Curve
    fit: Curve
    change: Curve


def find_events(curves: Curves, can_turn: bool, needs_change: float) -> tuple[Event, ...]:
    """Finds the actions of a group, in order of time.

    Args:
        curves: Of the group.
        can_turn: Whether a turn of its shape is visible.
        needs_change: Least `change` of a spinning object; for shapes that match badly when blurred.
    """
    events = []
    for start, stop, amount in _swings(curves.x, _MOVE):
        events.append(Event("right" if amount > 0 else "left", start, stop))
    events += _read_vertical(_swings(curves.y, _MOVE))
    fades = _find_fades(curves.x)
    size = curves.size.copy()
    times = np.linspace(0.0, 1.0, len(size))
    for fade in fades:
        size[np.abs(times - fade.middle) < _FADING] = np.nan
    for start, stop, amount in _swings(size, _GROWTH, _SIZE_EDGE):
        events.append(Event("grow" if amount > 0 else "shrink", start, stop))
    if can_turn:
        events += _find_spin(curves, events, needs_change)
    events += fades
    return tuple(sorted(events, key=lambda event: event.middle))


def _swings(curve: Curve, least: float, edge: float = _EDGE) -> list[tuple[float, float, float]]:
    """Splits a curve where it turns back by `least`; returns start, stop, amount of each part."""
    seen = np.flatnonzero(np.isfinite(curve))
    if len(seen) < 2:
        return []
    frames = np.arange(len(curve))
    values = np.interp(frames, seen, curve[seen])
    turns = [0]  # turning points: the last is the extreme so far
    direction = 0
    for frame in frames[1:]:
        value, extreme = values[frame], values[turns[-1]]
        if direction == 0:
            low, high = values[: frame + 1].argmin(), values[: frame + 1].argmax()
            if values[high] - values[low] >= least:
                direction = 1 if high > low else -1
                turns = [min(low, high), max(low, high)]
        elif direction * (value - extreme) >= 0:
            turns[-1] = frame
        elif direction * (extreme - value) >= least:
            direction = -direction
            turns.append(frame)
    swings = []
    for first, last in zip(turns[:-1], turns[1:], strict=True):
        amount = values[last] - values[first]
        done = (values[first : last + 1] - values[first]) / amount
        stop = first + int((done >= 1.0 - edge).argmax())
        start = stop - int((done[: stop - first + 1][::-1] <= edge).argmax())
        scale = len(curve) - 1
        swings.append((start / scale, stop / scale, amount))
    return swings


def _read_vertical(swings: list[tuple[float, float, float]]) -> list[Event]:
    """Separates jumps from moves up and down; `y` points down."""
    events = []
    index = 0
    while index < len(swings):
        start, stop, amount = swings[index]
        after = swings[index + 1] if index + 1 < len(swings) else None
        if amount > 0:
            events.append(Event("down", start, stop))
        elif after is None:
            events.append(Event("up", start, stop))
        else:
            events += _read_jump(swings[index], after)
            index += 1
        index += 1
    return events


def _read_jump(rise: tuple[float, float, float], fall: tuple[float, float, float]) -> list[Event]:
    """Splits a rise and fall into a jump and, if they differ, a move up before or down after it."""
    (start, peak, up), (_, stop, down) = rise, fall
    extra = down + up  # how much lower it ends than it began
    if abs(extra) < _MOVE:
        return [Event("jump", start, stop)]
    if extra > 0:
        back = peak + (stop - peak) * (-up / down)
        return [Event("jump", start, back), Event("down", back, stop)]
    left = start + (peak - start) * (-extra / -up)
    return [Event("up", start, left), Event("jump", left, stop)]


def _find_fades(curve: Curve) -> list[Event]:
    seen = np.flatnonzero(np.isfinite(curve))
    steps = max(len(curve) - 1, 1)
    events = []
    if not len(seen):
        return events
    first, last = seen[0] / steps, seen[-1] / steps
    if first > _LATE:
        events.append(Event("appear", first - 0.05, first + 0.05))
    if last < 1.0 - _LATE:
        events.append(Event("disappear", last - 0.05, last + 0.05))
    return events


def _find_spin(curves: Curves, others: list[Event], needs_change: float) -> list[Event]:
    """Finds the time in which a resting group does not match its upright shape."""
    steps = max(len(curves.fit) - 1, 1)
    times = np.arange(len(curves.fit)) / steps
    fit, change = curves.fit.copy(), curves.change.copy()
    for event in others:
        reach = max(_TAIL, _TAIL_LEAST - (event.stop - event.start) / 2)
        moving = (times > event.start - reach) & (times < event.stop + reach)
        fit[moving] = np.nan
        change[moving] = np.nan
    window = max(2, round(_SPIN_WINDOW * steps))
    turning = np.zeros(len(fit), bool)
    for first in range(len(fit) - window + 1):
        part = slice(first, first + window)
        finite = np.isfinite(fit[part])
        if finite.sum() < 0.6 * window:
            continue
        moved = change[part][np.isfinite(change[part])]
        moved = float(np.median(moved)) if len(moved) else 0.0
        unlike = fit[part][finite].mean() < _SPIN_MARGIN and moved >= needs_change
        turning[part] |= unlike or moved >= _SPIN_CHANGE
    if not turning.any():
        return []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], turning, [False]])))
    runs = edges.reshape(-1, 2)  # (runs, first and past the last)
    first, past = runs[(runs[:, 1] - runs[:, 0]).argmax()]
    return [Event("spin", float(times[first]), float(times[past - 1]))]
