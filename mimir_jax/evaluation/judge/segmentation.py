# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Foreground segmentation: coverage of every pixel by an object's colour, and connected blobs.

Objects are saturated, backgrounds are not. In the plane of two colour differences a pixel with
coverage `a` lies at `background + a * (colour - background)`, in shadow or not, which gives `a`.
Outlines are darker and count less, as in the renderer.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mimir_jax.data.toyworld import vocabulary
from mimir_jax.evaluation.judge import frames as frames_lib

COLOURS = tuple(vocabulary.COLOURS)

_PALETTE = np.array([colour.rgb for colour in vocabulary.COLOURS.values()], np.float32)
_NEAR = 0.2  # radius over which the background is averaged, in half shorter sides
_MIN_COVERAGE = 0.4  # of a pixel inside an object
_MIN_SIMILARITY = 0.8  # cosine between a pixel and a colour, both minus the background
_AREA = (0.015, 2.0)  # of the smallest and the largest object, in squared half shorter sides
_RIM = 0.08  # width of the soft edge of an object, in half shorter sides
_NEAREST = 0.4  # between the centres of two objects, in half shorter sides; scenes keep 0.53
_MOST = 16  # objects in a frame

Map = Float[np.ndarray, "f h w"]


@dataclasses.dataclass(frozen=True)
class Blob:
    """One connected foreground region in one frame.

    Attributes:
        label: Its number in `ForegroundMask.labels`.
        similarity: Cosine similarity to every colour, in the order of `COLOURS`.
        x, y: Centre of mass, in pixel indices.
        spread: Root mean square distance from the centre, in half shorter sides.
        strength: 80th percentile of its coverage; 1 for a solid object.
    """

    frame: int
    label: int
    similarity: Float[np.ndarray, "colours"]
    x: float
    y: float
    spread: float
    strength: float

    @property
    def colour(self) -> str:
        """The most similar colour."""
        return COLOURS[int(self.similarity.argmax())]


@dataclasses.dataclass(frozen=True)
class ForegroundMask:
    """The foreground of a clip.

    Attributes:
        coverage: Coverage of every pixel by the colour of the blob that it belongs to.
        labels: Number of that blob within its frame; 0 for background.
        blobs: By frame.
    """

    coverage: Map
    labels: Int[np.ndarray, "f h w"]
    blobs: tuple[tuple[Blob, ...], ...]


def segment_foreground(clip: frames_lib.ClipFrames) -> ForegroundMask:
    """Finds the foreground of a clip."""
    amounts, cosines = _unmix(clip)
    best = cosines.argmax(axis=0)[None]
    seen = np.take_along_axis(amounts, best, axis=0)[0]
    seen = np.where(cosines.max(axis=0) > _MIN_SIMILARITY, seen, 0.0)  # (f, h, w)
    coverage = np.zeros(seen.shape, np.float32)
    labels = np.zeros(seen.shape, np.int32)
    blobs = []
    for frame, image in enumerate(seen):
        parts, number = _components(image > _MIN_COVERAGE, *(area * clip.half**2 for area in _AREA))
        blobs_here = []
        if number:
            inside, colours = _merge_parts(parts, number, image, cosines[:, frame], clip.half)
            labels[frame] = _grow(inside, max(2.0, _RIM * clip.half))
            for label in range(1, len(colours) + 1):
                blob, here, coverage_here = _measure_blob(
                    frame, label, colours[label - 1], inside, labels[frame], amounts, cosines
                )
                coverage[frame][here] = coverage_here
                blobs_here.append(dataclasses.replace(blob, spread=blob.spread / clip.half))
        blobs.append(tuple(blobs_here))
    return ForegroundMask(coverage, labels, tuple(blobs))


