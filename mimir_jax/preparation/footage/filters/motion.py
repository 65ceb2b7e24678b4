# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Static and jittering footage, by optical flow (M-U22).

The median of the flow over a frame is the motion of the camera. Jitter is how much that motion
changes from one frame to the next: a pan changes it slowly, a shaking hand at every frame.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import QualityConfig

Flow = Callable[[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]], Float32[np.ndarray, "r c 2"]]

_SHRINK = 4
"""DIS at its fastest finds no flow at finer scales than a quarter of the size."""

_LEAST_SIDE = 12  # of what it reads


def measure(clip: clip_lib.Clip, flow: Flow | None, config: QualityConfig) -> clip_lib.Measures:
    """Measures a clip; nothing without optical flow or with fewer than three frames.

    Raises:
        InputError: for a flow that is not finite, or of another shape.
    """
    gray = clip.gray
    if flow is None or len(gray) < 3:
        return {}
    scale = min(config.fps, clip.fps) / min(gray[0].shape)  # of a slower video, all frames
    camera, speed = [], []
    for one, other in zip(gray, gray[1:], strict=False):
        field = np.asarray(flow(one, other))
        if field.ndim != 3 or field.shape[2] != 2 or not field.size:
            plugins.number("quality.flow", config.flow, f"an array of shape {field.shape}")
        vectors = np.ascontiguousarray(field.reshape(-1, 2).T)  # (2, r c)
        camera.append(_median(vectors))
        speed.append(np.sqrt(np.einsum("in,in->n", vectors, vectors)).mean())
    change = np.linalg.norm(np.diff(np.stack(camera), axis=0), axis=1)
    return {
        name: plugins.number("quality.flow", config.flow, value)
        for name, value in (("motion", np.mean(speed) * scale), ("jitter", change.mean() * scale))
    }


def _median(vectors: Float32[np.ndarray, "2 n"]) -> Float32[np.ndarray, "2"]:
    """Returns the medians, in a third of the time of `np.median`."""
    middle = [(vectors.shape[1] - 1) // 2, vectors.shape[1] // 2]
    return np.partition(vectors, middle, axis=1)[:, middle].mean(1)


class _Dis:
    """The flow of each pair; a frame that begins the next pair is shrunk once."""

    def __init__(self, cv2: Any):
        self._cv2, self._last = cv2, (None, None)
        self._estimators = {}
        for finest in (0, 2):
            made = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            made.setFinestScale(finest)
            self._estimators[finest] = made

    def __call__(
        self, one: UInt8[np.ndarray, "h w"], other: UInt8[np.ndarray, "h w"]
    ) -> Float32[np.ndarray, "r c 2"]:
        height, width = one.shape
        rows, columns = height // _SHRINK, width // _SHRINK
        if min(rows, columns) < _LEAST_SIDE:
            return self._estimators[2].calc(one, other, None)
        before = self._last[1] if self._last[0] is one else self._shrunk(one, columns, rows)
        after = self._shrunk(other, columns, rows)
        self._last = other, after
        field = self._estimators[0].calc(before, after, None)
        field *= _SHRINK
        return field

    def _shrunk(self, frame: UInt8[np.ndarray, "h w"], columns: int, rows: int) -> np.ndarray:
        whole = frame[: rows * _SHRINK, : columns * _SHRINK]  # other ratios take thrice the time
        return self._cv2.resize(whole, (columns, rows), interpolation=self._cv2.INTER_AREA)


def dis() -> Flow:
    """Returns the DIS optical flow of OpenCV (arXiv 1603.03590), of each fourth row and column."""
    cv2 = plugins.library("cv2", "quality.flow", "dis")
    cv2.setNumThreads(1)  # processes share the cores
    return _Dis(cv2)


def no_flow() -> None:
    """Measures no motion."""
