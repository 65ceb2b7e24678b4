# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Features of generated and real clips in a results folder, and the distance of the two.

Generated clips are embedded before mp4 compression. There is a JSON line per clip, with float32
vectors in base64, so a stopped evaluation resumes.
"""

import base64
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from mimir_jax import files
from mimir_jax.data import transforms, video_io
from mimir_jax.errors import InputError, require
from mimir_jax.evaluation import generation, results
from mimir_jax.evaluation.metrics import frechet
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib

CLIPS, REFERENCE = "clips.jsonl", "reference.jsonl"

Clips = UInt8[np.ndarray, "b f h w 3"]
Line = dict[str, Any]
Embed = Callable[[Clips], dict[str, np.ndarray]]
"""Clips to features by name, each with a row per clip."""

_AT_ONCE = 8


def encode(vector: np.ndarray) -> str:
    """Returns a vector as text."""
    return base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode()


def stack(lines: Sequence[Line], name: str) -> Float32[np.ndarray, "n d"]:
    """Returns the vectors `name` of lines, a row each."""
    return np.stack([np.frombuffer(base64.b64decode(line[name]), "<f4") for line in lines])


def require_frames(generator: generation.Generator, frames: int) -> None:
    """Raises `InputError` for a generator whose videos are known to be shorter than `frames`."""
    made = generator.settings.get("frames")
    require(
        not isinstance(made, int) or made >= frames,
        f"--clip_frames must be at most the frames of a video, got {frames} and {made}; raise "
        "--frames",
    )


def fit_clips(
    videos: Clips, frames: int, size: tuple[int, int] | None
) -> UInt8[np.ndarray, "b {frames} _ _ 3"]:
    """Returns the first frames of videos, centre-cropped and resized to (height, width).

    Args:
        videos: The videos.
        frames: Number of frames.
        size: None keeps the size.

    Raises:
        InputError: for videos of fewer frames.
    """
    require(
        videos.shape[1] >= frames,
        f"--clip_frames must be at most the frames of a video, got {frames} and "
        f"{videos.shape[1]}; raise --frames",
    )
    videos = videos[:, :frames]
    if size is None or videos.shape[2:4] == size:
        return videos
    return np.stack(
        [np.stack([transforms.resize_cover(frame, *size) for frame in clip]) for clip in videos]
    )


def embed_samples(
    samples: Sequence[generation.EvalSample],
    generator: generation.Generator,
    embed: Callable[[Sequence[generation.EvalSample], Clips], dict[str, np.ndarray]],
    folder: pathlib.Path,
    *,
    batch_size: int,
    progress: generation.Progress,
) -> list[Line]:
    """Generates and embeds the samples that the folder lacks, and writes their videos.

    Of several processes, all generate; process 0 embeds and writes.

    Args:
        samples: What to generate.
        generator: The model.
        embed: Features of samples and their videos by name, each with a row per sample.
        folder: Folder of results.
        batch_size: Videos at a time.
        progress: Called with the number of videos that exist.

    Returns:
        A line for each sample, in their order: its `name` and features. None elsewhere than on
        process 0.
    """
    path = folder / CLIPS
    lines = results.recover_lines(path) if distributed.is_first() else []
    found = {line["name"]: line for line in lines}
    done = distributed.from_first(lambda: list(found))
    for batch, videos in generation.generate_batches(
        samples, done, generator, batch_size=batch_size, progress=progress
    ):
        features = embed(batch, videos)
        for row, (sample, video) in enumerate(zip(batch, videos, strict=True)):
            scale = video_lib.display_scale(video)
            generation.write_video(folder, sample.name, video, generator.fps, scale)
            line = {"name": sample.name, **_encode_row(features, row)}
            results.append_line(path, line)
            found[sample.name] = line
    return [found[sample.name] for sample in samples if sample.name in found]


def embed_reference(
    windows: Mapping[str, pathlib.Path],
    read: Callable[[pathlib.Path, str], UInt8[np.ndarray, "f h w 3"]],
    embed: Embed,
    folder: pathlib.Path,
    *,
    progress: generation.Progress,
) -> list[Line]:
    """Reads and embeds the real clips that the folder lacks, on process 0.

    Args:
        windows: Video of each clip, by the name of the clip.
        read: Reads the clip of this name out of a video.
        embed: Features of clips.
        folder: Folder of results.
        progress: Called with the number of clips that are embedded.

    Returns:
        A line for each clip, in their order: its `name` and features. None elsewhere than on
        process 0.
    """
    if not distributed.is_first():
        return []
    path = folder / REFERENCE
    found = {line["name"]: line for line in results.recover_lines(path)}
    missing = [name for name in windows if name not in found]
    progress(len(windows) - len(missing), len(windows))
    for first in range(0, len(missing), _AT_ONCE):
        names = missing[first : first + _AT_ONCE]
        features = embed(np.stack([read(windows[name], name) for name in names]))
        for row, name in enumerate(names):
            found[name] = {"name": name, **_encode_row(features, row)}
            results.append_line(path, found[name])
        progress(len(windows) - len(missing) + first + len(names), len(windows))
    return [found[name] for name in windows]


def read_window(
    path: pathlib.Path,
    *,
    frames: int,
    fps: float | None,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "f h w 3"]:
    """Reads a clip of a video that starts anywhere, every start alike.

    Args:
        path: The video.
        frames: Number of frames.
        fps: Their rate; None takes every stored frame.
        size: Height and width after the centre crop.
        rng: Draws the start.

    Raises:
        InputError: for a video that cannot be read or is too short.
    """

    def pick(timeline: video_io.Timeline) -> Int64[np.ndarray, " f"]:
        options = dict(frames=frames, fps=fps, tick=timeline.tick)
        starts = transforms.window_starts(timeline.times, timeline.end, **options)
        if not len(starts):
            raise video_io.UnreadableClip(f"holds no {frames} frames at the rate asked for")
        return transforms.window_frames(timeline.times, int(rng.choice(starts)), **options)

    def fit(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
        return transforms.resize_cover(frame, *size, pixel_aspect=pixel_aspect)

    try:
        return video_io.read_clip(path, pick, fit)
    except video_io.UnreadableClip as error:
        raise InputError(f"video {path} must be readable: {error}; leave it out") from None


def frechet_score(
    lines: Sequence[Line],
    reference: Sequence[Line],
    *,
    is_video: bool,
) -> dict[str, Any]:
    """Returns the distance of embedded clips from real ones, under its name in results.

    That of a network that reads frames alone is a `frame_distance`, not an `fvd`.
    """
    generated, real = (stack(rows, "features") for rows in (lines, reference))
    value, interval = frechet.distance_with_interval(generated, real)
    score = {"value": value, "interval": interval, "real_clips": len(real)}
    return {"fvd" if is_video else "frame_distance": score}


def frechet_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """Returns the row of the Fréchet distance, none where it was not measured."""
    rows = []
    for name, title in (("fvd", "FVD"), ("frame_distance", "Fréchet distance of mean frames")):
        if score := scores.get(name):
            interval = score["interval"]
            shown = "-" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
            rows.append([title, f"{score['value']:.2f}", shown])
    return rows


def list_videos(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns all videos below a folder by their path in it, sorted.

    Raises:
        InputError: if there is no such folder, or no video.
    """
    found = files.list_below(folder, video_io.SUFFIXES)
    videos = {p.relative_to(folder).as_posix(): p for p in found}
    require(
        bool(videos),
        f"--videos {folder} must be a folder with videos, found none; check the path",
    )
    return videos


def _encode_row(features: Mapping[str, np.ndarray], row: int) -> dict[str, str | float]:
    return {
        name: encode(values[row]) if values.ndim > 1 else float(values[row])
        for name, values in features.items()
    }
