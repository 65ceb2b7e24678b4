# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Muted backgrounds: patterns in six tones, and four landscapes. All move with the camera.

Positions are in half shorter sides of the frame. `u` varies along width, `v` along height, so most
terms stay one-dimensional until they meet. An image is a set of weights, which add up to about 1
in every pixel, times a small palette; channels lead, since NumPy is fast along long last axes.
"""

import math

import numpy as np
from jaxtyping import Float

from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld import vocabulary
from mimir_jax.errors import InputError

PERIOD = 0.5
"""Length of one repeat of a pattern: a quarter of the frame."""

_DARK = 0.80  # the darker colour of a pattern, relative to its tone
_LIGHT = 1.07

_SKIES = {  # zenith, horizon
    "meadow": ((176, 194, 208), (222, 226, 226)),
    "desert": ((196, 202, 206), (226, 218, 206)),
    "sea": ((190, 202, 212), (226, 226, 224)),
    "snow": ((138, 150, 170), (178, 186, 200)),
}
_LANDS = {  # far hills, near ground
    "meadow": ((158, 176, 150), (132, 154, 114)),
    "desert": ((210, 188, 156), (190, 162, 122)),
    "sea": ((140, 160, 174), (115, 137, 155)),
    "snow": ((208, 214, 222), (236, 239, 243)),
}
_HILLS = {"meadow": 0.11, "desert": 0.09, "sea": 0.012, "snow": 0.17}

U = Float[np.ndarray, "f 1 w"]
V = Float[np.ndarray, "f h 1"]
Pixel = Float[np.ndarray, "f 1 1"]
Image = Float[np.ndarray, "3 f h w"]


def paint(background: scene_lib.Background, u: U, v: V, pixel: Pixel) -> Image:
    """Returns the background in daylight, 0 to 255.

    Args:
        background: What to paint.
        u: World position of every column, by frame.
        v: World position of every row, by frame.
        pixel: Size of a pixel in the world, by frame.
    """
    if background.kind in vocabulary.LANDSCAPES:
        return _landscape(background, u, v, pixel)
    tone = np.array(vocabulary.TONES[background.tone], np.float32)
    x = u / PERIOD + background.phase[0]
    y = v / PERIOD + background.phase[1]
    soft = pixel * (0.75 / PERIOD)
    match background.kind:
        case "plain":
            amount = 0.5 - 0.22 * v + 0.0 * u
        case "vertical stripes":
            amount = _wave(x, soft) + 0.0 * y
        case "horizontal stripes":
            amount = _wave(y, soft) + 0.0 * x
        case "diagonal stripes":
            amount = _wave(0.7 * (x + y), soft)
        case "checks":
            amount = 0.5 + 2.0 * (_wave(x / 2, soft / 2) - 0.5) * (_wave(y / 2, soft / 2) - 0.5)
        case "dots":
            inside = 0.27 - np.sqrt((x - np.round(x)) ** 2 + (y - np.round(y)) ** 2)
            amount = 0.25 + np.clip(0.5 + 0.5 * inside / soft, 0.0, 1.0)
        case _:
            raise InputError(f"background.kind must be a known pattern, got {background.kind!r}")
    shade = _DARK + (_LIGHT - _DARK) * amount
    return tone[:, None, None, None] * shade


def _wave(x: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """A square wave of period 1, 0 to 1, with anti-aliased edges."""
    edge = 0.25 - np.abs(x - np.floor(x) - 0.5)  # to the nearest edge, in periods
    return np.clip(0.5 + 0.5 * edge / soft, 0.0, 1.0)


def _landscape(background: scene_lib.Background, u: U, v: V, pixel: Pixel) -> Image:
    """Sky with two clouds, a line of hills, and the ground before them."""
    kind = background.kind
    turn = 2.0 * math.pi * background.phase[0]
    level = 0.12 + 0.2 * background.phase[1]  # of the horizon
    height = _HILLS[kind] * (np.sin(5.1 * u + turn) + 0.6 * np.sin(8.7 * u + 2.0 * turn))
    swell = 0.0 if kind == "sea" else 0.05 * np.sin(3.3 * u - turn)
    ridge = _cover(v - (level - 0.1 - height), pixel)
    ground = _cover(v - (level + 0.16 + swell), pixel)
    clear = 1.0
    for side, top in ((-0.55, -0.62), (0.5, -0.38)):
        middle = side + 0.5 * (background.phase[0] - 0.5)
        puff = np.maximum(1.0 - ((u - middle) / 0.6) ** 2 - ((v - top) / 0.2) ** 2, 0.0)
        clear = clear * (1.0 - 0.75 * puff * puff)
    sky = 1.0 - ridge
    cloud, sky = sky * (1.0 - clear), sky * clear
    fade = np.clip((v + 1.0) / (level + 1.0), 0.0, 1.0)
    if kind == "sea":
        ridge *= 1.0 + 0.05 * np.sin(24.0 * v + 1.4 * np.sin(6.0 * u + turn))
    far = ridge * (1.0 - ground)
    weights = np.stack([sky * (1.0 - fade), sky * fade, cloud, far, ridge - far])
    palette = np.array([*_SKIES[kind], (250, 250, 250), *_LANDS[kind]], np.float32)  # (5, 3)
    # Not a matmul: BLAS threads only hinder loader processes.
    return np.einsum("kc,kfhw->cfhw", palette, weights)


def _cover(depth: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + depth / pixel, 0.0, 1.0)
