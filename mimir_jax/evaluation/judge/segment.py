# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Pixels to paint: how much of an object's colour every pixel holds, and which pixels go together.

Objects are saturated and backgrounds muted. In the plane of two colour differences a pixel of
partial cover `a` lies at `background + a * (colour - background)`, shadow or not, so that `a` can
be read off. Outlines are darker and count less, as they do in the renderer's own paint.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from mimir_jax.data.toyworld import vocabulary
from mimir_jax.evaluation.judge import frames as footage_lib

COLOURS = tuple(vocabulary.COLOURS)

_PALETTE = np.array([colour.rgb for colour in vocabulary.COLOURS.values()], np.float32)
_NEAR = 0.2  # reach of the background around an object, in half shorter sides
_COVER = 0.4  # least paint of a pixel inside an object
_HUE = 0.8  # least cosine between a pixel and a colour, as differences from the background
_AREA = (0.015, 2.0)  # of the smallest and the largest object, in squared half shorter sides
_RIM = 0.08  # how far paint may lie from the inside of its object, in half shorter sides
_NEAREST = 0.4  # between the centres of two objects, in half shorter sides; scenes keep 0.53
_MOST = 16  # objects in a frame

Map = Float[np.ndarray, "f h w"]


@dataclasses.dataclass(frozen=True)
class Blob:
    """One connected patch of paint in one frame.

    Attributes:
        label: Its number in `Paint.labels`.
        likeness: To every colour, as a cosine, by the order of `COLOURS`.
        x, y: Centre of its paint, in pixel indices.
        spread: Root mean square distance of its paint from there, in half shorter sides.
        level: How strong its paint is where it is strong: 1 for a solid object.
    """

    frame: int
    label: int
    likeness: Float[np.ndarray, "colours"]
    x: float
    y: float
    spread: float
    level: float

    @property
    def colour(self) -> str:
        """The colour that it is most like."""
        return COLOURS[int(self.likeness.argmax())]


@dataclasses.dataclass(frozen=True)
class Paint:
    """Objects before they have a name.

    Attributes:
        cover: How much paint every pixel holds, of the blob that it belongs to or lies beside.
        labels: Number of that blob within its frame; 0 for none.
        blobs: By frame.
    """

    cover: Map
    labels: Int[np.ndarray, "f h w"]
    blobs: tuple[tuple[Blob, ...], ...]


def segment(footage: footage_lib.Footage) -> Paint:
    """Finds the paint in a clip."""
    amounts, cosines = _unmix(footage)
    best = cosines.argmax(axis=0)[None]
    seen = np.take_along_axis(amounts, best, axis=0)[0]
    seen = np.where(cosines.max(axis=0) > _HUE, seen, 0.0)  # (f, h, w)
    cover = np.zeros(seen.shape, np.float32)
    labels = np.zeros(seen.shape, np.int32)
    blobs = []
    for frame, image in enumerate(seen):
        parts, number = _components(image > _COVER, *(area * footage.half**2 for area in _AREA))
        found = []
        if number:
            inside, colours = _whole(parts, number, image, cosines[:, frame], footage.half)
            labels[frame] = _grow(inside, max(2.0, _RIM * footage.half))
            for label in range(1, len(colours) + 1):
                blob, here, paint = _blob(
                    frame, label, colours[label - 1], inside, labels[frame], amounts, cosines
                )
                cover[frame][here] = paint
                found.append(dataclasses.replace(blob, spread=blob.spread / footage.half))
        blobs.append(tuple(found))
    return Paint(cover, labels, tuple(blobs))


