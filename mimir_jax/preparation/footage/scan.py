# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One pass over a raw video: its frames are decoded once, cut into clips, and measured."""

import bisect
import io
import itertools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from mimir_jax.data import scalers, video_io, video_stream
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage import rules as rules_lib
from mimir_jax.preparation.footage import store
from mimir_jax.preparation.footage.config import FootageConfig
from mimir_jax.preparation.footage.filters import (
    basic,
    duplicates,
    frame_scores,
    motion,
    quality,
)

STRIP = 4
"""Frames of a clip in a contact sheet."""

_LAG = 8  # frames after which a detector that says nothing of it has told of a cut
_GROUP, _GROUP_PIXELS = 31, 4_000_000  # frames decoded after another one, at most
_STRIP_HEIGHT = 72
_MOST_WIDTH = 1024  # of a frame there
_MOST_STRIPS = 900  # a JPEG has at most 65,535 rows
_WORD = re.compile(r"[^A-Za-z0-9]+")


class Scanner:
    """Measures videos with the plug-ins of a config, which are made once.

    Raises:
        InputError: for a plug-in that cannot be made.
    """

    def __init__(self, config: FootageConfig):
        self.config, self._rules = config, rules_lib.of_videos(config)
        self._detector = plugins.find("shots.detector", config.shots.detector)
        made = self._detector(config.shots, 25.0)  # a library that is missing shows at once
        self._lag = max(getattr(made, "lag", _LAG), config.shots.min_frames)
        self._flow = plugins.find("quality.flow", config.quality.flow)()
        self._scalers, self._scorers = scalers.Scalers(), {}
        for field, name in (
            ("aesthetic.scorer", config.aesthetic.scorer),
            ("watermark.detector", config.watermark.detector),
        ):
            section = getattr(config, field.partition(".")[0])
            self._scorers[field] = plugins.find(field, name)(section.folder)
        aesthetic = config.aesthetic
        frame_scores.check_bound(
            "aesthetic", aesthetic.scorer, self._scorers["aesthetic.scorer"], aesthetic.min_score
        )

    def scan(self, root: pathlib.Path, video: str) -> tuple[dict[str, Any], bytes]:
        """Returns the record of a video, and a JPEG with a row of frames for each of its clips.

        A video that cannot be read has `failed` in place of clips.
        """
        path, strips = root / video, []
        record: dict[str, Any] = {"video": video, "stamp": store.stamp(path), "clips": []}
        try:
            with video_stream.open_video(path, self._scalers) as (timeline, frames):
                fps = len(timeline.times) / timeline.end
                for clip in self.clips(timeline, frames, fps):
                    record["clips"].append(self._describe(video, clip))
                    strips += [_strip(clip)] if len(strips) < _MOST_STRIPS else []
                record["frames"] = len(timeline.times)
        except video_io.UnreadableClip as error:
            return {**record, "clips": [], "failed": str(error)}, b""
        return record, _sheet(strips)

    def clips(
        self, timeline: video_io.Timeline, frames: Iterator[video_stream.Frame], fps: float
    ) -> Iterator[clip_lib.Clip]:
        """Yields the clips of a video; a video of a wrong shape or rate is one, not decoded."""
        collector = None
        for frame in _in_groups(frames):
            if collector is None:
                collector = _Collector(self.config, timeline, fps, frame.size())
                whole = basic.measure(*frame.size(), fps)
                rules = clip_lib.decide(basic.rules(self.config.basic), whole)
                if clip_lib.dropped_by(rules):
                    collector.add(frame)
                    yield collector.cut(len(timeline.times))
                    return
                detector = self._detector(self.config.shots, fps)
            small = frame.image(self.config.shots.side, quick=True)
            for cut in detector.push(frame.number, small):
                yield from collector.finish(cut)
            yield from collector.divide(frame.number - self._lag)
            collector.add(frame)
        if collector is None:
            raise video_io.UnreadableClip("holds no frames")
        for cut in getattr(detector, "end", list)():
            yield from collector.finish(cut)
        yield from collector.finish(len(timeline.times))

    def _describe(self, video: str, clip: clip_lib.Clip) -> dict[str, Any]:
        """Measures a clip until a step drops it; what costs little is measured of every clip."""
        config = self.config
        measures = basic.measure(clip.height, clip.width, clip.fps) | {"seconds": clip.seconds}
        rules = self._rules
        if not clip_lib.dropped_by(clip_lib.decide(rules, measures)):
            measures |= quality.measure(clip, config.quality)
            measures |= motion.measure(clip, self._flow, config.quality)
        for field, count in (
            ("aesthetic.scorer", config.aesthetic.frames),
            ("watermark.detector", config.watermark.frames),
        ):
            section, _, attribute = field.partition(".")
            name = getattr(getattr(config, section), attribute)
            if not clip_lib.dropped_by(clip_lib.decide(rules, measures)):
                scorer = self._scorers[field]
                value = frame_scores.measure(field, name, scorer, clip, count)
                measures |= {} if value is None else {section: value}
        stem = _WORD.sub("-", pathlib.PurePath(video).stem).strip("-")[:40] or "clip"
        return {
            "clip": f"{stem}-{store.video_key(video)}-{clip.first:06d}",
            "first": clip.first,
            "end": clip.end,
            "start": round(clip.start, 6),
            "measures": {name: round(value, 6) for name, value in measures.items()},
            "hashes": [int(value) for value in duplicates.hashes(clip)],
        }


