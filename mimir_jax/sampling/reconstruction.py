# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clips to reconstruct: video files, or held-out clips of a run by index.

A file of another rate, size or length is resampled by one rule. Frames are picked by their time at
the rate of the model, from the first frame on; where the file is too short for that, they are
spread evenly over it, which slows it down. Frames are cropped in their middle and resized.

Divot's published weights read the first window of a file as the public code does: frames by number
(`data.windows`), the shorter side resized with a bilinear filter, then cropped.
"""

import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from mimir_jax import files
from mimir_jax.config import ClipWindowConfig
from mimir_jax.data import covering, transforms, video_io, windows
from mimir_jax.errors import InputError, require
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.sampling.request import Request, Size

_HELDOUT = re.compile(r"heldout:(\d+)")


class Source(NamedTuple):
    """Where a clip comes from.

    Attributes:
        name: As it was given.
        path: The video file; None for a held-out clip.
        index: Number of the held-out clip; None for a file.
    """

    name: str
    path: pathlib.Path | None = None
    index: int | None = None


def find(names: Sequence[str], flag: str = "--reconstruct") -> list[Source]:
    """Returns what `flag` names: files that exist, or `heldout:INDEX`.

    Raises:
        InputError: for a name of neither.
    """
    sources = []
    for name in names:
        if match := _HELDOUT.fullmatch(name):
            sources.append(Source(name, index=int(match[1])))
            continue
        path = files.expand_path(name)
        require(
            path.exists(),
            f"{flag} must be a video, a folder of frames or heldout:INDEX, got {name!r} and "
            f"nothing at {path}; give its path",
        )
        sources.append(Source(name, path=path))
    return sources


def make_request(
    source: Source,
    pipeline: pipeline_lib.Pipeline,
    *,
    seed: int = 0,
    flag: str = "--reconstruct",
) -> tuple[Request, str]:
    """Reads a clip as the pipeline takes it.

    Args:
        source: The clip.
        pipeline: Gives rate and size.
        seed: Seed of the noise.
        flag: What named the clip, for messages.

    Returns:
        The request, whose prompt is the name of the file or the caption of the held-out clip, and
        one line that says how the clip was resampled, "" if it was not.

    Raises:
        InputError: for a file that cannot be decoded, or an index beyond the held-out clips.
    """
    if source.path is not None:
        options = {"published": pipeline.reads_as_published}
        clip, note = read_clip(source.path, pipeline.size, pipeline.fps, flag, **options)
        return Request(source.path.name, seed=seed, clip=clip), note
    heldout = pipeline.encoder.source("heldout")
    require(
        source.index < len(heldout),
        f"{flag} {source.name} must be one of {len(heldout)} held-out clips, the last is "
        f"heldout:{len(heldout) - 1}; choose another",
    )
    record = heldout[source.index]
    return Request(record["caption"], seed=seed, clip=record["video"]), ""


def read_clip(
    path: pathlib.Path,
    size: Size,
    fps: float,
    flag: str = "--reconstruct",
    *,
    published: bool = False,
) -> tuple[UInt8[np.ndarray, "f h w 3"], str]:
    """Reads a video file as a clip, and says how it was resampled.

    Args:
        path: The file.
        size: Of the clip.
        fps: Its rate.
        flag: What named the file, for messages.
        published: Whether frames are chosen and resized as in Divot's public code. That has square
            frames; others are resized as ours are.

    Returns:
        The clip, and one line that says how it was resampled, "" if it was not.

    Raises:
        InputError: if the file cannot be decoded.
    """
    seen: dict[str, str] = {}

    def pick(timeline: video_io.Timeline) -> Int64[np.ndarray, "frames"]:
        number, rate = len(timeline.times), len(timeline.times) / max(timeline.end, 1e-9)
        starts = transforms.window_starts(
            timeline.times, timeline.end, frames=size.frames, fps=fps, tick=timeline.tick
        )
        seen["have"] = f"{number} frames at {rate:.4g} fps"
        short = not len(starts) or starts[0]
        if short:
            seen["take"] = f"too short for {size.frames} frames at {fps:g} fps, spread over them"
        if published:
            cut = ClipWindowConfig(fps=fps, frames=size.frames, stride=1)
            chosen = windows.windows(number, rate, cut)[0]
        elif short:
            chosen = np.arange(size.frames) * number // size.frames
        else:
            chosen = transforms.window_frames(
                timeline.times, 0, frames=size.frames, fps=fps, tick=timeline.tick
            )
        if not short and not np.array_equal(chosen, np.arange(number)):
            seen["take"] = f"the first {size.frames} frames at {fps:g} fps taken"
        return chosen

    def fit(frame: UInt8[np.ndarray, "h w 3"], pixel_aspect: float) -> np.ndarray:
        height, width = frame.shape[:2]
        if (height, width) != (size.height, size.width) or pixel_aspect != 1.0:
            seen["fit"] = (
                f"{width}x{height} pixels cropped in the middle and resized to "
                f"{size.width}x{size.height}"
            )
        if published and size.height == size.width:
            return covering.resize_crop(frame, size.height)
        return transforms.resize_cover(frame, size.height, size.width, pixel_aspect=pixel_aspect)

    try:
        clip = video_io.read_clip(path, pick, fit)
    except video_io.UnreadableClip as error:
        raise InputError(
            f"{flag} {path} must be a video that can be decoded: {error}; convert it to an mp4"
        ) from None
    changes = [seen[name] for name in ("take", "fit") if name in seen]
    return clip, f"{path.name}: {seen['have']}: {'; '.join(changes)}" if changes else ""
