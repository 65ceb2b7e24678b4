# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which bucket each batch of a run holds, and where its rows stand among all rows.

Batches are drawn in blocks. A block holds every bucket as often as its share of the clips, in an
order of its own; where the data are few enough it is an epoch. Buckets of a block are a function of
the seed and the block's number, so that a run finds its place without going through those before.

    batch -> block and place in it -> bucket, batches of that bucket before, rows before
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

BLOCK = 1024
"""Batches of a block, about, where an epoch has more."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The bucket of every batch.

    Attributes:
        counts: Batches of each bucket in a block; 0 for a bucket without clips.
        seed: Draws the order in each block.
    """

    counts: tuple[int, ...]
    seed: int

    def bucket(self, batch: int) -> int:
        """Returns the number of the bucket of a batch."""
        block, place = divmod(batch, sum(self.counts))
        return int(_block(self, block)[place])

    def before(self, batch: int) -> tuple[int, ...]:
        """Returns the number of batches of each bucket before `batch`."""
        block, place = divmod(batch, sum(self.counts))
        inside = np.bincount(_block(self, block)[:place], minlength=len(self.counts))
        return tuple(block * count + int(n) for count, n in zip(self.counts, inside, strict=True))

    def next_buckets(self, batch: int, count: int) -> list[int]:
        """Returns the buckets of the `count` batches from `batch` on, in the order of first use."""
        found: dict[int, None] = {}
        for number in range(batch, batch + min(count, 2 * sum(self.counts))):
            found[self.bucket(number)] = None
            if len(found) == np.count_nonzero(self.counts):
                break
        return list(found)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of all batches, one after the other.

    Attributes:
        schedule: The bucket of every batch.
        sizes: Rows of a batch of each bucket.
    """

    schedule: Schedule
    sizes: tuple[int, ...]

    def first(self, batch: int) -> int:
        """Returns the number of the first row of a batch."""
        before = self.schedule.before(batch)
        return sum(n * size for n, size in zip(before, self.sizes, strict=True))

    def size(self, batch: int) -> int:
        """Returns the number of rows of a batch."""
        return self.sizes[self.schedule.bucket(batch)]

    def find(self, number: int) -> tuple[int, int]:
        """Returns the batch that a row belongs to, and its place there."""
        counts = self.schedule.counts
        total = sum(n * size for n, size in zip(counts, self.sizes, strict=True))
        block, rest = divmod(number, total)
        ends = _ends(self, block)
        place = int(np.searchsorted(ends, rest, side="right"))
        row = rest - (int(ends[place - 1]) if place else 0)
        return block * sum(counts) + place, row


def make(clips: Sequence[int], batches: Sequence[int], seed: int) -> Schedule:
    """Returns the schedule that takes each clip equally often, as nearly as whole batches allow.

    Args:
        clips: Clips of each bucket.
        batches: Clips per batch of each bucket.
        seed: Draws the order.
    """
    epoch = np.array([count / size for count, size in zip(clips, batches, strict=True)])
    scaled = epoch * min(1.0, BLOCK / epoch.sum())
    counts = [max(1, round(x)) if x else 0 for x in scaled.tolist()]
    if np.count_nonzero(counts) == 1:
        counts = [min(1, count) for count in counts]  # nothing to draw
    return Schedule(tuple(counts), seed)


@functools.lru_cache(64)
def _block(schedule: Schedule, number: int) -> np.ndarray:
    """Returns the buckets of a block."""
    buckets = np.repeat(np.arange(len(schedule.counts)), schedule.counts)
    return np.random.default_rng((schedule.seed, number)).permutation(buckets)


@functools.lru_cache(64)
def _ends(rows: Rows, number: int) -> np.ndarray:
    """Returns the rows of a block up to and with each batch."""
    return np.cumsum(np.array(rows.sizes)[_block(rows.schedule, number)])
