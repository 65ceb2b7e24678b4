# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes the clips that are kept, and captions them."""

import contextlib
import functools
import pathlib
import platform
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from mimir_jax import files
from mimir_jax.data import covering, video_io, video_stream
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage.config import FootageConfig
from mimir_jax.preparation.footage.filters import captions

_TICKS = 90_000  # per second

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
_REPEATABLE = {"x264-params": "asm=MMX2,SSE2,SSSE3,SSE42"} if _IS_X86 else {}
"""Options by which equal frames become equal bytes, on every x86 processor.

The AVX-512 code of x264 (core 165) gives the same clip one of several encodings, in turn.
"""


class Exporter:
    """Writes and captions clips with the captioner of a config.

    Args:
        config: The preparation.
        root: The raw videos.
        folder: Receives the clips.

    Raises:
        InputError: for a captioner that cannot be made.
    """

    def __init__(self, config: FootageConfig, root: pathlib.Path, folder: pathlib.Path):
        self._config, self._root, self._folder = config, root, folder
        captioner = plugins.find("captions.captioner", config.captions.captioner)
        self._captioner = captioner(config.captions, root)

    def export(self, record: dict[str, Any], names: list[str]) -> dict[str, Any]:
        """Writes clips of a video, which is decoded once.

        Args:
            record: Record of the video.
            names: Its clips that are kept.

        Returns:
            File, size and captions of each, or `failed` if the video cannot be read any more.
        """
        wanted = [clip for clip in record["clips"] if clip["clip"] in names]
        path, done = self._root / record["video"], {}
        try:
            with video_stream.open_video(path) as (timeline, frames):
                for clip in wanted:
                    whole = clip["first"] == 0 and clip["end"] == len(timeline.times)
                    whole = whole and path.is_file()  # no folder of frames
                    file = clip["clip"] + (path.suffix.lower() if whole else ".mp4")
                    written = self._folder / file
                    with files.atomic_file(written) as target:
                        if whole:
                            shutil.copyfile(path, target)
                        else:
                            self._write(target, frames, timeline, clip)
                        # Before others see the file, which may work on the same video.
                        info = {**clip, "video": record["video"], "path": target}
                        read = functools.partial(self._frames, target)
                        texts = captions.read(self._captioner, self._config.captions, read, info)
                        size = target.stat().st_size
                    if not texts:
                        written.unlink(missing_ok=True)
                    done[clip["clip"]] = {"file": file, "bytes": size, "captions": texts}
        except video_io.UnreadableClip as error:
            return {"kept": names, "clips": done, "failed": str(error)}
        return {"kept": names, "clips": done}

    def _write(
        self,
        target: pathlib.Path,
        frames: Iterator[video_stream.Frame],
        timeline: video_io.Timeline,
        clip: dict[str, Any],
    ) -> None:
        """Writes a clip; leaves the frames behind it to the next one."""
        first, end = clip["first"], clip["end"]
        seconds = timeline.times[end - 1] - timeline.times[first]
        rate = Fraction((end - 1 - first) / seconds if seconds else 25.0).limit_denominator(1001)
        with contextlib.ExitStack() as stack:
            writer = None
            for frame in frames:
                if frame.number < first:
                    continue
                if writer is None:
                    writer = stack.enter_context(
                        _writer(target, frame, rate, crf=self._config.output.crf)
                    )
                writer(frame, float(timeline.times[frame.number]) - clip["start"])
                if frame.number == end - 1:
                    return

    def _frames(self, path: pathlib.Path) -> np.ndarray:
        """Returns the frames of a clip that a captioner reads."""
        config, side = self._config.captions, self._config.quality.detail_side

        def pick(timeline: video_io.Timeline) -> np.ndarray:
            times = np.arange(0, timeline.end, 1 / config.fps)[: config.frames]
            return np.searchsorted(timeline.times, times - timeline.tick).clip(
                0, len(timeline.times) - 1
            )

        def fit(frame: np.ndarray, pixel_aspect: float) -> np.ndarray:
            height, width = frame.shape[0], frame.shape[1] * pixel_aspect
            scale = min(1.0, side / min(height, width))
            size = round(height * scale), round(width * scale)
            return covering.resize_cover(frame, *size, pixel_aspect=pixel_aspect)

        return video_io.read_clip(path, pick, fit)


@contextlib.contextmanager
def _writer(
    target: pathlib.Path, first: video_stream.Frame, rate: Fraction, *, crf: int
) -> Iterator[Callable[[video_stream.Frame, float], None]]:
    """Yields a function that adds a frame at a time to an mp4, in the colours of the source."""
    height, width = (size - size % 2 for size in first.size())  # H.264 halves the chroma
    with av.open(str(target.absolute()), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"crf": str(crf), **_REPEATABLE}
        codec, source, scalers = stream.codec_context, first.source, first.scalers
        codec.thread_count = 1  # processes share the cores
        codec.time_base = Fraction(1, _TICKS)
        if not first.turned:
            codec.colorspace, codec.color_range = source.colorspace, source.color_range
            codec.color_primaries, codec.color_trc = source.color_primaries, source.color_trc

        def add(frame: video_stream.Frame, time: float) -> None:
            image = video_io.on_white(frame.source)
            if frame.turned:
                image = av.VideoFrame.from_ndarray(frame.image(), format="rgb24")
            image = scalers.convert(image, "encoder", width, height, "yuv420p")
            image.pts, image.time_base = round(time * _TICKS), Fraction(1, _TICKS)
            image.pict_type = 0  # the encoder chooses its key frames
            container.mux(stream.encode(image))

        yield add
        container.mux(stream.encode())
