# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Estimates kind, tone and steadiness of the background.

Light and camera motion are removed from all frames. Their median over time is the background
without the objects, wherever it is visible in some frame. The median is matched with the renderer's
backgrounds at all phases, and every frame is compared with the median.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from mimir_jax.data.toyworld import backgrounds, renderer, vocabulary
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation.judge import camera as camera_lib
from mimir_jax.evaluation.judge import frames as frames_lib

_ROWS = 32  # shorter side of the images that are compared
_MAX_ERROR = 0.12  # relative error beyond which the match with a rendered background fails
_SCALE = 3.0  # weight of an error of the image relative to one of overall brightness
_STEADY = 0.08  # largest relative error of a pixel that counts as unchanged


@dataclasses.dataclass(frozen=True)
class BackgroundEstimate:
    """The background of a clip.

    Attributes:
        kind: Key of `vocabulary.PATTERNS` or `vocabulary.LANDSCAPES`; None if none matches.
        tone: Key of `vocabulary.TONES`; None for landscapes.
        steadiness: Share of background pixels, over all frames, that equal their median once light
            and camera motion are removed, 0 to 1.
    """

    kind: str | None
    tone: str | None
    steadiness: float


def estimate_background(
    clip: frames_lib.ClipFrames, camera: camera_lib.Camera
) -> BackgroundEstimate:
    """Estimates the background of a clip."""
    views, visible = _stabilise(clip, camera)
    seen = visible.any(axis=0)
    hidden = np.where(visible[..., None], views, np.nan)
    image = np.zeros(views.shape[1:], np.float32)
    image[seen] = np.nanmedian(hidden[:, seen], axis=0)
    kind, tone = _classify(image, seen)
    return BackgroundEstimate(kind, tone, _steadiness(views, visible, image))


def _stabilise(
    clip: frames_lib.ClipFrames, camera: camera_lib.Camera
) -> tuple[Float[np.ndarray, "f h w 3"], Bool[np.ndarray, "f h w"]]:
    """Returns all frames in daylight as a still camera sees them, and where they are visible."""
    dark = np.array(renderer.NIGHT_SCENERY, np.float32)
    gain = dark + (1.0 - dark) * clip.light_level[:, None].astype(np.float32)
    blur = 0.025 * clip.half
    video = ndimage.gaussian_filter(clip.video, (0.0, blur, blur, 0.0)) / gain[:, None, None]
    views, visible = np.empty_like(video), np.empty(video.shape[:3], bool)
    for frame, image in enumerate(video):
        pose = (camera.pan[frame], camera.zoom[frame])
        for channel in range(3):
            views[frame, ..., channel], inside = camera_lib.reproject(
                image[..., channel], pose, (0.0, 1.0)
            )
        background, _ = camera_lib.reproject(
            clip.background[frame].astype(np.float32), pose, (0.0, 1.0)
        )
        visible[frame] = inside & (background > 0.99)
    return _equalise_brightness(views, visible), visible


def _equalise_brightness(views: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Removes residual changes of light: scales each frame to the brightness of the one before."""
    grey = views.mean(axis=-1)
    gains = [1.0]
    for frame in range(1, len(views)):
        here = visible[frame] & visible[frame - 1]
        before, after = grey[frame - 1][here], grey[frame][here]
        inner = (before * after).sum()
        step = inner / (after**2).sum() if inner > 0.0 else 1.0
        gains.append(gains[-1] * step)
    gains = np.array(gains) / np.median(gains)
    return views * gains[:, None, None, None].astype(np.float32)


def _steadiness(views: np.ndarray, visible: np.ndarray, image: np.ndarray) -> float:
    error = np.abs(views - image).max(axis=-1)
    scale = max(float(image[visible.any(axis=0)].mean()), 1.0) if visible.any() else 1.0
    return float((error[visible] < _STEADY * scale).mean()) if visible.any() else 0.0


def _classify(image: np.ndarray, seen: np.ndarray) -> tuple[str | None, str | None]:
    """Returns kind and tone of the nearest rendered background."""
    if seen.mean() < 0.1:
        return None, None
    height, width = seen.shape
    block = max(1, min(height, width) // _ROWS)
    rows, columns = height // block, width // block
    weight = _blocks(seen.astype(np.float32), rows, columns, block)
    target = _blocks(image * seen[..., None], rows, columns, block)
    target = target / np.maximum(weight, 1e-3)[:, None]  # (n, 3)
    weight = (weight > 0.5).astype(np.float32)
    names, images = _reference_backgrounds(rows, columns)
    inner = np.einsum("mnc,nc->m", images, target * weight[:, None], optimize=True)
    square = np.einsum("mnc,n->m", images**2, weight, optimize=True)
    own = float((target**2 * weight[:, None]).sum())
    gain = inner / square
    error = np.sqrt(np.maximum(own - gain * inner, 0.0) / max(own, 1.0))
    error = np.hypot(error, np.maximum(np.abs(np.log(np.maximum(gain, 1e-3))) - 0.1, 0.0) / _SCALE)
    best = int(error.argmin())
    return names[best] if error[best] < _MAX_ERROR else (None, None)


def _blocks(image: np.ndarray, rows: int, columns: int, block: int) -> np.ndarray:
    image = image[: rows * block, : columns * block]
    tail = image.shape[2:]
    image = image.reshape(rows, block, columns, block, *tail).mean(axis=(1, 3))
    return image.reshape(rows * columns, *tail)


@functools.lru_cache(maxsize=4)
def _reference_backgrounds(
    rows: int, columns: int
) -> tuple[tuple[tuple[str | None, str | None], ...], Float[np.ndarray, "m n 3"]]:
    """Renders all backgrounds at all phases, and flat ones, which count as no background."""
    half = min(rows, columns) / 2
    u = ((np.arange(columns) + 0.5 - columns / 2) / half)[None, None, :].astype(np.float32)
    v = ((np.arange(rows) + 0.5 - rows / 2) / half)[None, :, None].astype(np.float32)
    pixel = np.full((1, 1, 1), 1.0 / half, np.float32)
    names, images = [], []

    def add(kind: str, tone: str | None, phase: tuple[float, float]) -> None:
        image = backgrounds.paint(scene_lib.Background(kind, tone, phase), u, v, pixel)
        image = np.broadcast_to(image[:, 0], (3, rows, columns))
        names.append((kind, tone))
        images.append(image.reshape(3, rows * columns).T)

    for tone, rgb in vocabulary.TONES.items():
        for kind in vocabulary.PATTERNS:
            for phase in _phases(kind):
                add(kind, tone, phase)
        names.append((None, None))
        images.append(np.broadcast_to(np.array(rgb, np.float32), (rows * columns, 3)))
    for kind in vocabulary.LANDSCAPES:
        for phase in _phases(kind):
            add(kind, None, phase)
    return tuple(names), np.stack(images).astype(np.float32)


def _phases(kind: str) -> list[tuple[float, float]]:
    """Returns a grid of phases, fine enough for any phase to be near one of them."""
    match kind:
        case "plain":
            return [(0.0, 0.0)]
        case "vertical stripes":
            return [(x / 12, 0.0) for x in range(12)]
        case "horizontal stripes":
            return [(0.0, y / 12) for y in range(12)]
        case "diagonal stripes":
            return [(x / 12 / 0.7, 0.0) for x in range(12)]
        case "checks":
            return [(x / 6, y / 6) for x in range(12) for y in range(6)]
        case "dots":
            return [(x / 6, y / 6) for x in range(6) for y in range(6)]
        case _:
            return [(x / 12, y / 4) for x in range(12) for y in range(5)]
