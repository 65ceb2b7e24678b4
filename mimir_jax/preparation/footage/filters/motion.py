# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Static and jittering footage, by optical flow (M-U22).

The median of the flow over a frame is the motion of the camera. Jitter is how much that motion
changes from one frame to the next: a pan changes it slowly, a shaking hand at every frame.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt8

from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import QualityConfig

Flow = Callable[[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]], Float32[np.ndarray, "h w 2"]]


def measure(clip: clip_lib.Clip, flow: Flow | None, config: QualityConfig) -> clip_lib.Measures:
    """Measures a clip; nothing without optical flow or with fewer than three frames.

    Raises:
        InputError: for a flow that is not finite, or of another shape.
    """
    if flow is None or len(clip.small) < 3:
        return {}
    gray = _gray(clip.small)  # (n, h, w)
    scale = min(config.fps, clip.fps) / min(gray.shape[1:])  # of a slower video, all frames
    camera, speed = [], []
    for one, other in zip(gray, gray[1:], strict=False):
        field = np.asarray(flow(one, other))
        if field.shape != (*one.shape, 2):
            plugins.number("quality.flow", config.flow, f"an array of shape {field.shape}")
        across, down = np.moveaxis(field, -1, 0)  # (h, w)
        camera.append([np.median(across), np.median(down)])
        speed.append(np.sqrt(across * across + down * down).mean())  # hypot takes twice the time
    change = np.linalg.norm(np.diff(np.stack(camera), axis=0), axis=1)
    return {
        name: plugins.number("quality.flow", config.flow, value)
        for name, value in (("motion", np.mean(speed) * scale), ("jitter", change.mean() * scale))
    }


def _gray(frames: UInt8[np.ndarray, "n h w 3"]) -> UInt8[np.ndarray, "n h w"]:
    """Returns luma in whole numbers; 16 bits hold its 256 parts."""
    red, green, blue = np.moveaxis(frames, -1, 0)
    total = np.multiply(red, 77, dtype=np.uint16)
    total += np.multiply(green, 150, dtype=np.uint16)
    total += np.multiply(blue, 29, dtype=np.uint16)
    return (total >> 8).astype(np.uint8)


def dis() -> Flow:
    """Returns the DIS optical flow of OpenCV (arXiv 1603.03590)."""
    cv2 = plugins.library("cv2", "quality.flow", "dis")
    cv2.setNumThreads(1)  # processes share the cores
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    return lambda one, other: estimator.calc(one, other, None)


def no_flow() -> None:
    """Measures no motion."""
