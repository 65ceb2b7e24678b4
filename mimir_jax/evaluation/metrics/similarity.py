# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cosine similarities of frames with texts and real images, and frame-to-frame change.

CLIPSIM and CLIP-T are the mean over frames of the cosine with the text; CLIP-I and DINO that with
the real images of a subject, over frames and images.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8


def unit(features: Float[np.ndarray, "*b d"]) -> Float[np.ndarray, "*b d"]:
    """Returns features of unit length in float64."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)


def text_similarity(
    frames: Float[np.ndarray, "b f d"], texts: Float[np.ndarray, "b d"]
) -> Float[np.ndarray, " b"]:
    """Returns the mean cosine of the frames of each clip with its text."""
    return np.einsum("bfd,bd->bf", unit(frames), unit(texts)).mean(axis=1)


def subject_similarity(
    frames: Float[np.ndarray, "f d"], subjects: Sequence[Float[np.ndarray, "_n d"]]
) -> float:
    """Returns the mean cosine of frames with the images of each subject, mean over subjects."""
    each = [float((unit(frames) @ unit(images).T).mean()) for images in subjects]
    return float(np.mean(each))


def agreement_of_images(images: Float[np.ndarray, "n d"]) -> float | None:
    """Returns the mean cosine of different images of a subject, None of a single one."""
    number = len(images)
    if number < 2:
        return None
    cosines = unit(images) @ unit(images).T
    return float((cosines.sum() - np.trace(cosines)) / (number * (number - 1)))


def frame_change(clips: UInt8[np.ndarray, "b f h w 3"]) -> Float[np.ndarray, " b"]:
    """Returns the mean absolute change of pixels from frame to frame, in percent of their range.

    A still clip has 0. Noise and flicker count as motion.
    """
    steps = [
        np.abs(after.astype(np.int16) - before).mean(axis=(1, 2, 3))
        for before, after in zip(
            clips.swapaxes(0, 1)[:-1].astype(np.int16), clips.swapaxes(0, 1)[1:], strict=True
        )
    ]
    if not steps:
        return np.zeros(len(clips))
    return np.mean(steps, axis=0) / 255 * 100
