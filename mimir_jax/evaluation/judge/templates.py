# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Shape recognition by template matching with the renderer's shapes at several blurs.

Crops are centred on the centre of mass of an object and scaled by its spread, so that one small
set of templates serves all positions and sizes. Blur makes shapes round, never pointed: a frame
that looks like a circle is weak evidence, one that looks like a star is strong. The confusion table
below puts that in numbers.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import shapes, vocabulary
from mimir_jax.evaluation.judge import segmentation, tracks

SHAPES = tuple(vocabulary.SHAPES)
ROTATION_INVARIANT = ("circle", "ring")
"""Shapes that look the same at every angle."""

_GRID = 20  # pixels per side of a crop
_EXTENT = 2.1  # half the side of a crop, in spreads
_HALF = 32.0  # of the frame that templates are drawn for, in pixels
_OUTLINE = 0.036 * _HALF
_ROUND = SHAPES.index("circle")
_SHARE = {"same": 0.6, "round": 0.35}  # how often a shape is seen as itself, and as a circle
_CIRCLE = 0.98  # how often a circle is seen as itself
_STAR = 0.02  # how often a star is seen as each shape but itself and a circle: blur thins it
_SHARPNESS = 0.006  # difference in correlation that counts as a clear one
_SAME = 0.995  # correlation above which two crops are equal
_LEAST = 0.93  # smallest spread of a shape, relative to its small size
_LEAST_WIDTH = 0.05
_FAST = 0.047  # speed at which a frame counts half, in half shorter sides per frame
_DOUBT = 5.0  # largest penalty for size in one frame

Crops = Float[np.ndarray, "n grid grid"]


@dataclasses.dataclass(frozen=True)
class ShapeMatch:
    """A track compared with the upright templates of all shapes.

    Attributes:
        frames: Frames in which it is visible.
        crops: Its coverage, centred and scaled.
        correlations: Best correlation with every shape, in the order of `SHAPES`.
        solidity: 1 where the object is solid, 0 where it is half transparent.
        trust: Weight of each frame: 1 where the object rests and is solid, towards 0 where it is
            fast, grows, shrinks or is faint.
        size_trust: The same without the changes of size.
        evidence: Weighted log likelihood of every shape, in the order of `SHAPES`.
    """

    frames: Int[np.ndarray, "n"]
    crops: Crops
    correlations: Float[np.ndarray, "n shapes"]
    solidity: Float[np.ndarray, "n"]
    trust: Float[np.ndarray, "n"]
    size_trust: Float[np.ndarray, "n"]
    evidence: Float[np.ndarray, "shapes"]

    @property
    def shape(self) -> str:
        """The most likely shape."""
        return SHAPES[int(self.evidence.argmax())]

    @property
    def certainty(self) -> float:
        """Log likelihood ratio of the two most likely shapes."""
        second, first = np.sort(self.evidence)[-2:]
        return float(first - second)

    def log_likelihood_gap(self, shape: str) -> float:
        """Returns the log likelihood ratio of the most likely shape and `shape`."""
        return float(self.evidence.max() - self.evidence[SHAPES.index(shape)])


def match_shape(mask: segmentation.ForegroundMask, track: tracks.Track, half: float) -> ShapeMatch:
    """Compares a track with every shape; `half` is half the shorter side in pixels."""
    crops = _crops(mask, track, half)
    solidity, trust, size_trust = _trust(track, half)
    images, kinds = _upright()
    similarity = _normalised(crops) @ images.T
    best = np.stack(
        [similarity[:, kinds == kind].max(axis=1) for kind in range(len(SHAPES))], axis=1
    )
    odds = np.exp((best - best.max(axis=1, keepdims=True)) / _SHARPNESS)
    odds /= odds.sum(axis=1, keepdims=True)  # (n, shapes)
    likelihood = np.log(odds @ _confusion().T)
    spread = np.array([blob.spread for blob in track.blobs])[:, None]
    small = _LEAST - spread / (shape_spreads() * scene_lib.RADII["small"])
    likelihood -= np.minimum(0.5 * (np.maximum(small, 0.0) / _LEAST_WIDTH) ** 2, _DOUBT)
    frames = np.array([blob.frame for blob in track.blobs])
    evidence = (_frame_weights(crops, trust)[:, None] * likelihood).sum(axis=0)
    return ShapeMatch(frames, crops, best, solidity, trust, size_trust, evidence)


