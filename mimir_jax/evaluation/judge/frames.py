# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Preparation of a clip: checks, working size, background mask and light.

The light is estimated first because every colour depends on it: at night backgrounds darken to
under half of their brightness, objects by a fifth.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from mimir_jax.data.toyworld import motion, renderer, vocabulary
from mimir_jax.errors import InputError

DAYLIGHT = (106.0, 235.0)
NIGHT = (40.0, 106.0)
"""Median brightness of a background by day and at night, 0 to 255."""

_MUTED = 0.45  # saturation below which a pixel is background
_RIM = 0.06  # width of the rim around saturated pixels, in half shorter sides
_WORKING = 96  # half shorter sides in pixels; larger clips are averaged down to half of it or more
_SMALLEST = 16

Clip = UInt8[np.ndarray, "f h w 3"]
Video = Float[np.ndarray, "f h w 3"]
Mask = Bool[np.ndarray, "f h w"]
Curve = Float[np.ndarray, "f"]


@dataclasses.dataclass(frozen=True)
class ClipFrames:
    """A clip at its working size.

    Attributes:
        video: 0 to 255.
        half: Half the shorter side in pixels; the unit of length of a scene.
        background: Pixels that are certainly background: unsaturated, and far from saturated ones.
        brightness: Median brightness of the background by frame, 0 to 255.
        light: Best matching key of `vocabulary.LIGHT`; None if none matches.
        light_level: Level of that light by frame, from 0 (night) to 1 (day).
    """

    video: Video
    half: float
    background: Mask
    brightness: Curve
    light: str | None
    light_level: Curve

    @property
    def object_brightness(self) -> Float[np.ndarray, "f 3"]:
        """Brightness of objects by frame and channel, relative to daylight."""
        dark = np.array(renderer.NIGHT_OBJECTS, np.float32)
        return dark + (1.0 - dark) * self.light_level[:, None].astype(np.float32)

    def to_screen(self, x: Curve, y: Curve) -> tuple[Curve, Curve]:
        """Converts pixel indices to screen positions, -1 to 1."""
        height, width = self.video.shape[1:3]
        return (x + 0.5) * (2.0 / width) - 1.0, (y + 0.5) * (2.0 / height) - 1.0


def read_clip(clip: Clip) -> ClipFrames:
    """Checks a clip, finds its background and estimates its light.

    Raises:
        InputError: for anything but `uint8 [f, h, w, 3]` of at least 32 pixels a side.
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
    side = 2 * max(1, round(_RIM * half)) + 1
    background = ~ndimage.maximum_filter(vivid, (1, side, side), mode="constant")
    brightness = _brightness(video, background)
    light, level = _light(brightness)
    return ClipFrames(video, half, background, brightness, light, level)


def _shrink(clip: Clip) -> Float[np.ndarray, "f rows columns 3"]:
    """Averages blocks of pixels of large clips down to the working size."""
    block = max(1, 2 * min(clip.shape[1:3]) // 2 // _WORKING)
    video = clip.astype(np.float32)
    if block == 1:
        return video
    frames, height, width = (clip.shape[0], clip.shape[1] // block, clip.shape[2] // block)
    video = video[:, : height * block, : width * block]
    return video.reshape(frames, height, block, width, block, 3).mean(axis=(2, 4))


def _brightness(video: Video, background: Mask) -> Curve:
    grey = video.mean(axis=-1)
    least = 0.02 * grey[0].size
    return np.array([
        np.median(image[here]) if here.sum() > least else np.median(image)
        for image, here in zip(grey, background, strict=True)
    ])  # fmt: skip


def _light(brightness: Curve) -> tuple[str | None, Curve]:
    """Fits every light curve up to a factor; the factor separates steady day from steady night."""
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
