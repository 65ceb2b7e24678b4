# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frame timing, resizing and pixel scaling as pure functions."""

import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int64, UInt8

from mimir_jax.data.covering import cover_box as cover_box
from mimir_jax.data.covering import resize_contain as resize_contain
from mimir_jax.data.covering import resize_cover as resize_cover


def to_float(
    video: UInt8[np.ndarray, "*shape"] | UInt8[Array, "*shape"],
) -> Float32[np.ndarray, "*shape"] | Float32[Array, "*shape"]:
    """Maps bytes to [-1, 1]; call it on the device so that only bytes cross to it."""
    return video.astype(np.float32) / 127.5 - 1.0


def to_uint8(video: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Maps [-1, 1] to bytes, rounding and clipping."""
    return np.clip(np.round((video + 1) * 127.5), 0, 255).astype(np.uint8)


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
