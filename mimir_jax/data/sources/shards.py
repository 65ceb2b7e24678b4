# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Shards of captioned clips as a data source."""

import os
from typing import Any, Literal

import numpy as np
from absl import logging
from jaxtyping import UInt8

from mimir_jax import files
from mimir_jax.data import clip_shards, clip_worker, clips, video_io
from mimir_jax.data.sources import splits


class ClipShards(clips.ClipSource):
    """Clips that `mimir-jax prepare --shard_megabytes` has written.

    Order, splits, pixels and captions are those of the folder of clips that the shards were made
    of; those of several folders follow each other. Little of a clip is held in memory: the number
    that decides on its split.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        split: Literal["all", "train", "heldout"] = "all",
        **geometry: Any,
    ):
        """Opens the shards; reads clips only until a split has one it can read.

        Args:
            folder: Where the shards are, or a folder of such folders, read in order of their names.
            split: As for `VideoFolder`.
            **geometry: `frames`, `height`, `width`, `fps`, `start`, `short`, `windows` and so on of
                `ClipSource`.

        Raises:
            InputError: for shards that are missing, incomplete, damaged or of another version, or a
                split without a readable clip.
        """
        super().__init__(**geometry)
        folder = files.expand_path(folder)
        parts = sorted(folder.glob(f"*/{clip_shards.MANIFEST}"))
        if (folder / clip_shards.MANIFEST).exists() or not parts:
            parts = [folder / clip_shards.MANIFEST]
        self._readers, self._split = [clip_shards.Reader(part.parent) for part in parts], split
        self._ends = np.cumsum([len(reader) for reader in self._readers])
        codes = np.concatenate([reader.codes for reader in self._readers])
        self._places = np.arange(len(codes))
        if split != "all":
            self._places = splits.choose(codes, split, self._is_readable)
            self._require(
                len(self._places) > 0,
                f"needs at least two readable clips, to hold one out, got fewer of {len(codes)} in "
                f"{str(folder)!r}; add clips or change frames, fps or short",
            )

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        """Returns the file that a clip was, or its place if it is damaged."""
        reader, number = self._find(self._places[index])
        try:
            return reader.read(number)[0].name
        except video_io.UnreadableClip:
            return reader.where(number)

    def _identity(self) -> str:
        digests = ",".join(reader.digest[:16] for reader in self._readers)
        return f"digest={digests!r}, split={self._split!r}"

    def _find(self, place: int | np.integer) -> tuple[clip_shards.Reader, int]:
        """Returns the folder that a clip of all folders is in, and its number there."""
        part = int(np.searchsorted(self._ends, place, "right"))
        reader = self._readers[part]
        return reader, int(place - self._ends[part] + len(reader))

    def _read(self, place: int | np.integer) -> tuple[video_io.Stored, tuple[str, ...]]:
        reader, number = self._find(place)
        return reader.read(number)

    def _load(
        self, index: int, pick: video_io.Pick
    ) -> tuple[UInt8[np.ndarray, "f h w 3"], tuple[str, ...]]:
        stored, captions = self._read(self._places[index])
        return self._decode(stored, pick), captions

    def _measure(self, index: int) -> tuple[video_io.Timeline, tuple[float, float]]:
        stored, _ = self._read(self._places[index])
        return clip_worker.measure_clip(stored, **self._limits)

    def _decode(self, stored: video_io.Stored, pick: video_io.Pick) -> UInt8[np.ndarray, "f h w 3"]:
        return clip_worker.read_clip(
            stored,
            pick,
            height=self.height,
            width=self.width,
            limits=self._frame_limits,
            **self._limits,
        )

    def _is_readable(self, place: int) -> bool:
        try:
            self._decode(self._read(place)[0], lambda line: self._pick(line, None))
        except video_io.UnreadableClip as error:
            reader, number = self._find(place)
            logging.warning("clip passed over: %s: %s", reader.where(number), error)
            return False
        return True
