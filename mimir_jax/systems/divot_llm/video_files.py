# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos and images as the clips that Divot's LLM reads (arXiv 2412.04432).

A video is read in clips at the rate of the run, cut as `data.windows` cuts it: one behind the
other, or 20 spread over a long one. An image is one clip that stands still.
"""

import os

import numpy as np
from jaxtyping import Int, UInt8

from mimir_jax import files, image_files
from mimir_jax.config import ClipWindowConfig, TrainConfig
from mimir_jax.data import covering, transforms, video_io, windows
from mimir_jax.errors import InputError, require


def read_video(
    path: str | os.PathLike[str],
    config: TrainConfig,
    *,
    published: bool = False,
    span: tuple[float, float] | None = None,
) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
    """Reads a video as the clips of a run, or an image as one frame.

    Args:
        path: The file, or a folder of numbered frames (see `data.frame_folder`).
        config: The run.
        published: Whether frames are resized as in Divot's public code, with a bilinear filter.
        span: Seconds of a video to read, from the first of them to before the second; None reads
            all of it.

    Returns:
        The frames of all clips, one clip after the other, and one line that says how the video was
        resampled, "" if it was not.

    Raises:
        InputError: if there is no such file, it cannot be decoded, or it has no frame in `span`.
    """
    path = files.expand_path(path)
    require(
        path.exists(),
        f"--describe must be a video, a folder of frames or an image, got {path}; give its path",
    )
    data, notes = config.data, []

    def fit(frame: np.ndarray, pixel_aspect: float = 1.0) -> np.ndarray:
        if published:
            return covering.resize_crop(frame, data.height)
        size = (data.height, data.width)
        return transforms.resize_cover(frame, *size, pixel_aspect=pixel_aspect)

    if path.suffix.lower() in image_files.SUFFIXES:
        return fit(image_files.read(path))[None], ""
    cfg = ClipWindowConfig(fps=data.fps, frames=config.system.clip_frames, stride=1)

    def pick(timeline: video_io.Timeline) -> Int[np.ndarray, " n"]:
        first, last = 0, len(timeline.times)
        fps = last / timeline.end
        if span is not None:
            first, last = np.searchsorted(timeline.times, span).tolist()
        if last == first:
            raise video_io.UnreadableClip(
                f"has no frame from {span[0]:g} to {span[1]:g} s of {timeline.end:g}"
            )
        notes.append(windows.describe(last - first, fps, cfg))
        return first + windows.windows(last - first, fps, cfg).reshape(-1)

    try:
        video = video_io.read_clip(path, pick, fit)
    except video_io.UnreadableClip as error:
        remedy = "convert it" if span is None else "convert it, or name another part of it"
        raise InputError(f"video {path} must be readable: {error}; {remedy}") from None
    return video, f"{path.name}: {notes[0]}" if notes[0] else ""
