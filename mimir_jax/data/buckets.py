# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The bucket of each clip, and a source whose records have the size of their bucket.

A clip goes to the bucket of most frames that it fills; of those to the one that crops least of it;
of those to the largest that it covers without being enlarged, or else to the smallest.
"""

import bisect
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mimir_jax import hashing
from mimir_jax.data.bucket_config import BucketsConfig, Size
from mimir_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Measure:
    """Size of a clip that no bucket has cut yet.

    Attributes:
        height: Rows of a frame as it is shown.
        width: Columns, of square pixels.
        fits: Whether the clip has so many frames at the rate of the run.
    """

    height: int | float
    width: int | float
    fits: Callable[[int], bool]


@runtime_checkable
class Sizable(Protocol):
    """A source that makes clips of any size."""

    def __len__(self) -> int:
        """Returns the number of clips."""

    def resized(
        self, frames: int, height: int, width: int, clips: Sequence[int] | None = None
    ) -> Any:
        """Returns this source with clips of another size.

        Args:
            frames: Frames per clip.
            height: Pixel rows.
            width: Pixel columns.
            clips: Numbers of the clips that may stand for an unreadable one; None for all.
        """

    def assign(self, config: BucketsConfig) -> Sequence[Sequence[int]]:
        """Returns the numbers of the clips of each bucket, ascending."""


@runtime_checkable
class Grouped(Protocol):
    """A source whose records differ in size.

    Attributes:
        groups: Ascending numbers of the records of each bucket, of which batches are made.
    """

    groups: tuple[Sequence[int], ...]


def choose(measure: Measure, config: BucketsConfig, *, repeats: bool = False) -> int | None:
    """Returns the number of the bucket of a clip, None if it fits none.

    Args:
        measure: Size of the clip.
        config: The buckets.
        repeats: Whether a clip that is too short for every bucket fills the shortest ones.
    """
    sizes = config.sizes
    aspect = measure.width / measure.height
    kept = {n: _kept(aspect, size) for n, size in enumerate(sizes)}
    least = 1 - config.crop
    candidates = [n for n, size in enumerate(sizes) if measure.fits(size.frames)]
    if not candidates and repeats:
        shortest = min(size.frames for size in sizes)
        candidates = [n for n, size in enumerate(sizes) if size.frames == shortest]
    candidates = [n for n in candidates if kept[n] >= least - 1e-9]
    if not candidates:
        return None

    def rank(number: int) -> tuple:
        size = sizes[number]
        enlarges = size.height > measure.height or size.width > measure.width
        area = size.height * size.width
        return size.frames, round(kept[number], 6), not enlarges, -area if enlarges else area

    return max(candidates, key=rank)  # the first of equals


def group(numbers: Sequence[int | None], count: int) -> tuple[Sequence[int], ...]:
    """Returns the clips of each of `count` buckets, from the bucket of each clip."""
    return tuple([i for i, number in enumerate(numbers) if number == n] for n in range(count))


class BucketSource:
    """Clips of a source, each with the size of its bucket.

    Records are numbered anew: those without a bucket are left out. `index` of a record is its
    number in the source.

    Attributes:
        groups: Ascending numbers of the records of each bucket.
    """

    def __init__(self, source: Sizable, config: BucketsConfig, *, whole: bool = True):
        """Measures the clips.

        Args:
            source: The clips, of any size.
            config: The buckets.
            whole: Whether every listed bucket must have a clip.

        Raises:
            InputError: if no clip fits a bucket.
        """
        self._source, self._sizes = source, config.sizes
        assigned = source.assign(config)
        self._require_clips(assigned, whole and bool(config.listed))
        self._clips: Sequence[int] = range(len(source))
        if sum(map(len, assigned)) == len(source):
            self.groups = tuple(assigned)
        else:
            self._clips = sorted(clip for clips in assigned for clip in clips)
            place = {clip: number for number, clip in enumerate(self._clips)}
            self.groups = tuple([place[clip] for clip in clips] for clips in assigned)
        self._parts = [
            source.resized(*size[:3], clips=clips)
            for size, clips in zip(self._sizes, assigned, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns a record without random parts."""
        clip = self._clips[index]
        return self._part(index)[clip]

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns a record whose random parts are drawn."""
        clip, part = self._clips[index], self._part(index)
        return part.read(clip, rng) if hasattr(part, "read") else part[clip]

    def __repr__(self) -> str:
        sizes = ", ".join(size.name for size in self._sizes)
        return f"BucketSource({self._source!r}, buckets=[{sizes}], digest={self._digest!r})"

    def name(self, index: int) -> str:
        """Returns the name of a clip, or its number where it has none."""
        return getattr(self._source, "name", str)(self._clips[index])

    @property
    def source(self) -> Sizable:
        """The clips by the numbers that `index` of a record means."""
        return self._source

    @property
    def left_out(self) -> Mapping[str, str]:
        """What the source leaves out, with the reason."""
        return getattr(self._source, "left_out", {})

    def bucket(self, index: int) -> int:
        """Returns the number of the bucket of a record."""
        return next(n for n, clips in enumerate(self.groups) if _holds(clips, index))

    def _part(self, index: int) -> Any:
        return self._parts[self.bucket(index)]

    def _require_clips(self, assigned: Sequence[Sequence[int]], every: bool) -> None:
        empty = [s.name for s, clips in zip(self._sizes, assigned, strict=True) if not clips]
        if empty and (every or len(empty) == len(self._sizes)):
            raise InputError(
                f"every bucket of data.buckets must fit a clip, {empty[0]} fits none of "
                f"{len(self._source)}; leave it out, add clips, or raise data.buckets.crop"
            )

    @functools.cached_property
    def _digest(self) -> str:
        """Hash of the bucket of each clip."""
        return hashing.sha256(";".join(map(str, self.groups)))[:16]


class GroupedRecords:
    """The first records of a source that is grouped, read from another place.

    Attributes:
        groups: Ascending numbers of the records of each bucket.
    """

    def __init__(self, records: Any, groups: Sequence[Sequence[int]]):
        """Takes `groups` up to the number of `records`.

        Raises:
            InputError: if a bucket has no record among them.
        """
        self._records = records
        self.groups = tuple(group[: bisect.bisect_left(group, len(records))] for group in groups)
        if any(whole and not cut for whole, cut in zip(groups, self.groups, strict=True)):
            raise InputError(
                f"features must hold clips of every bucket, the first {len(records)} hold none of "
                "one; store more of them with --count"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._records[index]

    def __repr__(self) -> str:
        return repr(self._records)


def _kept(aspect: float, size: Size) -> float:
    """Returns the share of a frame that covers a bucket and is not cropped."""
    ratio = aspect * size.height / size.width
    return min(ratio, 1 / ratio)


def _holds(clips: Sequence[int], index: int) -> bool:
    if isinstance(clips, range):
        return index in clips
    place = bisect.bisect_left(clips, index)
    return place < len(clips) and clips[place] == index
