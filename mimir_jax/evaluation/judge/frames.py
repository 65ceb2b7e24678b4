# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A clip made ready for measuring: checked, at a working size, with its light read.

The light comes first, since every colour depends on it: backgrounds darken to under half at night,
objects by a fifth.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mimir_jax.data.toyworld import motion, renderer, vocabulary
from mimir_jax.errors import InputError

DAYLIGHT = (106.0, 235.0)
NIGHT = (40.0, 106.0)
"""Median brightness of a background by day and at night, 0 to 255."""

_MUTED = 0.45  # saturation below which a pixel is background, at first sight
_BESIDE = 0.06  # width of the rim around saturated pixels, in half shorter sides
_WORKING = 96  # half shorter sides in pixels; larger clips are averaged down to half of it or more
_SMALLEST = 16

Clip = UInt8[np.ndarray, "f h w 3"]
Video = Float[np.ndarray, "f h w 3"]
Mask = Bool[np.ndarray, "f h w"]
Curve = Float[np.ndarray, "f"]


@dataclasses.dataclass(frozen=True)
class Footage:
    """A clip at its working size.

    Attributes:
        video: 0 to 255.
        half: Half the shorter side in pixels, the unit of lengths in a scene.
        free: Pixels that are clearly background: muted, and not beside a saturated one.
        brightness: Median brightness of the background by frame, 0 to 255.
        light: Key of `vocabulary.LIGHT` that fits best, or None where it is no such light.
        level: Its level by frame, 0 at night to 1 by day.
    """

    video: Video
    half: float
    free: Mask
    brightness: Curve
    light: str | None
    level: Curve

    @property
    def glow(self) -> Float[np.ndarray, "f 3"]:
        """Brightness of objects by frame and channel, relative to daylight."""
        dark = np.array(renderer.NIGHT_OBJECTS, np.float32)
        return dark + (1.0 - dark) * self.level[:, None].astype(np.float32)

    def screen(self, x: Curve, y: Curve) -> tuple[Curve, Curve]:
        """Returns pixel indices as positions on the screen, -1 to 1."""
        height, width = self.video.shape[1:3]
        return (x + 0.5) * (2.0 / width) - 1.0, (y + 0.5) * (2.0 / height) - 1.0


def read(clip: Clip) -> Footage:
    """Checks a clip and reads its light.

    Raises:
        ValueError: for anything but `uint8 [f, h, w, 3]` of at least 32 pixels a side.
    """
    clip = np.asarray(clip)
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or not len(clip):
        raise InputError(
            f"clip must be uint8 of shape [frames, height, width, 3], got {clip.dtype} of shape "
            f"{list(clip.shape)}; scale floats to 0..255 and put channels last"
        )
    if min(clip.shape[1:3]) < 2 * _SMALLEST:
        raise InputError(
            f"clip must be at least {2 * _SMALLEST} pixels high and wide, got {clip.shape[1]}x"
            f"{clip.shape[2]}; judge it at the size it was made"
        )
    video = _shrink(clip)
    half = min(video.shape[1:3]) / 2
    high, low = video.max(axis=-1), video.min(axis=-1)
    vivid = high - low > _MUTED * np.maximum(high, 1.0)
    free = ~_dilate(vivid, max(1, round(_BESIDE * half)))
    brightness = _brightness(video, free)
    light, level = _light(brightness)
    return Footage(video, half, free, brightness, light, level)


def _shrink(clip: Clip) -> Float[np.ndarray, "f rows columns 3"]:
    """Averages blocks of pixels where a clip is larger than measuring needs."""
    block = max(1, 2 * min(clip.shape[1:3]) // 2 // _WORKING)
    video = clip.astype(np.float32)
    if block == 1:
        return video
    frames, height, width = (clip.shape[0], clip.shape[1] // block, clip.shape[2] // block)
    video = video[:, : height * block, : width * block]
    return video.reshape(frames, height, block, width, block, 3).mean(axis=(2, 4))


def _dilate(mask: Mask, reach: int) -> Mask:
    """Widens a mask by a square of `reach` pixels, along rows and then along columns."""
    for axis in (1, 2):
        wide = mask.copy()
        for step in range(1, reach + 1):
            ahead = [slice(None)] * 3
            behind = [slice(None)] * 3
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            wide[tuple(ahead)] |= mask[tuple(behind)]
            wide[tuple(behind)] |= mask[tuple(ahead)]
        mask = wide
    return mask


def _brightness(video: Video, free: Mask) -> Curve:
    grey = video.mean(axis=-1)
    least = 0.02 * grey[0].size
    return np.array([
        np.median(image[here]) if here.sum() > least else np.median(image)
        for image, here in zip(grey, free, strict=True)
    ])  # fmt: skip


def _light(brightness: Curve) -> tuple[str | None, Curve]:
    """Fits every program of light up to a factor; the factor tells day from night."""
    times = motion.frame_times(len(brightness))
    night = float(np.mean(renderer.NIGHT_SCENERY))
    seen = np.log(np.maximum(brightness, 1.0))
    steady = float(np.exp(seen.mean()))
    best, least = None, np.inf
    for name in vocabulary.LIGHT:
        level = motion.light_level(name, times)
        gain = np.log(night + (1.0 - night) * level)
        rest = seen - gain
        error = float(np.sqrt(np.mean((rest - rest.mean()) ** 2)))
        if error < least - 1e-9:
            best, least, white = name, error, float(np.exp(rest.mean()))
    if best == "day" and NIGHT[0] <= steady < NIGHT[1]:
        best = "night"
    elif not DAYLIGHT[0] <= white <= DAYLIGHT[1]:
        return None, np.ones(len(brightness))
    return best, motion.light_level(best, times)