def _whole(
    parts: np.ndarray, number: int, image: np.ndarray, cosines: np.ndarray, half: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Puts together parts of one colour that are too close to be two objects.

    Returns:
        The parts, numbered anew, and their likeness to every colour.
    """
    rows, columns = np.nonzero(parts)
    label = parts[rows, columns] - 1
    weight = image[rows, columns]
    mass = np.bincount(label, weight, number)
    x = np.bincount(label, weight * columns, number) / mass
    y = np.bincount(label, weight * rows, number) / mass
    likeness = np.stack(
        [np.bincount(label, weight * plane[rows, columns], number) / mass for plane in cosines],
        axis=1,
    )
    names = np.arange(number)
    for a in range(number):
        for b in range(a):
            near = np.hypot(x[a] - x[b], y[a] - y[b]) < _NEAREST * half
            if near and likeness[a].argmax() == likeness[b].argmax():
                names[names == names[a]] = names[b]
    kept, names = np.unique(names, return_inverse=True)
    merged = [
        np.average(likeness[names == k], axis=0, weights=mass[names == k]) for k in range(len(kept))
    ]
    return np.concatenate([[0], names + 1])[parts], merged


def _blob(
    frame: int,
    label: int,
    likeness: np.ndarray,
    inside: np.ndarray,
    labels: np.ndarray,
    amounts: np.ndarray,
    cosines: np.ndarray,
) -> tuple[Blob, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Measures one blob; returns it, its pixels, and their paint."""
    rows, columns = here = np.nonzero(labels == label)
    colour = int(likeness.argmax())
    paint = np.clip(amounts[colour, frame, rows, columns], 0.0, 1.3)
    paint = paint * (cosines[colour, frame, rows, columns] > 0.5)
    mass = paint.sum()
    x, y = (paint * columns).sum() / mass, (paint * rows).sum() / mass
    spread = np.sqrt((paint * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / mass)
    level = np.percentile(paint[inside[rows, columns] == label], 80)
    blob = Blob(frame, label, likeness, float(x), float(y), float(spread), float(level))
    return blob, here, paint


def _planes(rgb: np.ndarray) -> np.ndarray:
    """Two colour differences, leading; grey is at their origin."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([red - green, blue - (red + green) / 2])


def _unmix(footage: footage_lib.Footage) -> tuple[np.ndarray, np.ndarray]:
    """Returns cover by every colour, and how well that explains each pixel, (colours, f, h, w)."""
    plain = _planes(footage.video)
    back = _scenery(plain, footage)
    seen = plain - back
    length = np.sqrt((seen**2).sum(axis=0)) + 1e-3
    paints = _planes(_PALETTE[:, None] * footage.glow)  # (2, colours, f)
    amounts = np.empty((len(COLOURS), *length.shape), np.float32)
    cosines = np.empty_like(amounts)
    for index in range(len(COLOURS)):
        full = paints[:, index, :, None, None] - back
        square = (full**2).sum(axis=0)
        along = (seen * full).sum(axis=0)
        amounts[index] = along / square
        cosines[index] = along / (np.sqrt(square) * length)
    return amounts, cosines


def _scenery(plain: np.ndarray, footage: footage_lib.Footage) -> np.ndarray:
    """Continues the hue of the background under the objects, from the free pixels around them."""
    free = footage.free.astype(np.float32)
    reach = _NEAR * footage.half
    weight = ndimage.gaussian_filter(free, (0, reach, reach), truncate=2.0)
    total = ndimage.gaussian_filter(plain * free, (0, 0, reach, reach), truncate=2.0)
    count = np.maximum(free.sum(axis=(1, 2)), 1.0)
    mean = (plain * free).sum(axis=(2, 3)) / count  # (2, f)
    trust = 0.02  # of the mean over the whole frame, where nothing near is free
    return (total + trust * mean[:, :, None, None]) / (weight + trust)


def _components(mask: np.ndarray, least: float, most: float) -> tuple[np.ndarray, int]:
    """Numbers the connected parts of a mask, largest first, within two sizes."""
    parts, number = ndimage.label(mask, np.ones((3, 3)))
    area = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    order = [index for index in np.argsort(-area, kind="stable") if least <= area[index] <= most]
    order = order[:_MOST]
    names = np.zeros(number + 1, np.int32)
    for name, index in enumerate(order, start=1):
        names[index + 1] = name
    return names[parts], len(order)


def _grow(parts: np.ndarray, reach: float) -> np.ndarray:
    """Gives the pixels around every part to the nearest one."""
    distance, nearest = ndimage.distance_transform_edt(parts == 0, return_indices=True)
    return np.where(distance <= reach, parts[tuple(nearest)], 0)
