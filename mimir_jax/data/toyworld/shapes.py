# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Signed distances of the ten shapes, in units of the nominal radius, y down.

Negative inside. Exact or a close bound near the outline, which is all that coverage needs.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "*#grid"]

BOUND: dict[str, float] = {
    "circle": 1.0, "square": 1.19, "triangle": 1.24, "star": 1.2, "heart": 1.08,
    "diamond": 1.23, "ring": 1.06, "cross": 1.14, "crescent": 1.14, "oval": 1.23,
}  # fmt: skip
"""Radius of the circle around the centre that holds the shape at any angle."""


def distance(shape: str, x: Plane, y: Plane) -> Plane:
    """Returns the signed distance to the outline of `shape` at the points (x, y)."""
    return _DISTANCES[shape](x, y)


def _length(x, y):
    return np.sqrt(x * x + y * y)  # several times faster than np.hypot


def _circle(x, y):
    return _length(x, y) - 1.0


def _ring(x, y):
    return np.abs(_length(x, y) - 0.76) - 0.28


def _oval(x, y):
    wide, high = 1.22, 0.68
    outside = _length(x / wide, y / high)
    slope = _length(x / wide**2, y / high**2)
    return outside * (outside - 1.0) / np.maximum(slope, 1e-6)


def _square(x, y):
    x, y = np.abs(x) - 0.78, np.abs(y) - 0.78
    outside = _length(np.maximum(x, 0.0), np.maximum(y, 0.0))
    return outside + np.minimum(np.maximum(x, y), 0.0) - 0.08


def _triangle(x, y):
    x = np.abs(x)
    return np.maximum(math.cos(math.pi / 6) * x - 0.5 * y, y) - 0.62


def _diamond(x, y):
    wide, high = 0.8, 1.22
    return (np.abs(x) / wide + np.abs(y) / high - 1.0) * (wide * high / math.hypot(wide, high))


def _cross(x, y):
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1.07, np.minimum(x, y) - 0.37)


def _star(x, y):
    # Mirrors fold the plane into the half sector between the upper tip and the notch beside it.
    tip, notch, fifth = 1.2, 0.56, math.pi / 5
    x, y = np.abs(x), -y
    for angle in (3 * fifth, 2 * fifth, fifth):
        nx, ny = math.cos(angle), -math.sin(angle)
        fold = 2.0 * np.maximum(nx * x + ny * y, 0.0)
        x, y = x - fold * nx, y - fold * ny
    ex, ey = notch * math.sin(fifth), notch * math.cos(fifth) - tip
    return (ex * (y - tip) - ey * x) / math.hypot(ex, ey)


def _heart(x, y):
    # A square on its corner, with half a disc on each of its upper edges.
    side = 0.82
    x, y = np.abs(x), y - 0.13
    body = (x + np.abs(y) - side) * math.sqrt(0.5)
    lobe = _length(x - side / 2, y + side / 2) - side * math.sqrt(0.5)
    return np.minimum(body, lobe)


def _crescent(x, y):
    # A disc with a bite taken from its upper right; past the tips, only they are near.
    disc, bite, apart = 1.05, 0.84, 0.53
    tip = (apart**2 + disc**2 - bite**2) / (2 * apart)
    x = x - 0.08
    along = 0.974 * x - 0.227 * y
    across = np.abs(0.227 * x + 0.974 * y)
    body = np.maximum(_length(x, y) - disc, bite - _length(along - apart, across))
    tips = _length(along - tip, across - math.sqrt(disc**2 - tip**2))
    return np.where(along > tip, tips, body)


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "heart": _heart,
    "diamond": _diamond, "ring": _ring, "cross": _cross, "crescent": _crescent, "oval": _oval,
}  # fmt: skip
