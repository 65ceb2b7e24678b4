# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Shapes by comparison with the renderer's own, drawn with its outline and at several blurs.

Crops are centred on the paint of an object and scaled by its spread, so that one small bank of
pictures serves all places and sizes. Blur makes everything round and nothing pointed: a frame in
which a shape looks like a circle says little, one in which it looks like a star says a lot. The
weights of evidence below are that sentence in numbers.
"""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import shapes, vocabulary
from mimir_jax.evaluation.judge import segment, tracks

SHAPES = tuple(vocabulary.SHAPES)
EVEN = ("circle", "ring")
"""Shapes that look the same at every angle."""

_GRID = 20  # pixels of a crop, each way
_EXTENT = 2.1  # half the side of a crop, in spreads
_HALF = 32.0  # of the frame that templates are drawn for, in pixels
_OUTLINE = 0.036 * _HALF
_ROUND = SHAPES.index("circle")
_SHARE = {"same": 0.6, "round": 0.35}  # how often a shape is seen as itself, and as a circle
_CIRCLE = 0.98  # how often a circle is seen as itself
_STAR = 0.02  # how often a star is seen as any one shape but itself and a circle: smears thin it
_SHARPNESS = 0.006  # difference in correlation that counts as a clear one
_SAME = 0.995  # correlation of two pictures that show the same
_LEAST = 0.93  # of the spread of a small object; less is not that shape
_LEAST_WIDTH = 0.05
_FAST = 0.047  # pace at which a frame counts half, in half shorter sides a frame
_DOUBT = 5.0  # most that size says against a shape in one frame

Crops = Float[np.ndarray, "n grid grid"]


@dataclasses.dataclass(frozen=True)
class Look:
    """A track compared with all shapes, upright.

    Attributes:
        frames: Where it is seen.
        crops: Its paint, centred and scaled.
        fits: Best correlation with every upright shape, by the order of `SHAPES`.
        solid: How strong its paint is: 1 where the object is all there, 0 where it is half gone.
        trust: How much each frame counts: 1 where the object rests and is solid, towards 0 where
            it is fast or faint.
        rest: The same, with changes of size left out.
        evidence: Weighted log likelihood of every shape, by the order of `SHAPES`.
    """

    frames: Int[np.ndarray, "n"]
    crops: Crops
    fits: Float[np.ndarray, "n shapes"]
    solid: Float[np.ndarray, "n"]
    trust: Float[np.ndarray, "n"]
    rest: Float[np.ndarray, "n"]
    evidence: Float[np.ndarray, "shapes"]

    @property
    def shape(self) -> str:
        """The likeliest shape."""
        return SHAPES[int(self.evidence.argmax())]

    @property
    def certainty(self) -> float:
        """How much likelier it is than the next, as a logarithm."""
        second, first = np.sort(self.evidence)[-2:]
        return float(first - second)

    def loss(self, shape: str) -> float:
        """How much less likely another shape is than the likeliest, as a logarithm."""
        return float(self.evidence.max() - self.evidence[SHAPES.index(shape)])


def look(paint: segment.Paint, track: tracks.Track, half: float) -> Look:
    """Compares a track with every shape; `half` is half the shorter side in pixels."""
    crops = _crops(paint, track, half)
    solid, trust, rest = _trust(track, half)
    pictures, kinds = _upright()
    alike = _normalised(crops) @ pictures.T
    best = np.stack([alike[:, kinds == kind].max(axis=1) for kind in range(len(SHAPES))], axis=1)
    odds = np.exp((best - best.max(axis=1, keepdims=True)) / _SHARPNESS)
    odds /= odds.sum(axis=1, keepdims=True)  # (n, shapes)
    likelihood = np.log(odds @ _confusion().T)
    spread = np.array([blob.spread for blob in track.blobs])[:, None]
    small = _LEAST - spread / (spreads() * scene_lib.RADII["small"])
    likelihood -= np.minimum(0.5 * (np.maximum(small, 0.0) / _LEAST_WIDTH) ** 2, _DOUBT)
    frames = np.array([blob.frame for blob in track.blobs])
    evidence = (_news(crops, trust)[:, None] * likelihood).sum(axis=0)
    return Look(frames, crops, best, solid, trust, rest, evidence)


def changes(seen: Look) -> Float[np.ndarray, "m"]:
    """Returns how much the picture differs from that of the frame before, one less than frames."""
    rows = _normalised(seen.crops)
    return 1.0 - (rows[1:] * rows[:-1]).sum(axis=1)


@functools.cache
def spreads() -> Float[np.ndarray, "shapes"]:
    """Spread of the paint of every shape, in nominal radii."""
    radius = _HALF * scene_lib.RADII["small"]
    return np.array([_measure(_draw(shape, radius, 0.5))[2] / radius for shape in SHAPES])


@functools.cache
def centres() -> Float[np.ndarray, "shapes 2"]:
    """Centre of the paint of every upright shape, x and y in nominal radii from its own centre."""
    radius = _HALF * scene_lib.RADII["small"]
    result = []
    for shape in SHAPES:
        paint = _draw(shape, radius, 0.5)
        x, y, _ = _measure(paint)
        result.append(((x - len(paint) // 2) / radius, (y - len(paint) // 2) / radius))
    return np.array(result)


def _trust(track: tracks.Track, half: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns how solid an object is by frame, how far that frame tells its shape, and its size."""
    frames, x, y, spread, level = np.array(
        [[b.frame, b.x, b.y, b.spread, b.level] for b in track.blobs]
    ).T
    solid = np.clip((level / np.percentile(level, 90) - 0.5) / 0.3, 0.0, 1.0)
    moved = _pace(frames, np.stack([x, y], axis=-1) / half)
    grown = _pace(frames, 0.4 * np.log(spread)[:, None], reach=1)
    trust, rest = (solid / (1.0 + (pace / _FAST) ** 4) for pace in (moved + grown, moved))
    return solid, trust, rest


