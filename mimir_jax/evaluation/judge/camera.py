# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Camera motion: the pan or zoom that maps the background of one frame onto a later one.

Frames a quarter of the clip apart are compared under a few steady pans and zooms. Where the
background has little texture, such as a calm sea, the common motion of the objects decides. On a
plain wall or horizontal stripes a pan looks like objects that move together; there the camera
counts as still.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mimir_jax.data.toyworld import motion
from mimir_jax.evaluation.judge import frames as frames_lib
from mimir_jax.evaluation.judge import tracks as tracks_lib

_STRENGTHS = (0.5, 0.75, 1.0, 1.25, 1.5)  # of a motion, relative to the renderer's
_CLEAR = 0.7  # error of a moving camera, relative to a still one, below which it surely moves
_UNCLEAR = 0.92  # ... above which it is surely still
_PLAIN = 0.066  # relative contrast of a background below which no motion is visible
_PLAIN_ROWS = 0.019  # ... along rows below which no pan is visible
_NOISE = 0.003  # relative error of noise
_BLUR = 0.025  # in half shorter sides; hides errors of resampling
_LARGEST_ERROR = 0.2

Image = Float[np.ndarray, "h w"]
Curve = Float[np.ndarray, "f"]


@dataclasses.dataclass(frozen=True)
class Camera:
    """The motion of the camera.

    Attributes:
        name: Key of `vocabulary.CAMERA`.
        pan, zoom: By frame; screen position is `(world - [pan, 0]) * zoom`.
    """

    name: str
    pan: Curve
    zoom: Curve


def estimate_camera(clip: frames_lib.ClipFrames, tracks: tuple[tracks_lib.Track, ...]) -> Camera:
    """Estimates the camera's motion."""
    frames = len(clip.video)
    still = _camera("still", 1.0, frames)
    if frames < 2:
        return still
    contrast, along_rows = _contrast(clip)
    if contrast < _PLAIN:
        return still
    pans = ("pan left", "pan right") if along_rows >= _PLAIN_ROWS else ()
    moving = [
        _camera(name, strength, frames)
        for name in (*pans, "zoom in", "zoom out")
        for strength in _STRENGTHS
    ]
    errors = _errors(clip, [still, *moving])
    best = moving[int(errors[1:].argmin())]
    share = (errors[1:].min() + _NOISE) / (errors[0] + _NOISE)
    if share < _CLEAR:
        return best
    doubtful = share < _UNCLEAR and errors[0] > 2.5 * _NOISE
    if doubtful and _object_motion(clip, tracks, best) < 0.5 * _object_motion(clip, tracks, still):
        return best
    return still


def reproject(
    image: Image, source: tuple[float, float], target: tuple[float, float]
) -> tuple[Image, Bool[np.ndarray, "h w"]]:
    """Resamples an image taken at one (pan, zoom) as the camera sees it at another.

    Returns:
        The image, and the mask of pixels that the source covers.
    """
    height, width = image.shape
    columns = ((np.arange(width) + 0.5) * (2.0 / width) - 1.0) / target[1] + target[0] - source[0]
    rows = ((np.arange(height) + 0.5) * (2.0 / height) - 1.0) / target[1]
    x = (columns * source[1] + 1.0) * (width / 2) - 0.5
    y = (rows * source[1] + 1.0) * (height / 2) - 0.5
    visible = ((y >= -0.5) & (y <= height - 0.5))[:, None] & ((x >= -0.5) & (x <= width - 0.5))
    left = np.clip(np.floor(x).astype(int), 0, width - 2)
    top = np.clip(np.floor(y).astype(int), 0, height - 2)
    right = np.clip(x - left, 0.0, 1.0).astype(np.float32)
    down = np.clip(y - top, 0.0, 1.0).astype(np.float32)[:, None]
    lines = image[top] + (image[top + 1] - image[top]) * down
    return lines[:, left] + (lines[:, left + 1] - lines[:, left]) * right, visible


def blurred_grey(clip: frames_lib.ClipFrames) -> Float[np.ndarray, "f h w"]:
    """Returns the clip in grey, slightly blurred."""
    blur = _BLUR * clip.half
    return ndimage.gaussian_filter(clip.video.mean(axis=-1), (0.0, blur, blur))


def _camera(name: str, strength: float, frames: int) -> Camera:
    path = motion.camera_motion(name, motion.frame_times(frames))
    return Camera(name, path.pan * strength, path.zoom**strength)


def _contrast(clip: frames_lib.ClipFrames) -> tuple[float, float]:
    """Returns the contrast of the background relative to its mean: overall, and along rows.

    Both are medians over the frames that show enough background.
    """
    least = 0.02 * clip.background[0].size
    contrasts = []
    for image, background in zip(blurred_grey(clip), clip.background, strict=True):
        if background.sum() <= least:
            continue
        weight = np.maximum(background.sum(axis=1, keepdims=True), 1)
        rows = (image * background).sum(axis=1, keepdims=True) / weight
        mean = max(float(image[background].mean()), 1.0)
        contrasts.append((image[background].std() / mean, (image - rows)[background].std() / mean))
    whole, along_rows = np.median(contrasts or [(0.0, 0.0)], axis=0)
    return float(whole), float(along_rows)


def _errors(clip: frames_lib.ClipFrames, cameras: list[Camera]) -> Float[np.ndarray, "cameras"]:
    """Mean relative error of the background between frames a quarter of the clip apart."""
    grey = blurred_grey(clip)
    background = clip.background.astype(np.float32)
    frames, height, width = grey.shape
    step = max(1, round((frames - 1) / 4))
    inner = np.zeros((height, width), bool)  # visible under every camera
    across, along = round(0.12 * width), round(0.1 * height)
    inner[along:-along, across:-across] = True
    total, count = np.zeros((2, len(cameras)))
    for first in range(0, frames - step, step):
        second = first + step
        for index, camera in enumerate(cameras):
            ends = [(camera.pan[t], camera.zoom[t]) for t in (first, second)]
            image, visible = reproject(grey[first], *ends)
            here = (
                inner
                & visible
                & clip.background[second]
                & (reproject(background[first], *ends)[0] > 0.99)
            )
            before, after = image[here], grey[second][here]
            if not len(before):
                continue
            gain = (before * after).sum() / max((before**2).sum(), 1e-3)
            error = np.abs(gain * before - after) / max(after.mean(), 1.0)
            total[index] += np.minimum(error, _LARGEST_ERROR).sum()
            count[index] += len(before)
    return total / np.maximum(count, 1.0)


def _object_motion(
    clip: frames_lib.ClipFrames, tracks: tuple[tracks_lib.Track, ...], camera: Camera
) -> float:
    """Returns how much objects move and change size in the world that a camera implies."""
    if not tracks:
        return 0.0
    result = []
    for track in tracks:
        frames, x, y, spread = np.array([[b.frame, b.x, b.y, b.spread] for b in track.blobs]).T
        frames = frames.astype(int)
        x, y = clip.to_screen(x, y)
        x = x / camera.zoom[frames] + camera.pan[frames]
        y = y / camera.zoom[frames]
        size = 0.5 * np.log(spread / camera.zoom[frames])
        result.append(np.sqrt(np.var(x) + np.var(y) + np.var(size)))
    return float(np.mean(result))
