# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The order of the records of a run, which never ends, and the rows of it that one process holds.

place -> batch and row -> bucket of the batch -> next record in the order of that bucket
"""

import sys
from collections.abc import Sequence
from typing import Any

import grain

from mimir_jax.data import schedule as schedule_lib


def make_order(
    count: int,
    groups: Sequence[Sequence[int]] | None,
    places: schedule_lib.Rows,
    seed: int | None,
) -> grain.MapDataset:
    """Returns the number of the record at each place.

    Args:
        count: Number of records.
        groups: Records of each bucket; None for a source without buckets.
        places: Where each batch stands.
        seed: Draws a new order for each epoch, and for each bucket; None keeps that of the source.
    """
    if groups is None:
        return _endless(count, seed)
    seeds = [None if seed is None else (seed + number) % 2**32 for number in range(len(groups))]
    orders = [_endless(len(group), own) for group, own in zip(groups, seeds, strict=True)]
    return grain.MapDataset.source(_BucketOrder(places, groups, orders))


class OwnRows(grain.MapDataset):
    """Keeps the rows of each batch that this process holds."""

    def __init__(
        self,
        parent: grain.MapDataset,
        places: schedule_lib.Rows,
        own: schedule_lib.Rows,
        rows: Sequence[Sequence[int]],
    ):
        """Takes `rows[bucket]` of each batch in `parent`.

        Args:
            parent: All rows.
            places: Where each batch stands among them.
            own: Where each batch stands among those of this process.
            rows: Rows of this process of a batch of each bucket.
        """
        super().__init__(parent)
        self._places, self._own, self._rows = places, own, rows

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = self._own.find(index)
        rows = self._rows[self._own.schedule.bucket(batch)]
        return self._parent[self._places.first(batch) + rows[row]]


class _BucketOrder:
    """The record at each place, endless: that of the batch's bucket which comes next in its order.

    Args:
        places: Where each batch stands.
        groups: Records of each bucket.
        orders: Endless orders of each bucket, of numbers in its group.
    """

    def __init__(
        self,
        places: schedule_lib.Rows,
        groups: Sequence[Sequence[int]],
        orders: Sequence[grain.MapDataset | None],
    ):
        self._places, self._groups, self._orders = places, groups, orders

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, place: int) -> int:
        batch, row = self._places.find(place)
        schedule = self._places.schedule
        bucket = schedule.bucket(batch)
        number = schedule.before(batch)[bucket] * self._places.sizes[bucket] + row
        return self._groups[bucket][int(self._orders[bucket][number])]


def _endless(count: int, seed: int | None) -> grain.MapDataset | None:
    """Returns endless passes over `count` numbers, each in a new order; None without any."""
    if not count:
        return None
    order = grain.MapDataset.range(count)
    return (order if seed is None else order.shuffle(seed=seed)).repeat()
