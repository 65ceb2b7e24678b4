# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Step 2: black areas, brightness, contrast and blur (M-U22); motion is in `motion`."""

import math

import numpy as np
from jaxtyping import Int16, Int64, UInt8
from PIL import Image

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import QualityConfig

_REACH = 11  # of the blur that sharpness is compared with


def measure(clip: clip_lib.Clip, config: QualityConfig) -> clip_lib.Measures:
    """Measures a clip."""
    counts = np.array([Image.fromarray(frame).histogram() for frame in clip.gray])  # (n, 256)
    shares = counts / counts.sum(1, keepdims=True)  # (n, 256), of the pixels with each luma
    black = shares[:, : math.ceil(config.black_luma)].sum(1)  # (n,)
    contrast = _percentile(counts, 95) - _percentile(counts, 5)  # (n,)
    detail = [picture.gray() for picture in clip_lib.spread(clip.detail, 3)]
    return {
        "black_area": float(black.mean()),
        "black_frames": float((black >= config.black_frame).mean()),
        "luma": float((shares @ np.arange(counts.shape[1])).mean()),
        "contrast": float(contrast.mean()),
        "blur": float(np.mean([blur(frame) for frame in detail])),
    }


def _percentile(counts: Int64[np.ndarray, "n 256"], percent: int) -> Int64[np.ndarray, "n"]:
    """Returns the luma that a share of the pixels of each frame does not exceed."""
    below = counts.cumsum(1)
    return (100 * below < percent * below[:, -1:]).sum(1)


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


def blur(gray: UInt8[np.ndarray, "h w"]) -> float:
    """Returns how little an image changes when it is blurred again: 0 sharp, 1 without detail.

    F. Crete, T. Dolmiere, P. Ladret, M. Nicolas: The Blur Effect, SPIE 6492, 2007. Neighbours of
    the blurred image are means of 11 pixels each, of which they share 10, so that their difference
    is that of two pixels; it needs no blurred image.
    """
    scores = []
    for image in (gray, gray.T):
        padded = _mirrored(image, edge := _REACH // 2)
        change = np.diff(padded[edge:-edge], axis=0)
        np.abs(change, out=change)
        lost = padded[_REACH:] - padded[:-_REACH]
        np.abs(lost, out=lost)
        total = _REACH * int(change.sum())
        change *= _REACH
        np.subtract(change, lost, out=lost)
        np.maximum(lost, 0, out=lost)
        scores.append(1 - int(lost.sum()) / total if total else 1.0)
    return max(scores)


def _mirrored(image: UInt8[np.ndarray, "h w"], edge: int) -> Int16[np.ndarray, "_ w"]:
    """Returns an image with rows mirrored at its ends, in the order in which it lies in memory."""
    if len(image) < edge:
        return np.pad(image, ((edge, edge), (0, 0)), "symmetric").astype(np.int16)
    order = "C" if image.flags.c_contiguous else "F"
    padded = np.empty((len(image) + 2 * edge, image.shape[1]), np.int16, order=order)
    padded[edge:-edge] = image
    padded[:edge], padded[-edge:] = image[:edge][::-1], image[-edge:][::-1]
    return padded