def _pace(frames: np.ndarray, path: np.ndarray, reach: int = 2) -> np.ndarray:
    """Returns the way per frame: the largest of one step before or after, and up to `reach` steps.

    A clip that was decoded in blocks of frames moves in jerks: smeared, it may rest for a frame.
    """
    pace = np.zeros(len(frames))
    last = len(frames) - 1
    for k in range(len(frames)):
        for first, second in ((k - 1, k), (k, k + 1), (max(k - reach, 0), min(k + reach, last))):
            if 0 <= first < second <= last:
                way = np.linalg.norm(path[second] - path[first])
                pace[k] = max(pace[k], way / (frames[second] - frames[first]))
    if frames[0] == 0:  # a still picture: causal encoders see it alone
        pace[0] = 0.0
    return pace


def _news(crops: Crops, trust: np.ndarray) -> np.ndarray:
    """Weighs frames: many of the same picture tell little more than one of them."""
    rows = _normalised(crops)
    same = (rows @ rows.T > _SAME) * (trust + 1e-3)
    return (trust + 1e-3) / np.sqrt(np.maximum(same.sum(axis=1), 1.0))


def _crops(paint: segment.Paint, track: tracks.Track, half: float) -> Crops:
    """Samples the paint of every blob on a grid around its centre; other blobs are left out."""
    frames, labels, x, y, spread = np.array(
        [[b.frame, b.label, b.x, b.y, b.spread] for b in track.blobs]
    ).T
    frames = frames.astype(int)
    own = paint.labels[frames] == labels[:, None, None]
    return _sample(paint.cover[frames] * own, x, y, spread * half)


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
    """How likely a shape (row) is to be seen as each (column)."""
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
    """Templates of all shapes, upright, with small errors of place and scale, and blurs."""
    rows, kinds = [], []
    sharp = [(size, blur) for size in scene_lib.RADII.values() for blur in (0.4, 1.0)]
    soft = [(scene_lib.RADII["small"], blur) for blur in (1.7, 2.4, 3.2)]
    for kind, shape in enumerate(SHAPES):
        for size, blur in sharp + soft:
            shifts = (-0.1, 0.0, 0.1) if blur <= 1.0 else (0.0,)
            paint = _draw(shape, size * _HALF, blur)
            crops = _shifted(paint, shifts, (0.94, 1.0, 1.06))
            rows.append(crops)
            kinds += [kind] * len(crops)
    return _normalised(np.concatenate(rows)), np.array(kinds)


def _draw(shape: str, radius: float, blur: float) -> np.ndarray:
    """Draws the paint of a shape of `radius` pixels in the middle of a square, blurred."""
    reach = math.ceil(radius * 1.3 + 3.0 * blur + 2.0)
    grid = np.arange(-reach, reach + 1) / radius
    depth = shapes.distance(shape, *np.meshgrid(grid, grid)) * radius
    inner = np.clip(0.5 - _OUTLINE - depth, 0.0, 1.0)
    return ndimage.gaussian_filter(np.clip(0.5 - depth, 0.0, 1.0) * (0.75 + 0.25 * inner), blur)


def _measure(paint: np.ndarray) -> tuple[float, float, float]:
    """Returns centre x, y and spread of the paint, in pixels."""
    rows, columns = np.indices(paint.shape)
    mass = paint.sum()
    x, y = (paint * columns).sum() / mass, (paint * rows).sum() / mass
    return x, y, math.sqrt((paint * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / mass)


def _shifted(paint: np.ndarray, shifts: tuple[float, ...], scales: tuple[float, ...]) -> Crops:
    """Crops a template as if its centre and spread had been measured a little wrong."""
    x, y, spread = _measure(paint)
    error = np.array([(dx, dy, scale) for dx in shifts for dy in shifts for scale in scales])
    images = np.broadcast_to(paint, (len(error), *paint.shape))
    return _sample(images, x + error[:, 0] * spread, y + error[:, 1] * spread, spread * error[:, 2])
