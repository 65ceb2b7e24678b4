# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Blobs to tracks: which patches of paint are the same object at different times.

Frames are linked by the cheapest assignment. A fast object in a blurred clip fades from one place
to the next, which breaks its track or leaves a ghost; pieces that follow one another are joined and
short pieces beside a whole track of the same colour are dropped.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import optimize

from mimir_jax.evaluation.judge import segment

_SPEED = 8.0  # most, in half shorter sides per clip; a jump begins at 6.7
_STEP = 0.5  # least reach between two frames, whatever their number
_BLINK = 0.13  # longest time out of sight after which a track is simply carried on
_PAUSE = 0.35  # longest time out of sight within a track
_OVERLAP = 0.15  # longest time for which two pieces of one track show together
_LEAP = 1.0  # longest way between such pieces
_GHOST = 0.45  # nearest possible objects are further apart
_SHORT = 0.12  # of the clip; nothing real is seen for less
_HUE = 0.15  # how much less a blob may be like a track's colour than like its own, as a cosine


@dataclasses.dataclass(frozen=True)
class Track:
    """One object over time: its blobs, by frame, not necessarily without gaps."""

    blobs: tuple[segment.Blob, ...]

    @property
    def likeness(self) -> Float[np.ndarray, "colours"]:
        """Mean likeness to every colour; stronger paint counts more."""
        weight = np.array([blob.level for blob in self.blobs])
        return np.average([blob.likeness for blob in self.blobs], axis=0, weights=weight)

    @property
    def colour(self) -> str:
        """The colour that it is most like."""
        return segment.COLOURS[int(self.likeness.argmax())]

    @property
    def first(self) -> int:
        """Its first frame."""
        return self.blobs[0].frame

    @property
    def last(self) -> int:
        """Its last frame."""
        return self.blobs[-1].frame


def follow(
    paint: segment.Paint, half: float, alike: Callable[[Track, Track], bool]
) -> tuple[Track, ...]:
    """Returns the objects of a clip over time, by first frame.

    Args:
        half: Of the shorter side, in pixels.
        alike: Whether two pieces of one colour may be one object, by their shape.
    """
    steps = max(len(paint.blobs) - 1, 1)
    pieces = _join(_link(paint, half, steps), half, steps, alike)
    whole = [
        piece
        for piece in pieces
        if len(piece.blobs) >= _SHORT * steps and not _is_ghost(piece, pieces, half, steps)
    ]
    return tuple(sorted(whole, key=lambda track: track.first))


def _link(paint: segment.Paint, half: float, steps: int) -> list[Track]:
    """Carries tracks from frame to frame."""
    reach = max(_SPEED / steps, _STEP)
    open_tracks: list[list[segment.Blob]] = []
    done: list[list[segment.Blob]] = []
    for frame, blobs in enumerate(paint.blobs):
        late = [t for t in open_tracks if frame - t[-1].frame > max(1, round(_BLINK * steps))]
        done += late
        open_tracks = [t for t in open_tracks if not any(t is other for other in late)]
        new = list(blobs)
        if open_tracks and blobs:
            cost = np.array([[_cost(t, blob, reach, half) for blob in blobs] for t in open_tracks])
            for row, column in zip(*optimize.linear_sum_assignment(cost), strict=True):
                if cost[row, column] < _NEVER:
                    open_tracks[row].append(blobs[column])
                    new.remove(blobs[column])
        open_tracks += [[blob] for blob in new]
    return [Track(tuple(blobs)) for blobs in done + open_tracks]


_NEVER = 1e3


def _cost(track: list[segment.Blob], blob: segment.Blob, reach: float, half: float) -> float:
    last = track[-1]
    way = np.hypot(blob.x - last.x, blob.y - last.y) / half
    hue = _otherness(np.mean([b.likeness for b in track[-4:]], axis=0), blob.likeness)
    if way > reach or hue > _HUE:
        return _NEVER
    return way**2 + hue + 0.1 * abs(np.log(blob.spread / last.spread))


def _otherness(a: np.ndarray, b: np.ndarray) -> float:
    """How much less either is like the other's best colour than like its own."""
    return float(max(a.max() - a[b.argmax()], b.max() - b[a.argmax()]))


def _join(
    pieces: list[Track], half: float, steps: int, alike: Callable[[Track, Track], bool]
) -> list[Track]:
    """Joins pieces that follow one another, until no two do.

    Where a group of like objects leaps, one may land where its neighbour was and take over the
    neighbour's track. So all tracks of the colour are cut at the pause, and matched anew across.
    """
    while True:
        for a, b in _followers(pieces, steps):
            spanning = [
                piece
                for piece in pieces
                if piece is not a and piece is not b and piece.colour == a.colour
                if piece.first < b.first and piece.last > a.last and piece.first <= a.last
            ]
            heads = [a] + [_part(piece, stop=a.last) for piece in spanning]
            tails = [b] + [_part(piece, start=max(b.first, a.last + 1)) for piece in spanning]
            if not all(heads) or not all(tails):
                continue
            ways = np.array([[_way(h.blobs[-1], t.blobs[0], half) for t in tails] for h in heads])
            rows, columns = optimize.linear_sum_assignment(ways**2)
            if (ways[rows, columns] > _LEAP).any() or not alike(a, b):
                continue
            old = [a, b, *spanning]
            pieces = [piece for piece in pieces if not any(piece is other for other in old)]
            pieces += [_chain(heads[i], tails[j]) for i, j in zip(rows, columns, strict=True)]
            break
        else:
            return pieces


def _followers(pieces: list[Track], steps: int) -> list[tuple[Track, Track]]:
    """Lists pieces of one colour that could be the same object before and after a pause."""
    found = []
    for a in pieces:
        for b in pieces:
            pause = (b.first - a.last - 1) / steps
            if a.first < b.first and a.last < b.last and -_OVERLAP <= pause <= _PAUSE:
                if a.colour == b.colour:
                    found.append((abs(pause), _way(a.blobs[-1], b.blobs[0], 1.0), a, b))
    return [(a, b) for _, _, a, b in sorted(found, key=lambda pair: pair[:2])]


def _part(track: Track, start: int = 0, stop: int = 1 << 30) -> Track | None:
    blobs = tuple(blob for blob in track.blobs if start <= blob.frame <= stop)
    return Track(blobs) if blobs else None


def _way(a: segment.Blob, b: segment.Blob, half: float) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y)) / half


def _chain(a: Track, b: Track) -> Track:
    """Joins two tracks; where both show, the stronger paint is the object, the other its ghost."""
    shown = {blob.frame: blob for blob in a.blobs}
    for blob in b.blobs:
        if blob.frame not in shown or blob.level >= shown[blob.frame].level:
            shown[blob.frame] = blob
    return Track(tuple(shown[frame] for frame in sorted(shown)))


def _is_ghost(track: Track, others: list[Track], half: float, steps: int) -> bool:
    """Tells whether a short track stays closer to a longer one than two objects can be."""
    frames, x, y = _path(track)
    for other in others:
        if other is track or len(other.blobs) < 2 * len(frames) or len(frames) > 0.5 * steps:
            continue
        if not other.first <= np.median(frames) <= other.last:
            continue
        there, other_x, other_y = _path(other)
        ways = np.hypot(
            x - np.interp(frames, there, other_x), y - np.interp(frames, there, other_y)
        )
        if np.median(ways) < _GHOST * half and _otherness(track.likeness, other.likeness) < 0.5:
            return True
    return False


def _path(track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns frames and places of a track."""
    return tuple(np.array([[b.frame, b.x, b.y] for b in track.blobs]).T)