def frame_changes(match: ShapeMatch) -> Float[np.ndarray, "m"]:
    """Returns 1 minus the correlation of each crop with the crop before, one fewer than frames."""
    rows = _normalised(match.crops)
    return 1.0 - (rows[1:] * rows[:-1]).sum(axis=1)


@functools.cache
def shape_spreads() -> Float[np.ndarray, "shapes"]:
    """Returns the spread of every shape, in nominal radii."""
    radius = _HALF * scene_lib.RADII["small"]
    return np.array([_measure(_draw(shape, radius, 0.5))[2] / radius for shape in SHAPES])


@functools.cache
def shape_centres() -> Float[np.ndarray, "shapes 2"]:
    """Returns the centre of mass of every upright shape, x and y in nominal radii."""
    radius = _HALF * scene_lib.RADII["small"]
    result = []
    for shape in SHAPES:
        drawing = _draw(shape, radius, 0.5)
        x, y, _ = _measure(drawing)
        result.append(((x - len(drawing) // 2) / radius, (y - len(drawing) // 2) / radius))
    return np.array(result)


def _trust(track: tracks.Track, half: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns solidity, trust and size trust by frame; see `ShapeMatch`."""
    frames, x, y, spread, strength = np.array(
        [[b.frame, b.x, b.y, b.spread, b.strength] for b in track.blobs]
    ).T
    solidity = np.clip((strength / np.percentile(strength, 90) - 0.5) / 0.3, 0.0, 1.0)
    moved = _speed(frames, np.stack([x, y], axis=-1) / half)
    grown = _speed(frames, 0.4 * np.log(spread)[:, None], reach=1)
    trust, size_trust = (
        solidity / (1.0 + (speed / _FAST) ** 4) for speed in (moved + grown, moved)
    )
    return solidity, trust, size_trust


def _speed(frames: np.ndarray, path: np.ndarray, reach: int = 2) -> np.ndarray:
    """Returns the largest speed over one step before or after each frame, and over `reach` steps.

    A clip decoded in blocks of frames moves in jerks: a blurred object may rest for one frame.
    """
    speed = np.zeros(len(frames))
    last = len(frames) - 1
    for k in range(len(frames)):
        for first, second in ((k - 1, k), (k, k + 1), (max(k - reach, 0), min(k + reach, last))):
            if 0 <= first < second <= last:
                distance = np.linalg.norm(path[second] - path[first])
                speed[k] = max(speed[k], distance / (frames[second] - frames[first]))
    if frames[0] == 0:  # causal encoders see the first frame alone
        speed[0] = 0.0
    return speed


def _frame_weights(crops: Crops, trust: np.ndarray) -> np.ndarray:
    """Returns weights of frames; many equal crops are little more evidence than one."""
    rows = _normalised(crops)
    same = (rows @ rows.T > _SAME) * (trust + 1e-3)
    return (trust + 1e-3) / np.sqrt(np.maximum(same.sum(axis=1), 1.0))


def _crops(mask: segmentation.ForegroundMask, track: tracks.Track, half: float) -> Crops:
    """Samples the coverage of every blob on a grid around its centre, without other blobs."""
    frames, labels, x, y, spread = np.array(
        [[b.frame, b.label, b.x, b.y, b.spread] for b in track.blobs]
    ).T
    frames = frames.astype(int)
    own = mask.labels[frames] == labels[:, None, None]
    return _sample(mask.coverage[frames] * own, x, y, spread * half)


def _sample(images: np.ndarray, x: np.ndarray, y: np.ndarray, spread: np.ndarray) -> Crops:
    """Samples a grid around (x, y) from each image, bilinearly; outside is empty."""
    height, width = images.shape[1:]
    images = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    unit = ((np.arange(_GRID) + 0.5) / _GRID * 2.0 - 1.0) * _EXTENT
    columns = np.clip(x[:, None] + spread[:, None] * unit + 1.0, 0.0, width + 0.999)
    rows = np.clip(y[:, None] + spread[:, None] * unit + 1.0, 0.0, height + 0.999)
    left, top = columns.astype(int), rows.astype(int)
    right, down = (columns - left)[:, None, :], (rows - top)[:, :, None]
    index = np.arange(len(images))[:, None, None]
    corner = [
        images[index, (top + i)[:, :, None], (left + j)[:, None, :]] for i in (0, 1) for j in (0, 1)
    ]
    upper = corner[0] + (corner[1] - corner[0]) * right
    lower = corner[2] + (corner[3] - corner[2]) * right
    return upper + (lower - upper) * down


def _normalised(crops: Crops) -> Float[np.ndarray, "n pixels"]:
    rows = crops.reshape(len(crops), _GRID * _GRID).astype(np.float32)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6)


@functools.cache
def _confusion() -> Float[np.ndarray, "shapes shapes"]:
    """Returns the probability that a shape (row) is seen as each shape (column)."""
    count = len(SHAPES)
    rest = (1.0 - sum(_SHARE.values())) / (count - 2)
    table = np.full((count, count), rest) + np.eye(count) * (_SHARE["same"] - rest)
    star = SHAPES.index("star")
    table[star] = _STAR
    table[star, star] = 1.0 - _SHARE["round"] - (count - 2) * _STAR
    table[:, _ROUND] = _SHARE["round"]
    table[_ROUND] = (1.0 - _CIRCLE) / (count - 1)
    table[_ROUND, _ROUND] = _CIRCLE
    return table


@functools.cache
def _upright() -> tuple[Float[np.ndarray, "m pixels"], Int[np.ndarray, "m"]]:
    """Returns templates of all upright shapes with small shifts, scales and blurs."""
    rows, kinds = [], []
    sharp = [(size, blur) for size in scene_lib.RADII.values() for blur in (0.4, 1.0)]
    soft = [(scene_lib.RADII["small"], blur) for blur in (1.7, 2.4, 3.2)]
    for kind, shape in enumerate(SHAPES):
        for size, blur in sharp + soft:
            shifts = (-0.1, 0.0, 0.1) if blur <= 1.0 else (0.0,)
            drawing = _draw(shape, size * _HALF, blur)
            crops = _shifted(drawing, shifts, (0.94, 1.0, 1.06))
            rows.append(crops)
            kinds += [kind] * len(crops)
    return _normalised(np.concatenate(rows)), np.array(kinds)


def _draw(shape: str, radius: float, blur: float) -> np.ndarray:
    """Draws the coverage of a shape of `radius` pixels at the centre of a square, blurred."""
    reach = math.ceil(radius * 1.3 + 3.0 * blur + 2.0)
    grid = np.arange(-reach, reach + 1) / radius
    depth = shapes.distance(shape, *np.meshgrid(grid, grid)) * radius
    inner = np.clip(0.5 - _OUTLINE - depth, 0.0, 1.0)
    return ndimage.gaussian_filter(np.clip(0.5 - depth, 0.0, 1.0) * (0.75 + 0.25 * inner), blur)


def _measure(drawing: np.ndarray) -> tuple[float, float, float]:
    """Returns centre of mass x, y and spread of a drawing, in pixels."""
    rows, columns = np.indices(drawing.shape)
    mass = drawing.sum()
    x, y = (drawing * columns).sum() / mass, (drawing * rows).sum() / mass
    return x, y, math.sqrt((drawing * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / mass)


def _shifted(drawing: np.ndarray, shifts: tuple[float, ...], scales: tuple[float, ...]) -> Crops:
    """Crops a template with small errors of its centre and spread."""
    x, y, spread = _measure(drawing)
    error = np.array([(dx, dy, scale) for dx in shifts for dy in shifts for scale in scales])
    images = np.broadcast_to(drawing, (len(error), *drawing.shape))
    return _sample(images, x + error[:, 0] * spread, y + error[:, 1] * spread, spread * error[:, 2])
