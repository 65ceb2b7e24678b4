# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What every data source is, and the one a run's configuration names.

A source has `__len__`, a `__repr__` that identifies its content, and `source[i]` giving
`{"video": uint8 [f, h, w, 3], "caption": str, "index": int}`. A source whose records are partly
drawn also has `read(i, rng)`; the loader keys `rng` by the seed and the record's place in the run.
A source that passes over unreadable clips lists their names and reasons in a fourth field,
`skipped`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import UInt8

from mimir_jax.config import DataConfig
from mimir_jax.data import buckets
from mimir_jax.data.config import ClipWindowConfig

Split = Literal["train", "heldout"]


@runtime_checkable
class Source(Protocol):
    """Random access to records."""

    def __len__(self) -> int:
        """Returns the number of records."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index`."""


def make_source(
    config: DataConfig, split: Split, *, seed: int, windows: ClipWindowConfig | None = None
) -> Source:
    """Builds the source that `config` names; only its libraries are imported.

    Args:
        config: Where clips come from, and their geometry.
        split: Records to train on, or to evaluate on. Held-out clips start at their first frame.
        seed: Fixes the scenes of Toyworld.
        windows: Reads stored videos as these windows, one behind the other, in place of
            `config.frames` each; records then differ in length. Toyworld has no stored videos.

    Raises:
        InputError: for data that cannot be read, or none that fit the buckets of `config`.
    """
    source = _make(config, split, seed, windows)
    if not config.buckets.sizes:
        return source
    return buckets.BucketSource(source, config.buckets, whole=split == "train")


def read_heldout(
    config: DataConfig, count: int, *, seed: int
) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
    """Reads the first `count` held-out clips, or all there are, and their captions.

    Clips that cannot be read are named in a warning and left out. They have the size of `config`,
    also where it has buckets.
    """
    return _stack(read_heldout_records(config, count, seed=seed))


def read_heldout_records(
    config: DataConfig, count: int, *, seed: int, windows: ClipWindowConfig | None = None
) -> list[dict[str, Any]]:
    """Reads the records of the first `count` held-out clips as `read_heldout` does.

    Args:
        config: Where clips come from, and their geometry.
        count: Most records.
        seed: Fixes the scenes of Toyworld.
        windows: As for `make_source`.
    """
    source = _make(config, "heldout", seed, windows)
    if config.buckets.sizes:
        source = source.resized(config.frames, config.height, config.width)
    return _read_first(source, range(len(source)), count)


def read_heldout_buckets(
    config: DataConfig, count: int, *, seed: int
) -> list[tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]]:
    """Reads up to `count` held-out clips in the sizes of their buckets.

    Returns:
        Clips and captions of every bucket that has some.
    """
    source = make_source(config, "heldout", seed=seed)
    share = -(-count // len(source.groups))
    return [_stack(_read_first(source, clips, share)) for clips in source.groups if clips]


def _make(
    config: DataConfig, split: Split, seed: int, windows: ClipWindowConfig | None = None
) -> Source:
    """Returns the source that `config` names, without its buckets."""
    return _MAKERS[config.source](config, split, seed, windows)


def _read_first(source: Source, clips: Sequence[int], count: int) -> list[dict[str, Any]]:
    """Returns the records of the first `count` readable clips among `clips`."""
    records: dict[int, dict[str, Any]] = {}
    skipped: set[tuple[str, str]] = set()
    for index in clips:
        if len(records) == count:
            break
        record = source[index]
        records.setdefault(record["index"], record)
        skipped.update(record.get("skipped", ()))
    for name, reason in sorted(skipped):
        logging.warning("held-out clip left out: %s: %s", name, reason)
    return list(records.values())


def _stack(records: Sequence[dict[str, Any]]) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
    """Returns the videos and captions of records."""
    videos = np.stack([record["video"] for record in records])
    return videos, [record["caption"] for record in records]


def _toyworld(
    config: DataConfig, split: Split, seed: int, windows: ClipWindowConfig | None
) -> Source:
    from mimir_jax.data.toyworld import source, stories

    del windows
    scenes = source.ToyworldSource(
        split,
        seed=seed,
        num_scenes=config.toyworld.num_scenes,
        caption_style=config.toyworld.caption_style,
        scenery=config.toyworld.variety,
        frames=config.frames,
        height=config.height,
        width=config.width,
        deal=config.toyworld.deal,
    )
    pages = config.toyworld.pages
    return scenes if pages == 1 else stories.ToyworldStories(scenes, pages)


def _folder(
    config: DataConfig, split: Split, seed: int, windows: ClipWindowConfig | None
) -> Source:
    from mimir_jax.data.sources import folder

    del seed
    images = any(size.frames == 1 for size in config.buckets.sizes)
    cut = _cut(config, split, windows)
    return folder.VideoFolder(config.folder.path, split=split, images=images, **cut)


def _shards(
    config: DataConfig, split: Split, seed: int, windows: ClipWindowConfig | None
) -> Source:
    from mimir_jax.data.sources import shards

    del seed
    return shards.ClipShards(config.shards.path, split=split, **_cut(config, split, windows))


def _tfds(config: DataConfig, split: Split, seed: int, windows: ClipWindowConfig | None) -> Source:
    from mimir_jax.data.sources import tfds

    del seed
    section = config.tfds
    return tfds.TfdsSource(
        section.name,
        data_dir=section.path,
        split=tfds.choose_split(section.name, section.path, split),
        video_key=section.video_key,
        caption_key=section.caption_key,
        source_fps=section.source_fps,
        **_cut(config, split, windows),
    )


def _cut(config: DataConfig, split: Split, windows: ClipWindowConfig | None) -> dict[str, Any]:
    """Returns how clips are cut from stored videos; the shortest bucket tells which are readable.

    `buckets` cuts them to other sizes.
    """
    return {
        "frames": min((size.frames for size in config.buckets.sizes), default=config.frames),
        "height": config.height,
        "width": config.width,
        "fps": config.fps,
        "start": config.window if split == "train" else "first",
        "short": config.short_clips,
        "min_side": config.min_side,
        "min_aspect": config.min_aspect,
        "seconds": config.clip_seconds,
        "gigabytes": config.clip_gigabytes,
        "windows": windows,
    }


_MAKERS: dict[str, Callable[[DataConfig, Split, int, ClipWindowConfig | None], Source]] = {
    "toyworld": _toyworld,
    "folder": _folder,
    "shards": _shards,
    "tfds": _tfds,
}
"""Makes the source of every kind of `DataConfig.source`."""