def _in_groups(frames: Iterator[video_stream.Frame]) -> Iterator[video_stream.Frame]:
    """Yields frames, decoded a few at a time after the first.

    Where filters run between two frames, they push the decoder out of the processor's caches.
    """
    for first in frames:
        yield first
        size = first.source.width * first.source.height
        yield from list(itertools.islice(frames, min(_GROUP, _GROUP_PIXELS // size)))


class _Collector:
    """Keeps the frames of the clip that is being read."""

    def __init__(
        self,
        config: FootageConfig,
        timeline: video_io.Timeline,
        fps: float,
        size: tuple[int, int],
    ):
        self._quality, self._most = config.quality, config.shots.max_seconds
        self._timeline, self._fps, self._size = timeline, fps, size
        self._times = timeline.times.tolist()  # a tenth of the time of an array, one by one
        self._first, self._small, self._detail = 0, [], []
        self._before: tuple[tuple, tuple] | None = None  # pictures of the clip before

    def add(self, frame: video_stream.Frame) -> None:
        """Keeps what the filters read of a frame."""
        time, tick = self._times[frame.number], self._timeline.tick
        config = self._quality
        for kept, gap, side in (
            (self._small, 1 / config.fps, config.side),
            (self._detail, config.detail_seconds, config.detail_side),
        ):
            # Against the grid of the clip, not the last frame, so that rates are met on average.
            if not kept or time >= kept[0][1] + len(kept) * gap - tick:
                kept.append((frame.number, time, frame.picture(side)))

    def finish(self, end: int) -> Iterator[clip_lib.Clip]:
        """Yields the clips of the shot that ends before frame `end`; none of one that is over."""
        if end > self._first:
            yield from self.divide(end)
            yield self.cut(end)

    def divide(self, end: int) -> Iterator[clip_lib.Clip]:
        """Yields the clips of the greatest length that end before frame `end`."""
        times, length = self._times, self._most - self._timeline.tick
        while end > self._first and times[end - 1] >= times[self._first] + length:
            place = bisect.bisect_left(times, times[self._first] + length)
            if (place := max(place, self._first + 1)) >= end:
                return
            yield self.cut(place)

    def cut(self, end: int) -> clip_lib.Clip:
        """Returns the clip up to frame `end`, excluded; what was read beyond begins the next."""
        times, start = self._times, self._times[self._first]
        stop = times[end] if end < len(times) else self._timeline.end
        before = self._before or (None, None)
        small, self._small = _split(self._small, end, before[0])
        detail, self._detail = _split(self._detail, end, before[1])
        clip = clip_lib.Clip(
            self._first, end, start, stop - start, self._fps, *self._size, small, detail
        )
        self._first, self._before = end, (small, detail)
        return clip


def _split(
    kept: list, end: int, before: tuple[video_stream.Picture, ...] | None
) -> tuple[tuple[video_stream.Picture, ...], list]:
    """Returns the pictures up to frame `end`, or the nearest one, and what is kept beyond."""
    inside = [item[2] for item in kept if item[0] < end] or [item[2] for item in kept[:1]]
    rest = [item for item in kept if item[0] >= end]
    return tuple(inside) if inside else before[-1:], rest


def _strip(clip: clip_lib.Clip) -> Image.Image:
    width = min(max(round(_STRIP_HEIGHT * clip.width / clip.height), 2), _MOST_WIDTH)
    pictures = clip_lib.spread(clip.small, STRIP)
    strip = np.full((_STRIP_HEIGHT, STRIP, width, 3), 255, np.uint8)
    for column, picture in enumerate(pictures):
        strip[:, column] = picture.rgb((width, _STRIP_HEIGHT))
    return Image.fromarray(strip.reshape(_STRIP_HEIGHT, STRIP * width, 3))


def _sheet(strips: list[Image.Image]) -> bytes:
    """Returns a JPEG with a row for each clip."""
    sheet = Image.new("RGB", (strips[0].width, _STRIP_HEIGHT * len(strips)))
    for row, strip in enumerate(strips):
        sheet.paste(strip, (0, row * _STRIP_HEIGHT))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def row(sheet: bytes, number: int) -> bytes | None:
    """Returns the JPEG of one row of a sheet, None of a row that it lacks."""
    with Image.open(io.BytesIO(sheet)) as image:
        top = number * _STRIP_HEIGHT
        if top >= image.height:
            return None
        strip = image.crop((0, top, image.width, top + _STRIP_HEIGHT))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
