# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training data: one section per kind of source, and the geometry of clips.

A new kind of source is a section here, its name among the kinds of `DataConfig.source`, and its
maker in `data.sources`.
"""

import dataclasses
from typing import Literal, Protocol, runtime_checkable

from mimir_jax.config import checks
from mimir_jax.data.bucket_config import BucketsConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipWindowConfig:
    """Frames of a video that Divot's tokenizer reads (arXiv 2412.04432).

    Attributes:
        fps: Frames per second of a window.
        frames: Frames of a window.
        stride: Distance of the frames that are read of a window, the last of which is read too.
        max_windows: Windows of a long video.
        short: Windows of a video that is shorter than `max_windows` of them: `follow` puts one
            behind the other, the last one ending with the video, as in pretraining and use; `fill`
            puts as many as in a long video, their frames closer together, as in instruction tuning.
    """

    fps: float = 8.0
    frames: int = 16
    stride: int = 4
    max_windows: int = 20
    short: Literal["follow", "fill"] = "follow"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "fps", 0, above=True)


@runtime_checkable
class SourceConfig(Protocol):
    """Section of one kind of source."""

    def check_data(self, data: "DataConfig") -> None:
        """Raises `FieldError` unless `data`, whose source this is, can be read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyworldConfig:
    """Toyworld: scenes of moving shapes, rendered on the fly.

    Attributes:
        num_scenes: Training scenes; a finite pool lets frozen features be reused.
        caption_style: Wording of the captions: a narrow style, `mixed` (all narrow ones but
            `coarse`), `wide` (other words), or `both`: seven in ten wide, the others mixed.
        variety: `varied` backgrounds, light and camera; `plain`, objects alone; `single`, one kind
            of object alone, mostly large, in few places, doing one thing.
        pages: Clips of a video: 1, or at least 3, which tell a story of one object. They share
            `data.frames`.
        deal: Scenes that each of `data.buckets` gets in turn, such as 3, 1; empty gives one to
            each.
    """

    num_scenes: int = 1 << 30
    caption_style: Literal["short", "long", "coarse", "paraphrase", "mixed", "wide", "both"] = (
        "mixed"
    )
    variety: Literal["varied", "plain", "single"] = "varied"
    pages: int = 1
    deal: tuple[int, ...] = ()

    def __post_init__(self):
        checks.within(self, "num_scenes", 1)
        checks.within(self, "pages", 1)
        checks.check(self, self.pages != 2, "{pages} must be 1 or at least 3, got 2")
        checks.check(
            self,
            min(self.deal, default=1) >= 1,
            "{deal} must give each bucket at least 1 scene",
            got=repr(self.deal),
        )

    def check_data(self, data: "DataConfig") -> None:
        """Raises `FieldError` for another frame rate than that of the scenes."""
        checks.check(
            data,
            data.fps == 8,
            "{fps} must be 8 for Toyworld, whose scenes move at that rate",
            remedy="leave it out",
        )
        checks.check(
            data,
            data.frames % self.pages == 0,
            "{frames} must be a multiple of {toyworld.pages}, the clips of a story",
        )
        count = len(data.buckets.sizes)
        checks.check(
            data,
            len(self.deal) in (0, count),
            "{toyworld.deal} must hold a number for each of {buckets}",
            got=f"{len(self.deal)} for {count}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """A folder of videos with captions.

    Attributes:
        path: The folder.
    """

    path: str | None = None

    def check_data(self, data: "DataConfig") -> None:
        """Raises `FieldError` where no folder is named."""
        checks.check(data, self.path is not None, "{folder.path} must name a folder of videos")
        _check_window(data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """Shards of captioned clips that `mimir-jax prepare --shard_megabytes` has written.

    Attributes:
        path: Folder of the shards, or a folder of such folders.
    """

    path: str | None = None

    def check_data(self, data: "DataConfig") -> None:
        """Raises `FieldError` where no folder is named."""
        checks.check(data, self.path is not None, "{shards.path} must name a folder of clip shards")
        _check_window(data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsConfig:
    """A dataset of tensorflow_datasets in ArrayRecord format.

    Attributes:
        path: Folder that holds the prepared datasets.
        name: The dataset.
        video_key: Feature that holds the video.
        caption_key: Feature that holds its caption or captions.
        source_fps: Frames per second of the stored videos, which have no time stamps.
    """

    path: str | None = None
    name: str | None = None
    video_key: str = "video"
    caption_key: str = "caption"
    source_fps: float | None = None

    def __post_init__(self):
        checks.within(self, "source_fps", 0, above=True)

    def check_data(self, data: "DataConfig") -> None:
        """Raises `FieldError` where folder or dataset is not named."""
        checks.check(data, self.path is not None, "{tfds.path} must name a folder of datasets")
        checks.check(data, self.name is not None, "{tfds.name} must name the dataset")
        _check_window(data)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where clips come from, and their geometry.

    Attributes:
        source: The section that counts: `toyworld` needs no files, `folder` reads a folder of
            videos, `shards` what `mimir-jax prepare` has packed, `tfds` a dataset of
            tensorflow_datasets.
        toyworld: Source `toyworld`.
        folder: Source `folder`.
        shards: Source `shards`.
        tfds: Source `tfds`.
        buckets: Clips of several shapes and lengths, in place of those of one size.
        frames: Frames per clip; with buckets, per sampled video.
        height: Pixel rows, likewise.
        width: Pixel columns, likewise.
        fps: Frames per second of a clip, picked by time stamp; Toyworld has 8.
        window: Part of a longer video: `random` in every pass, or the `first` frames.
        short_clips: Videos too short for a clip: `skip` them, or `repeat` their last frame.
        min_side: Pixels along the shorter side of a stored frame, below which a video is left out.
        min_aspect: Shorter over longer side of a stored frame, below which a video is left out.
        clip_seconds: Processor time that a video file may take to decode; one that takes longer is
            left out.
        clip_gigabytes: Memory that it may take, likewise.
        num_workers: Decoding processes; 0 decodes on threads of the training process.
        features: Folder that launch/precompute.py wrote for this source; training then reads
            latents and text features from it. None runs the frozen networks as it goes.
    """

    source: Literal["toyworld", "folder", "shards", "tfds"] = "toyworld"
    toyworld: ToyworldConfig = ToyworldConfig()
    folder: FolderConfig = FolderConfig()
    shards: ShardsConfig = ShardsConfig()
    tfds: TfdsConfig = TfdsConfig()
    buckets: BucketsConfig = BucketsConfig()
    frames: int = 17
    height: int = 64
    width: int = 64
    fps: float = 8.0
    window: Literal["random", "first"] = "random"
    short_clips: Literal["skip", "repeat"] = "skip"
    min_side: int = 0
    min_aspect: float = 0.0
    clip_seconds: float = 60.0
    clip_gigabytes: float = 4.0
    num_workers: int = 0
    features: str | None = None

    def __post_init__(self):
        for name in ("frames", "height", "width"):
            checks.within(self, name, 1)
        for name in ("fps", "clip_seconds", "clip_gigabytes"):
            checks.within(self, name, 0, above=True)
        for name in ("min_side", "num_workers"):
            checks.within(self, name, 0)
        checks.within(self, "min_aspect", 0, 1)
        self.section.check_data(self)

    @property
    def section(self) -> SourceConfig:
        """The section of the source that counts."""
        return getattr(self, self.source)


def _check_window(data: DataConfig) -> None:
    """Raises `FieldError` for stored features of clips that vary from pass to pass."""
    checks.check(
        data,
        data.features is None or data.window == "first",
        "{window} must be 'first' for precomputed features, which hold one window of a video",
    )
