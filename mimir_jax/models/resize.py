# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Resizing as PyTorch computes it, for networks whose published form resizes inside.

The bicubic kernel is the cubic convolution of Keys with a = -0.75; `jax.image.resize` has a = -0.5.
Nothing is blurred before shrinking, and the border rows and columns repeat outwards.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_A = -0.75


def bicubic(
    images: Float[Array, "*b h w c"], height: int, width: int, *, align_corners: bool = False
) -> Float[Array, "*b {height} {width} c"]:
    """Resizes rows and columns in float32; returns the dtype of `images`.

    Args:
        images: Images, or tables of positions.
        height: New number of rows.
        width: New number of columns.
        align_corners: Whether the centres of the corner pixels stay where they are, rather than
            the corners of the images.
    """
    rows = _weights(images.shape[-3], height, align_corners)
    columns = _weights(images.shape[-2], width, align_corners)
    return _apply(images, rows, columns)


def average(
    images: Float[Array, "*b h w c"], height: int, width: int
) -> Float[Array, "*b {height} {width} c"]:
    """Averages rows and columns down in float32, as `adaptive_avg_pool2d` does.

    Cell `i` of `n` out of `size` covers pixels `floor(i size / n)` to `ceil((i + 1) size / n)`, so
    neighbours overlap unless `n` divides `size`: 16 to 5 is a mean over 4 with stride 3.

    Args:
        images: Images or maps of features.
        height: New number of rows, at most that of `images`.
        width: New number of columns, at most that of `images`.
    """
    return _apply(images, _shares(images.shape[-3], height), _shares(images.shape[-2], width))


def _apply(images: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    out = jnp.einsum(
        "...HWC,YH,XW->...YXC",
        images.astype(jnp.float32),
        rows,
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )
    return out.astype(images.dtype)


def _shares(size: int, new: int) -> np.ndarray:
    """Returns the share of each of `size` pixels in each of `new` averages, (new, size)."""
    index, pixel = np.arange(new)[:, None], np.arange(size)[None]
    inside = (pixel >= index * size // new) & (pixel < -(-(index + 1) * size // new))
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _weights(size: int, new: int, align_corners: bool) -> np.ndarray:
    """Returns the share of each of `size` pixels in each of `new` pixels, (new, size).

    Places are float32, as in PyTorch: of 256 pixels, they are off by up to 1e-5.
    """
    index = np.arange(new, dtype=np.float32)
    if align_corners:
        places = index * (np.float32(size - 1) / np.float32(max(new - 1, 1)))
    else:
        places = (index + np.float32(0.5)) * (np.float32(size) / np.float32(new)) - np.float32(0.5)
    index = index.astype(int)
    first = np.floor(places).astype(int)
    out = np.zeros((new, size))
    for tap in range(-1, 3):
        pixel = np.clip(first + tap, 0, size - 1)
        np.add.at(out, (index, pixel), _kernel(np.abs(places - first - tap)))
    return out.astype(np.float32)


def _kernel(distance: np.ndarray) -> np.ndarray:
    """Returns the weight of a pixel at a distance of up to 2."""
    near = ((_A + 2) * distance - (_A + 3)) * distance**2 + 1
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    return np.where(distance <= 1, near, far)
