# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Base of the sources that cut clips of one geometry from stored videos."""

import abc
import bisect
import copy
import os
from collections.abc import Sequence
from concurrent import futures
from typing import Any, Literal

import numpy as np
from absl import logging
from jaxtyping import Int64, UInt8

from mimir_jax.data import buckets, clip_worker, transforms, video_io
from mimir_jax.data import windows as windows_lib
from mimir_jax.data.bucket_config import BucketsConfig
from mimir_jax.data.config import ClipWindowConfig
from mimir_jax.errors import InputError, printable

Start = Literal["random", "first"]
Short = Literal["skip", "repeat"]

MEASURED_AT_ONCE = min(8, os.cpu_count() or 1)
"""Clips that are measured at the same time."""


class ClipSource(abc.ABC):
    """Clips of one geometry cut from stored videos, with captions.

    The next readable clip by number replaces an unreadable one, so that the content of every batch
    stays a function of the seed and the step. The record tells: `index` is the clip that was read
    and `skipped` holds name and reason of each clip passed over.
    """

    def __init__(
        self,
        *,
        frames: int,
        height: int,
        width: int,
        fps: float | int | None = None,
        start: Start = "random",
        short: Short = "skip",
        seconds: float | int = 60.0,
        gigabytes: float | int = 4.0,
        min_side: int = 0,
        min_aspect: float | int = 0.0,
        windows: ClipWindowConfig | None = None,
    ):
        """Sets the geometry.

        Args:
            frames: Frames in a record.
            height: Rows of a frame; videos are centre-cropped to cover the size.
            width: Columns of a frame.
            fps: Frames per second, picked by time stamp; None takes every stored frame.
            start: Where a record starts: at a `random` frame from which it fits, or at the
                `first`, always with the first caption (for evaluation).
            seconds: Processor time that a file may take to decode.
            gigabytes: Memory that it may take.
            min_side: Pixels along the shorter side of a stored frame, below which a video is
                unreadable.
            min_aspect: Shorter over longer side of a stored frame, likewise.
            short: `skip` treats a video too short for the record as unreadable; `repeat` holds
                its last frame.
            windows: Reads each video as these windows, one behind the other in a record, in place
                of `frames` at `fps`; a video of any length has some.
        """
        for name, value in (("frames", frames), ("height", height), ("width", width)):
            self._require(
                value >= 1, f"{name} must be at least 1, got {value}; pass a positive one"
            )
        self._require(
            fps is None or fps > 0,
            f"fps must be positive, got {fps}; pass None to take every stored frame",
        )
        self._require(start in ("random", "first"), f"start must be random or first, got {start!r}")
        self._require(short in ("skip", "repeat"), f"short must be skip or repeat, got {short!r}")
        self.frames, self.height, self.width = frames, height, width
        self.fps = None if fps is None else float(fps)
        self.start, self.short, self.windows = start, short, windows
        self._frame_limits = video_io.FrameLimits(int(min_side), float(min_aspect))
        self._limits = {"seconds": seconds, "gigabytes": gigabytes}
        self._over: dict[int, str] = {}  # clips that exceeded a limit, not tried again
        self._clips: Sequence[int] | None = None  # those that may stand for an unreadable one
        self.left_out: dict[str, str] = {}

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of clips."""

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Returns the name by which people know clip `index`."""

    @abc.abstractmethod
    def _load(
        self, index: int, pick: video_io.Pick
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
        """Returns the frames `pick` chooses and the captions, or raises `UnreadableClip`."""

    @abc.abstractmethod
    def _identity(self) -> str:
        """Returns what tells this source's content from any other's."""

    @abc.abstractmethod
    def _measure(self, index: int) -> tuple[video_io.Timeline, tuple[int | float, int | float]]:
        """Returns the timeline of a clip, and height and width of its frames in square pixels.

        Raises:
            UnreadableClip: if it cannot be read.
        """

    def resized(
        self, frames: int, height: int, width: int, clips: Sequence[int] | None = None
    ) -> "ClipSource":
        """Returns clips of another size; those of `clips` stand for unreadable ones."""
        other = copy.copy(self)
        other.frames, other.height, other.width = frames, height, width
        other._clips, other._over = clips, {}
        return other

    def assign(self, config: BucketsConfig) -> tuple[Sequence[int], ...]:
        """Returns the clips of each bucket; the others are named in `left_out`, with the reason."""

        def find(index: int) -> int | str:
            try:
                timeline, (height, width) = self._measure(index)
                self._frame_limits.check(height, width)
            except video_io.UnreadableClip as error:
                return printable(str(error))
            measure = buckets.Measure(height, width, lambda frames: self._fits(timeline, frames))
            number = buckets.choose(measure, config, repeats=self.short == "repeat")
            seen = f"{len(timeline.times)} frames of {height:g}x{width:g}"
            return f"fits no bucket, has {seen}" if number is None else number

        with futures.ThreadPoolExecutor(MEASURED_AT_ONCE, "measure") as threads:
            found = list(threads.map(find, range(len(self))))
        for index, reason in enumerate(found):
            if isinstance(reason, str):
                logging.info("clip left out: %s: %s", self.name(index), reason)
                self.left_out[self.name(index)] = reason
        numbers = [None if isinstance(x, str) else x for x in found]
        return buckets.group(numbers, len(config.sizes))

    def _fits(self, timeline: video_io.Timeline, frames: int) -> bool:
        rate = {"frames": frames, "fps": self.fps, "tick": timeline.tick}
        return len(transforms.window_starts(timeline.times, timeline.end, **rate)) > 0

    def __repr__(self) -> str:
        cut = "" if self.windows is None else f", windows={self.windows!r}"
        if self._frame_limits != video_io.FrameLimits():
            cut += f", limits={self._frame_limits!r}"
        return (
            f"{type(self).__name__}({self._identity()}, clips={len(self)}, frames={self.frames}, "
            f"height={self.height}, width={self.width}, fps={self.fps}, start={self.start!r}, "
            f"short={self.short!r}{cut})"
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns the first window of clip `index`."""
        return self.read(index)

    def read(self, index: int, rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Returns a record of clip `index`, or of the next readable one.

        Args:
            index: Number of the clip.
            rng: Draws the window and the caption; None takes the first of both.

        Raises:
            ValueError: if no clip can be read.
        """
        count = len(self)
        if not 0 <= index < count:
            raise IndexError(f"clip {index} of {count}")
        rng = None if self.start == "first" else rng
        skipped: list[tuple[str, str]] = []
        clips = range(count) if self._clips is None else self._clips
        place = bisect.bisect_left(clips, index)
        for ahead in range(len(clips)):
            number = clips[(place + ahead) % len(clips)]
            try:
                if number in self._over:
                    raise video_io.UnreadableClip(self._over[number])
                video, captions = self._load(number, lambda line: self._pick(line, rng))
            except clip_worker.ClipLimit as error:
                self._over[number] = str(error)
                skipped.append((printable(self.name(number)), printable(str(error))))
                continue
            except video_io.UnreadableClip as error:
                skipped.append((printable(self.name(number)), printable(str(error))))
                continue
            choice = 0 if rng is None or len(captions) == 1 else int(rng.integers(len(captions)))
            return {
                "video": video,
                "caption": captions[choice],
                "index": number,
                "skipped": tuple(skipped),
            }
        raise InputError(
            f"{type(self).__name__} needs at least one readable clip, all {len(clips)} failed "
            f"({': '.join(skipped[0])}); repair them or change frames, fps or short"
        )

    def _pick(
        self, timeline: video_io.Timeline, rng: np.random.Generator | None
    ) -> Int64[np.ndarray, "frames"]:
        if self.windows is not None:
            number = len(timeline.times)
            fps = number / max(timeline.end, timeline.tick)
            return windows_lib.windows(number, fps, self.windows, rng=rng).reshape(-1)
        rate = {"frames": self.frames, "fps": self.fps, "tick": timeline.tick}
        starts = transforms.window_starts(timeline.times, timeline.end, **rate)
        if not len(starts) and self.short == "skip":
            need = f"{self.frames} frames" + (f" at {self.fps} fps" if self.fps else "")
            have = f"{len(timeline.times)} frames, {timeline.end:.2f} s"
            raise video_io.UnreadableClip(f"too short for {need}, has {have}")
        start = 0
        if rng is not None and len(starts):
            start = int(starts[rng.integers(len(starts))])
        return transforms.window_frames(timeline.times, start, **rate)

    def _fit(
        self, frame: UInt8[np.ndarray, "h w 3"], pixel_aspect: float = 1.0
    ) -> UInt8[np.ndarray, "height width 3"]:
        self._frame_limits.check(*frame.shape[:2])
        return transforms.resize_cover(frame, self.height, self.width, pixel_aspect=pixel_aspect)

    def _require(self, condition: bool, rule: str) -> None:
        if not condition:
            raise InputError(f"{type(self).__name__} {rule}")