def _merge_parts(
    parts: np.ndarray, number: int, image: np.ndarray, cosines: np.ndarray, half: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Merges parts of one colour that are too close to be two objects.

    Returns:
        The parts with new numbers, and their similarity to every colour.
    """
    rows, columns = np.nonzero(parts)
    label = parts[rows, columns] - 1
    weight = image[rows, columns]
    mass = np.bincount(label, weight, number)
    x = np.bincount(label, weight * columns, number) / mass
    y = np.bincount(label, weight * rows, number) / mass
    similarity = np.stack(
        [np.bincount(label, weight * plane[rows, columns], number) / mass for plane in cosines],
        axis=1,
    )
    names = np.arange(number)
    for a in range(number):
        for b in range(a):
            near = np.hypot(x[a] - x[b], y[a] - y[b]) < _NEAREST * half
            if near and similarity[a].argmax() == similarity[b].argmax():
                names[names == names[a]] = names[b]
    kept, names = np.unique(names, return_inverse=True)
    merged = [
        np.average(similarity[names == k], axis=0, weights=mass[names == k])
        for k in range(len(kept))
    ]
    return np.concatenate([[0], names + 1])[parts], merged


def _measure_blob(
    frame: int,
    label: int,
    similarity: np.ndarray,
    inside: np.ndarray,
    labels: np.ndarray,
    amounts: np.ndarray,
    cosines: np.ndarray,
) -> tuple[Blob, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Measures one blob; returns it, its pixels, and their coverage."""
    rows, columns = here = np.nonzero(labels == label)
    colour = int(similarity.argmax())
    coverage = np.clip(amounts[colour, frame, rows, columns], 0.0, 1.3)
    coverage = coverage * (cosines[colour, frame, rows, columns] > 0.5)
    mass = coverage.sum()
    x, y = (coverage * columns).sum() / mass, (coverage * rows).sum() / mass
    spread = np.sqrt((coverage * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / mass)
    strength = np.percentile(coverage[inside[rows, columns] == label], 80)
    blob = Blob(frame, label, similarity, float(x), float(y), float(spread), float(strength))
    return blob, here, coverage


def _colour_differences(rgb: np.ndarray) -> np.ndarray:
    """Returns two colour differences on a new leading axis; grey is at the origin."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - green, blue - (red + green) / 2])


def _unmix(clip: frames_lib.ClipFrames) -> tuple[np.ndarray, np.ndarray]:
    """Returns coverage by every colour and the cosine of the fit, both (colours, f, h, w)."""
    differences = _colour_differences(clip.video)
    behind = _extend_background(differences, clip)
    seen = differences - behind
    length = np.sqrt((seen**2).sum(axis=0)) + 1e-3
    palette = _colour_differences(_PALETTE[:, None] * clip.object_brightness)  # (2, colours, f)
    amounts = np.empty((len(COLOURS), *length.shape), np.float32)
    cosines = np.empty_like(amounts)
    for index in range(len(COLOURS)):
        full = palette[:, index, :, None, None] - behind
        square = (full**2).sum(axis=0)
        along = (seen * full).sum(axis=0)
        amounts[index] = along / square
        cosines[index] = along / (np.sqrt(square) * length)
    return amounts, cosines


def _extend_background(differences: np.ndarray, clip: frames_lib.ClipFrames) -> np.ndarray:
    """Extends the hue of the background under the objects, from the background around them."""
    background = clip.background.astype(np.float32)
    reach = _NEAR * clip.half
    weight = ndimage.gaussian_filter(background, (0, reach, reach), truncate=2.0)
    total = ndimage.gaussian_filter(differences * background, (0, 0, reach, reach), truncate=2.0)
    count = np.maximum(background.sum(axis=(1, 2)), 1.0)
    mean = (differences * background).sum(axis=(2, 3)) / count  # (2, f)
    trust = 0.02  # weight of the mean over the frame, where no background is near
    return (total + trust * mean[:, :, None, None]) / (weight + trust)


def _components(mask: np.ndarray, least: float, most: float) -> tuple[np.ndarray, int]:
    """Numbers the connected parts of a mask with areas in a range, largest first."""
    parts, number = ndimage.label(mask, np.ones((3, 3)))
    area = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    order = [index for index in np.argsort(-area, kind="stable") if least <= area[index] <= most]
    order = order[:_MOST]
    names = np.zeros(number + 1, np.int32)
    for name, index in enumerate(order, start=1):
        names[index + 1] = name
    return names[parts], len(order)


def _grow(parts: np.ndarray, reach: float) -> np.ndarray:
    """Assigns the pixels around the parts to the nearest part."""
    distance, nearest = ndimage.distance_transform_edt(parts == 0, return_indices=True)
    return np.where(distance <= reach, parts[tuple(nearest)], 0)
