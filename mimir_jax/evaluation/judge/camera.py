# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Camera style: the pan or zoom that carries the background of one frame onto a later one.

Frames a quarter of the clip apart are compared under a few steady pans and zooms. Where the
background says little, as a calm sea does, objects that all move as one decide. In front of a plain
wall nothing tells a pan from objects that move as one, nor do horizontal stripes; there the camera
counts as still.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mimir_jax.data.toyworld import motion
from mimir_jax.evaluation.judge import frames as footage_lib
from mimir_jax.evaluation.judge import tracks as tracks_lib

_STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)  # of a motion, relative to the renderer's
_CLEAR = 0.7  # share of the error of a still camera that a moving one may leave, to be sure of it
_UNCLEAR = 0.92  # ... beyond which it is surely still
_PLAIN = 0.066  # relative contrast of a background below which no motion shows on it
_LEVEL = 0.019  # ... along its rows below which no pan does
_NOISE = 0.003  # relative error that means nothing
_BLUR = 0.025  # in half shorter sides; so that no error comes from resampling
_LARGEST_ERROR = 0.2

Image = Float[np.ndarray, "h w"]
Curve = Float[np.ndarray, "f"]


@dataclasses.dataclass(frozen=True)
class Camera:
    """How the view moves.

    Attributes:
        name: Key of `vocabulary.CAMERA`.
        pan, zoom: By frame; screen position is `(world - [pan, 0]) * zoom`.
    """

    name: str
    pan: Curve
    zoom: Curve


def find(footage: footage_lib.Footage, tracks: tuple[tracks_lib.Track, ...]) -> Camera:
    """Finds the camera's motion."""
    frames = len(footage.video)
    still = _camera("still", 1.0, frames)
    if frames < 2:
        return still
    contrast, along_rows = _contrast(footage)
    if contrast < _PLAIN:
        return still
    pans = ("pan left", "pan right") if along_rows >= _LEVEL else ()
    moving = [
        _camera(name, strength, frames)
        for name in (*pans, "zoom in", "zoom out")
        for strength in _STRENGTHS
    ]
    errors = _errors(footage, [still, *moving])
    best = moving[int(errors[1:].argmin())]
    share = (errors[1:].min() + _NOISE) / (errors[0] + _NOISE)
    if share < _CLEAR:
        return best
    doubtful = share < _UNCLEAR and errors[0] > 2.5 * _NOISE
    if doubtful and _unrest(footage, tracks, best) < 0.5 * _unrest(footage, tracks, still):
        return best
    return still


def view(
    image: Image, source: tuple[float, float], target: tuple[float, float]
) -> tuple[Image, Bool[np.ndarray, "h w"]]:
    """Shows an image taken at one (pan, zoom) as it would look at another.

    Returns:
        The image, and where it is known.
    """
    height, width = image.shape
    columns = ((np.arange(width) + 0.5) * (2.0 / width) - 1.0) / target[1] + target[0] - source[0]
    rows = ((np.arange(height) + 0.5) * (2.0 / height) - 1.0) / target[1]
    x = (columns * source[1] + 1.0) * (width / 2) - 0.5
    y = (rows * source[1] + 1.0) * (height / 2) - 0.5
    known = ((y >= -0.5) & (y <= height - 0.5))[:, None] & ((x >= -0.5) & (x <= width - 0.5))
    left = np.clip(np.floor(x).astype(int), 0, width - 2)
    top = np.clip(np.floor(y).astype(int), 0, height - 2)
    right = np.clip(x - left, 0.0, 1.0).astype(np.float32)
    down = np.clip(y - top, 0.0, 1.0).astype(np.float32)[:, None]
    lines = image[top] + (image[top + 1] - image[top]) * down
    return lines[:, left] + (lines[:, left + 1] - lines[:, left]) * right, known


def soft_grey(footage: footage_lib.Footage) -> Float[np.ndarray, "f h w"]:
    """Returns the clip in grey, blurred a little."""
    blur = _BLUR * footage.half
    return ndimage.gaussian_filter(footage.video.mean(axis=-1), (0.0, blur, blur))


def _camera(name: str, strength: float, frames: int) -> Camera:
    path = motion.camera_motion(name, motion.frame_times(frames))
    return Camera(name, path.pan * strength, path.zoom**strength)


def _contrast(footage: footage_lib.Footage) -> tuple[float, float]:
    """Returns how much the background varies, in all and along its rows, relative to its mean.

    Medians over the frames that show enough of it.
    """
    least = 0.02 * footage.free[0].size
    found = []
    for image, free in zip(soft_grey(footage), footage.free, strict=True):
        if free.sum() <= least:
            continue
        weight = np.maximum(free.sum(axis=1, keepdims=True), 1)
        rows = (image * free).sum(axis=1, keepdims=True) / weight
        mean = max(float(image[free].mean()), 1.0)
        found.append((image[free].std() / mean, (image - rows)[free].std() / mean))
    whole, along_rows = np.median(found or [(0.0, 0.0)], axis=0)
    return float(whole), float(along_rows)


def _errors(footage: footage_lib.Footage, cameras: list[Camera]) -> Float[np.ndarray, "cameras"]:
    """Mean relative error of the background between frames a quarter of the clip apart."""
    grey = soft_grey(footage)
    free = footage.free.astype(np.float32)
    frames, height, width = grey.shape
    step = max(1, round((frames - 1) / 4))
    inner = np.zeros((height, width), bool)  # seen under every camera
    across, along = round(0.12 * width), round(0.1 * height)
    inner[along:-along, across:-across] = True
    total, count = np.zeros((2, len(cameras)))
    for first in range(0, frames - step, step):
        second = first + step
        for index, camera in enumerate(cameras):
            ends = [(camera.pan[t], camera.zoom[t]) for t in (first, second)]
            image, known = view(grey[first], *ends)
            here = inner & known & footage.free[second] & (view(free[first], *ends)[0] > 0.99)
            before, after = image[here], grey[second][here]
            if not len(before):
                continue
            gain = (before * after).sum() / max((before**2).sum(), 1e-3)
            error = np.abs(gain * before - after) / max(after.mean(), 1.0)
            total[index] += np.minimum(error, _LARGEST_ERROR).sum()
            count[index] += len(before)
    return total / np.maximum(count, 1.0)


def _unrest(
    footage: footage_lib.Footage, tracks: tuple[tracks_lib.Track, ...], camera: Camera
) -> float:
    """How much objects move and change size in the world that a camera implies."""
    if not tracks:
        return 0.0
    result = []
    for track in tracks:
        frames, x, y, spread = np.array([[b.frame, b.x, b.y, b.spread] for b in track.blobs]).T
        frames = frames.astype(int)
        x, y = footage.screen(x, y)
        x = x / camera.zoom[frames] + camera.pan[frames]
        y = y / camera.zoom[frames]
        size = 0.5 * np.log(spread / camera.zoom[frames])
        result.append(np.sqrt(np.var(x) + np.var(y) + np.var(size)))
    return float(np.mean(result))
