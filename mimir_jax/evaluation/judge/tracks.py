# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Multi-object tracking: which blobs are the same object at different times.

Blobs of consecutive frames are linked by minimum cost assignment. In a blurred clip a fast object
fades from one place to the next, which breaks its track or leaves a ghost. Track pieces that follow
one another are joined, and short pieces beside a whole track of the same colour are dropped.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import optimize

from mimir_jax.evaluation.judge import segmentation

_MAX_SPEED = 8.0  # in half shorter sides per clip; a jump begins at 6.7
_STEP = 0.5  # least search radius between two frames, whatever their number
_BLINK = 0.13  # longest gap after which a track simply continues
_PAUSE = 0.35  # longest gap within a track
_OVERLAP = 0.15  # longest time for which two pieces of one track overlap
_LEAP = 1.0  # longest distance between such pieces
_GHOST = 0.45  # distance between a ghost and its object; two objects are further apart
_SHORT = 0.12  # of the clip; no object is visible for less
_HUE = 0.15  # largest colour difference between a blob and its track


@dataclasses.dataclass(frozen=True)
class Track:
    """One object over time: its blobs by frame, possibly with gaps."""

    blobs: tuple[segmentation.Blob, ...]

    @property
    def similarity(self) -> Float[np.ndarray, "colours"]:
        """Mean similarity to every colour, weighted by strength."""
        weight = np.array([blob.strength for blob in self.blobs])
        return np.average([blob.similarity for blob in self.blobs], axis=0, weights=weight)

    @property
    def colour(self) -> str:
        """The most similar colour."""
        return segmentation.COLOURS[int(self.similarity.argmax())]

    @property
    def first(self) -> int:
        """Its first frame."""
        return self.blobs[0].frame

    @property
    def last(self) -> int:
        """Its last frame."""
        return self.blobs[-1].frame


def track_objects(
    mask: segmentation.ForegroundMask, half: float, may_match: Callable[[Track, Track], bool]
) -> tuple[Track, ...]:
    """Returns the tracks of all objects, ordered by first frame.

    Args:
        mask: Foreground of the clip.
        half: Half the shorter side, in pixels.
        may_match: Whether the shapes of two pieces of one colour allow them to be one object.
    """
    steps = max(len(mask.blobs) - 1, 1)
    pieces = _join(_link(mask, half, steps), half, steps, may_match)
    whole = [
        piece
        for piece in pieces
        if len(piece.blobs) >= _SHORT * steps and not _is_ghost(piece, pieces, half, steps)
    ]
    return tuple(sorted(whole, key=lambda track: track.first))


def _link(mask: segmentation.ForegroundMask, half: float, steps: int) -> list[Track]:
    """Links blobs from frame to frame."""
    reach = max(_MAX_SPEED / steps, _STEP)
    open_tracks: list[list[segmentation.Blob]] = []
    done: list[list[segmentation.Blob]] = []
    for frame, blobs in enumerate(mask.blobs):
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


def _cost(
    track: list[segmentation.Blob], blob: segmentation.Blob, reach: float, half: float
) -> float:
    last = track[-1]
    distance = np.hypot(blob.x - last.x, blob.y - last.y) / half
    hue = _colour_difference(np.mean([b.similarity for b in track[-4:]], axis=0), blob.similarity)
    if distance > reach or hue > _HUE:
        return _NEVER
    return distance**2 + hue + 0.1 * abs(np.log(blob.spread / last.spread))


def _colour_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Returns how much less one of two is similar to the colour of the other than to its own."""
    return float(max(a.max() - a[b.argmax()], b.max() - b[a.argmax()]))


def _join(
    pieces: list[Track], half: float, steps: int, may_match: Callable[[Track, Track], bool]
) -> list[Track]:
    """Joins pieces that follow one another until no two do.

    When a group of equal objects leaps, one may land where its neighbour was and take over the
    neighbour's track. Therefore all tracks of the colour are cut at the pause and matched again.
    """
    while True:
        for a, b in _followers(pieces, steps):
            spanning = [
                piece
                for piece in pieces
                if piece is not a and piece is not b and piece.colour == a.colour
                if piece.first < b.first and piece.last > a.last and piece.first <= a.last
            ]
            heads = [a] + [_cut(piece, stop=a.last) for piece in spanning]
            tails = [b] + [_cut(piece, start=max(b.first, a.last + 1)) for piece in spanning]
            if not all(heads) or not all(tails):
                continue
            distances = np.array(
                [[_distance(h.blobs[-1], t.blobs[0], half) for t in tails] for h in heads]
            )
            rows, columns = optimize.linear_sum_assignment(distances**2)
            if (distances[rows, columns] > _LEAP).any() or not may_match(a, b):
                continue
            old = [a, b, *spanning]
            pieces = [piece for piece in pieces if not any(piece is other for other in old)]
            pieces += [_merge(heads[i], tails[j]) for i, j in zip(rows, columns, strict=True)]
            break
        else:
            return pieces


def _followers(pieces: list[Track], steps: int) -> list[tuple[Track, Track]]:
    """Lists pieces of one colour that could be the same object before and after a pause."""
    pairs = []
    for a in pieces:
        for b in pieces:
            pause = (b.first - a.last - 1) / steps
            if a.first < b.first and a.last < b.last and -_OVERLAP <= pause <= _PAUSE:
                if a.colour == b.colour:
                    pairs.append((abs(pause), _distance(a.blobs[-1], b.blobs[0], 1.0), a, b))
    return [(a, b) for _, _, a, b in sorted(pairs, key=lambda pair: pair[:2])]


def _cut(track: Track, start: int = 0, stop: int = 1 << 30) -> Track | None:
    blobs = tuple(blob for blob in track.blobs if start <= blob.frame <= stop)
    return Track(blobs) if blobs else None


def _distance(a: segmentation.Blob, b: segmentation.Blob, half: float) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y)) / half


def _merge(a: Track, b: Track) -> Track:
    """Merges two tracks; the stronger of two blobs in a frame is kept, the other is a ghost."""
    shown = {blob.frame: blob for blob in a.blobs}
    for blob in b.blobs:
        if blob.frame not in shown or blob.strength >= shown[blob.frame].strength:
            shown[blob.frame] = blob
    return Track(tuple(shown[frame] for frame in sorted(shown)))


def _is_ghost(track: Track, others: list[Track], half: float, steps: int) -> bool:
    """Returns whether a short track stays closer to a longer one than two objects can be."""
    frames, x, y = _path(track)
    for other in others:
        if other is track or len(other.blobs) < 2 * len(frames) or len(frames) > 0.5 * steps:
            continue
        if not other.first <= np.median(frames) <= other.last:
            continue
        other_frames, other_x, other_y = _path(other)
        distances = np.hypot(
            x - np.interp(frames, other_frames, other_x),
            y - np.interp(frames, other_frames, other_y),
        )
        if (
            np.median(distances) < _GHOST * half
            and _colour_difference(track.similarity, other.similarity) < 0.5
        ):
            return True
    return False


def _path(track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns frames, x and y of a track."""
    return tuple(np.array([[b.frame, b.x, b.y] for b in track.blobs]).T)
