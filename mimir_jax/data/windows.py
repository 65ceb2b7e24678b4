# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The frames of a video that Divot's tokenizer reads, picked as in its code (arXiv 2412.04432).

A video is cut into windows of two seconds, 16 frames at 8 fps, of each of which five frames are
read: 0, 4, 8, 12 and 15. Frames of other rates are picked at the nearest earlier index; those of a
window that is longer than the video repeat.
"""

import math
import os

import numpy as np
from absl import logging
from jaxtyping import Int, UInt8

from mimir_jax.config import ClipWindowConfig
from mimir_jax.data import covering, video_io
from mimir_jax.errors import require

LIMITS = video_io.FrameLimits(min_side=100, min_aspect=0.3)
"""Sizes of frames that Divot reads in pretraining; images have 200, and tuning has 0.333."""

_ROUNDING = 1e-9  # part of a window that rounding leaves behind the last one


def read(
    path: str | os.PathLike,
    cfg: ClipWindowConfig,
    size: int,
    *,
    limits: video_io.FrameLimits = LIMITS,
    rng: np.random.Generator | None = None,
) -> UInt8[np.ndarray, "n k {size} {size} 3"]:
    """Reads the windows of a video file; says where its length or rate is not that of windows.

    Args:
        path: The file.
        cfg: Which frames.
        size: Height and width of the frames, `frame_size` of a tokenizer.
        limits: Sizes of stored frames that are read.
        rng: Draws where windows start; None starts them as early as possible.

    Raises:
        UnreadableClip: for a file that cannot be decoded, or frames outside `limits`.
    """

    def pick(timeline: video_io.Timeline) -> Int[np.ndarray, " f"]:
        frames = len(timeline.times)
        fps = frames / timeline.end
        if said := describe(frames, fps, cfg):
            logging.info("%s: %s", path, said)
        return windows(frames, fps, cfg, rng=rng).reshape(-1)

    def fit(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
        del pixel_aspect  # as published
        limits.check(*frame.shape[:2])
        return covering.resize_crop(frame, size)

    video = video_io.read_clip(path, pick, fit)
    return video.reshape(-1, len(kept(cfg)), *video.shape[1:])  # (n, k, h, w, 3)


def windows(
    num_frames: int,
    fps: float | int,
    cfg: ClipWindowConfig,
    *,
    rng: np.random.Generator | None = None,
) -> Int[np.ndarray, "n k"]:
    """Returns the frames of each window, 1 to `max_windows` of them.

    Args:
        num_frames: Frames of the video.
        fps: Its rate.
        cfg: Which frames.
        rng: Draws where windows start; None starts them as early as possible.

    Raises:
        InputError: for a video without frames or without a rate.
    """
    require(num_frames >= 1, f"video must have frames, got {num_frames}; choose another file")
    require(fps > 0, f"video must have a positive frame rate, got {fps}; convert it")
    step, share = fps / cfg.fps, num_frames // cfg.max_windows
    enough = num_frames // step >= cfg.max_windows * cfg.frames
    if enough or (cfg.short == "fill" and share > 0):
        if share // step < cfg.frames:
            step = share / cfg.frames
        length = cfg.frames * step
        starts = [
            first if rng is None else rng.uniform(first, first + share - length)
            for first in range(0, cfg.max_windows * share, share)
        ]
        spans = [(start, start + length) for start in starts]
    else:
        length = cfg.frames * step
        first = 0.0 if rng is None else rng.uniform(0, min(step, num_frames))
        count = max(1, math.ceil((num_frames - first) / length - _ROUNDING))
        starts = [first + length * number for number in range(count)]
        spans = [(start, min(start + length, num_frames)) for start in starts]
    index = [np.linspace(*span, cfg.frames, endpoint=False).astype(np.int64) for span in spans]
    return np.stack(index)[:, kept(cfg)]


def kept(cfg: ClipWindowConfig) -> Int[np.ndarray, " k"]:
    """Returns the positions in a window that are read: every `stride`-th, and the last."""
    return np.union1d(np.arange(0, cfg.frames, cfg.stride), cfg.frames - 1)


def describe(num_frames: int, fps: float | int, cfg: ClipWindowConfig) -> str:
    """Says how a video is resampled; empty where its frames are read as they are."""
    parts = []
    if round(fps, 2) != cfg.fps:
        parts.append(f"{fps:.4g} fps read at {cfg.fps:.4g}")
    have = num_frames * cfg.fps / fps
    if have < cfg.frames:
        parts.append(f"{num_frames / fps:.2f} s stretched to a window of {cfg.frames} frames")
    elif cfg.short == "fill" and have < cfg.max_windows * cfg.frames:
        parts.append(f"{num_frames / fps:.2f} s stretched to {cfg.max_windows} windows")
    return ", ".join(parts)
