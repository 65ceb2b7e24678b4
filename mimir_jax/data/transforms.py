# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frame timing, resizing and pixel scaling as pure functions."""

import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int64, UInt8
from PIL import Image


def to_float(
    video: UInt8[np.ndarray, "*shape"] | UInt8[Array, "*shape"],
) -> Float32[np.ndarray, "*shape"] | Float32[Array, "*shape"]:
    """Maps bytes to [-1, 1]; call it on the device so that only bytes cross to it."""
    return video.astype(np.float32) / 127.5 - 1.0


def to_uint8(video: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Maps [-1, 1] to bytes, rounding and clipping."""
    return np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)


def cover_box(
    height: int, width: int, target_height: int, target_width: int, pixel_aspect: float = 1.0
) -> tuple[float, float, float, float]:
    """Returns the centred (left, top, right, bottom) of a frame that has the target's shape.

    Args:
        height: Rows of the frame.
        width: Columns of the frame.
        target_height: Rows to fill.
        target_width: Columns to fill.
        pixel_aspect: Width over height of one stored pixel; not 1 in anamorphic video.
    """
    scale = max(target_height / height, target_width / (width * pixel_aspect))
    box_height = min(target_height / scale, height)
    box_width = min(target_width / (scale * pixel_aspect), width)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def resize_cover(
    frame: UInt8[np.ndarray, "h w 3"], height: int, width: int, *, pixel_aspect: float = 1.0
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Fills `height` x `width` without distortion: centre crop, then antialiased bicubic."""
    box = cover_box(frame.shape[0], frame.shape[1], height, width, pixel_aspect)
    if box == (0, 0, width, height):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def resize_crop(
    frame: UInt8[np.ndarray, "h w 3"], size: int
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Resizes the shorter side to `size`, antialiased bilinear, and cuts the centre out.

    The longer side is cut to a whole number and the offset of the centre rounded to the even one,
    as torchvision does on images of Pillow.
    """
    height, width = frame.shape[:2]
    long = size * max(height, width) // min(height, width)
    height, width = (size, long) if height <= width else (long, size)
    image = Image.fromarray(np.ascontiguousarray(frame))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.array(image)[top : top + size, left : left + size]


def window_starts(
    times: Float64[np.ndarray, "n"],
    end: float,
    *,
    frames: int,
    fps: float | int | None,
    tick: float = 1e-3,
) -> Int64[np.ndarray, "starts"]:
    """Returns the frames at which a window of `frames` at `fps` can start and still fit.

    Args:
        times: When each frame appears, ascending, in seconds.
        end: When the last frame disappears.
        frames: Length of the window.
        fps: Rate of the window; None takes every stored frame.
        tick: Precision of `times`.
    """
    if fps is None:
        return np.arange(max(len(times) - frames + 1, 0))
    last = times + (frames - 1) / fps
    return np.flatnonzero((last < end - tick) | (last <= times[-1]))


def window_frames(
    times: Float64[np.ndarray, "n"],
    start: int,
    *,
    frames: int,
    fps: float | int | None,
    tick: float = 1e-3,
) -> Int64[np.ndarray, "{frames}"]:
    """Returns the frames on screen at `fps` from frame `start`; past the end the last one stays.

    A stored time may be off by one `tick`, so a frame counts from one tick before it.
    """
    if fps is None:
        return np.minimum(start + np.arange(frames), len(times) - 1)
    wanted = times[start] + np.arange(frames) / fps
    on_screen = np.searchsorted(times, wanted + tick, side="right") - 1
    return np.maximum(on_screen, start)
