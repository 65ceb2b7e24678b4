# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Step 2: black areas, brightness, contrast and blur (M-U22); motion is in `motion`."""

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import QualityConfig

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
_REACH = 11  # of the blur that sharpness is compared with


def measure(clip: clip_lib.Clip, config: QualityConfig) -> clip_lib.Measures:
    """Measures a clip."""
    gray = luma(clip.small)  # (n, h, w)
    black = (gray < config.black_luma).mean((1, 2))  # (n,)
    low, high = np.percentile(gray[:, ::2, ::2], (5, 95), axis=(1, 2))
    return {
        "black_area": float(black.mean()),
        "black_frames": float((black >= config.black_frame).mean()),
        "luma": float(gray.mean()),
        "contrast": float((high - low).mean()),
        "blur": float(np.mean([blur(frame) for frame in luma(clip_lib.spread(clip.detail, 3))])),
    }


def rules(config: QualityConfig) -> list[clip_lib.Rule]:
    """Returns the rules of the step, those of motion included."""
    return [
        clip_lib.Rule("quality", "black_area", high=config.max_black_area),
        clip_lib.Rule("quality", "black_frames", high=config.max_black_frames),
        clip_lib.Rule("quality", "luma", low=config.min_luma, high=config.max_luma),
        clip_lib.Rule("quality", "contrast", low=config.min_contrast),
        clip_lib.Rule("quality", "blur", high=config.max_blur),
        clip_lib.Rule("quality", "motion", low=config.min_motion),
        clip_lib.Rule("quality", "jitter", high=config.max_jitter),
    ]


def luma(frames: UInt8[np.ndarray, "*n h w 3"]) -> Float32[np.ndarray, "*n h w"]:
    """Returns the luma of RGB frames, from 0 to 255."""
    return frames @ _LUMA


def blur(gray: Float32[np.ndarray, "h w"]) -> float:
    """Returns how little an image changes when it is blurred again: 0 sharp, 1 without detail.

    F. Crete, T. Dolmiere, P. Ladret, M. Nicolas: The Blur Effect, SPIE 6492, 2007.
    """
    scores = []
    for axis in (0, 1):
        again = ndimage.uniform_filter1d(gray, _REACH, axis=axis)
        change, lost = np.diff(gray, axis=axis), np.diff(again, axis=axis)
        np.abs(change, out=change)  # in place, which takes less time
        np.abs(lost, out=lost)
        np.maximum(0, np.subtract(change, lost, out=lost), out=lost)
        total = float(change.sum())
        scores.append(1 - float(lost.sum()) / total if total else 1.0)
    return max(scores)
