# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts between shots, by the detectors of PySceneDetect."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage.config import ShotsConfig


@runtime_checkable
class Detector(Protocol):
    """Finds cuts while it is shown one frame after the other."""

    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        """Returns the first frames of shots that it has found, which may be a few frames ago."""


class _SceneDetect:
    """A detector of PySceneDetect."""

    def __init__(self, detector: Any, timecode: Any, fps: float):
        self._detector, self._timecode, self._fps = detector, timecode, fps
        self._cv2 = plugins.library("cv2", "shots.detector", "PySceneDetect")

    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        """Returns new cuts; see `Detector`."""
        now = self._timecode(number, fps=self._fps)
        frame = self._cv2.cvtColor(np.ascontiguousarray(image), self._cv2.COLOR_RGB2BGR)
        return [cut.frame_num for cut in self._detector.process_frame(now, frame)]


class _None:
    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        return []


def adaptive(config: ShotsConfig, fps: float) -> Detector:
    """Returns PySceneDetect's detector of changes that stand out from those around them."""
    scenes = plugins.library("scenedetect", "shots.detector", "adaptive")
    options = {"min_scene_len": config.min_frames}
    if config.threshold is not None:
        options["adaptive_threshold"] = config.threshold
    return _SceneDetect(scenes.AdaptiveDetector(**options), scenes.FrameTimecode, fps)


def content(config: ShotsConfig, fps: float) -> Detector:
    """Returns PySceneDetect's detector of changes of colour and brightness."""
    scenes = plugins.library("scenedetect", "shots.detector", "content")
    options = {"min_scene_len": config.min_frames}
    if config.threshold is not None:
        options["threshold"] = config.threshold
    return _SceneDetect(scenes.ContentDetector(**options), scenes.FrameTimecode, fps)


def no_detector(config: ShotsConfig, fps: float) -> Detector:
    """Returns a detector that finds no cut."""
    del config, fps
    return _None()
