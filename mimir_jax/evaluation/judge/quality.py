# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Imaging quality without a reference: sharpness of edges and noise of flat regions.

Sharpness is the share of an edge's step that falls within two pixels: 1 for the renderer's
anti-aliased edges, 0.5 for edges four pixels wide. Noise is the median second difference across
both axes, in grey levels. Both are measured at the working size of `frames.ClipFrames`.
"""

import numpy as np
from jaxtyping import Float

_REACH = 3  # pixels on each side of an edge within which it is complete
_EDGE = 12.0  # least step of an edge, in grey levels
_FEW = 0.002  # share of pixels on edges below which nothing is in focus
_STEP = (0.3, 0.85)  # share within two pixels that counts as 0 and as 1
_NOISE = 6.0  # grey levels that halve the score


def imaging_quality(video: Float[np.ndarray, "f h w 3"]) -> float:
    """Returns the quality of a clip with values 0 to 255, from 0 (none) to 1 (as rendered)."""
    grey = video.mean(axis=-1)
    return _sharpness(grey) * _cleanness(grey)


def _sharpness(grey: np.ndarray) -> float:
    shares, strong = [], 0.0
    for axis in (1, 2):
        lines = np.moveaxis(grey, axis, -1)
        near = np.abs(lines[..., _REACH + 1 : -_REACH + 1] - lines[..., _REACH - 1 : -_REACH - 1])
        window = np.lib.stride_tricks.sliding_window_view(lines, 2 * _REACH + 1, axis=-1)
        whole = window.max(axis=-1) - window.min(axis=-1)
        # An edge is where the slope is largest among its neighbours.
        peak = np.zeros(near.shape, bool)
        peak[..., 1:-1] = (near[..., 1:-1] >= near[..., :-2]) & (near[..., 1:-1] > near[..., 2:])
        edge = peak & (whole > _EDGE) & (near > 0.2 * whole)
        shares.append(near[edge] / whole[edge])
        strong += edge.mean() / 2
    shares = np.concatenate(shares)
    if strong < _FEW:
        return 0.0
    low, high = _STEP
    return float(np.clip((np.median(shares) - low) / (high - low), 0.0, 1.0))


def _cleanness(grey: np.ndarray) -> float:
    rows = grey[:, 2:] - 2.0 * grey[:, 1:-1] + grey[:, :-2]
    both = rows[:, :, 2:] - 2.0 * rows[:, :, 1:-1] + rows[:, :, :-2]
    noise = 1.4826 * float(np.median(np.abs(both))) / 6.0
    return 1.0 / (1.0 + (noise / _NOISE) ** 2)
