# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches from a source, the same ones on any number of workers, processes and devices.

Records are numbered through the run: batch k of size B holds places k*B to (k+1)*B - 1, each epoch
is a new order of the whole source, and a batch may cross into the next epoch. What stands at a
place is a function of (source, seed, place) alone, so a run can stop anywhere and go on elsewhere.

    place -> epoch and shuffled index -> record, drawn by seed and place -> rows -> batch

A batch of a source with buckets holds one of them (`schedule`); its places are those of the batch,
and each bucket has an order of its own.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grain
import jax
import numpy as np
from absl import flags, logging
from jax.sharding import Sharding

from mimir_jax import files
from mimir_jax.data import buckets as buckets_lib
from mimir_jax.data import order as order_lib
from mimir_jax.data import schedule as schedule_lib
from mimir_jax.data import sources
from mimir_jax.errors import InputError

Batch = dict[str, Any]
Record = dict[str, Any]
T = TypeVar("T")
Transform = Callable[[Record, np.random.Generator], Record]


class Loader(Iterator[Batch]):
    """Endless iterator over this process's rows of each global batch; `make_loader` builds it.

    Attributes:
        schedule: The bucket of each batch, by its number.
        skipped: How often each unreadable clip ("name: reason") was replaced in this process's
            rows, since construction.
        ids: Returns the records of a batch over all processes, by its number: the names that the
            source gives them, or else their numbers.
    """

    def __init__(
        self,
        records: grain.MapDataset,
        identity: Mapping[str, Any],
        *,
        ids: Callable[[int], list[str]],
        rows: schedule_lib.Rows,
        start_batch: int,
        read: grain.ReadOptions,
        workers: grain.MultiprocessingOptions,
        left_out: Mapping[str, str],
    ):
        """Wraps `records`, the rows of this process in order.

        Args:
            records: The rows.
            identity: What a state must agree in.
            ids: Names of the records of a batch, by its number.
            rows: Which of them a batch has.
            start_batch: Number of the first batch.
            read: How to read ahead.
            workers: Processes that read.
        """
        self.skipped: dict[str, int] = {}
        self.ids, self.schedule = ids, rows.schedule
        self._records, self._identity, self._rows = records, dict(identity), rows
        self._read, self._workers = read, workers
        self._batch = start_batch
        self._iterator: grain.DatasetIterator | None = None
        self._left_out = dict(left_out)
        self._list: Any = None  # a path, which may be remote
        self._listed: dict[str, None] = {}  # lines of the list, in order

    def __next__(self) -> Batch:
        """Returns the next batch: arrays stacked, text in lists, `skipped` as one flat list."""
        if self._iterator is None:
            self._iterator = self._open()
        try:
            batch = stack([next(self._iterator) for _ in range(self._rows.size(self._batch))])
        except BaseException:
            self.close()  # the next call starts again at the same batch
            raise
        self._batch += 1
        if "skipped" in batch:
            batch["skipped"] = [pair for row in batch["skipped"] for pair in row]
        for name, reason in batch.get("skipped", ()):
            line = f"{name}: {reason}"
            if line not in self.skipped:
                logging.warning("clip replaced by the next readable one: %s", line)
                self._write(name, reason)
            self.skipped[line] = self.skipped.get(line, 0) + 1
        return batch

    def quarantine(self, folder: Any) -> None:
        """Lists what is left out in `quarantine.jsonl`, one object of file and reason per line.

        What the source left out comes first; unreadable clips follow when they are found. The file
        is made with the first of them, and keeps what an earlier part of the run put there.
        """
        index = jax.process_index()
        path = folder / (f"quarantine-{index}.jsonl" if index else "quarantine.jsonl")
        self._list = path
        if path.is_file():
            lines = files.read_text(path, "list of left-out files").splitlines(True)
            self._listed |= dict.fromkeys(lines)
        for file, reason in self._left_out.items():
            self._write(file, reason)

    def _write(self, file: str, reason: str = "") -> None:
        line = json.dumps({"file": file, "reason": reason}) + "\n"
        if self._list is None or line in self._listed:
            return
        self._listed[line] = None
        with files.writing(self._list, "list of left-out files"):
            self._list.write_text("".join(self._listed))  # whole, as remote storage takes it

    def state(self) -> dict[str, Any]:
        """Returns where the next batch stands, as a small dict of JSON values."""
        return {"batch": self._batch, **self._identity}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Moves to `state`, at once; workers and processes may differ from the ones that saved it.

        Raises:
            ValueError: if `state` was saved with another source, seed, shuffle or batch size.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise InputError(
                    f"data state must have {key}={value!r} to continue this run, got "
                    f"{state.get(key)!r}; restore the old data settings or start a new run"
                )
        self.close()
        self._batch = int(state["batch"])

    def close(self) -> None:
        """Stops threads and workers; iterating again starts new ones."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None

    def _open(self) -> grain.DatasetIterator:
        records = self._records[self._rows.first(self._batch) :].to_iter_dataset(self._read)
        if self._workers.num_workers:
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()  # grain hands its flags to the workers
            records = records.mp_prefetch(self._workers)
        return iter(records)


def make_loader(
    source: sources.Source,
    *,
    global_batch: int | Sequence[int],
    seed: int,
    shuffle: bool = True,
    start_batch: int = 0,
    num_workers: int = 0,
    num_threads: int = 2,
    prefetch: int = 2,
    process_index: int | None = None,
    process_count: int | None = None,
    sharding: Sharding | None = None,
    transform: Transform | None = None,
) -> Loader:
    """Builds the loader of this process.

    Args:
        source: Random access to records.
        global_batch: Rows of a batch over all processes; for a source with buckets, of each.
        seed: Fixes the order and everything drawn.
        shuffle: Draw a new order each epoch; otherwise the source's own.
        start_batch: Number of the first batch.
        num_workers: Worker processes that read records; 0 reads in threads of this one. Workers
            are spawned (2-3 s) and import the main module, so a script needs its `__main__` guard.
        num_threads: Reading threads, in each worker if there are any.
        prefetch: Batches to hold ready.
        process_index: Which block of rows to read, of `process_count` equal ones in order;
            JAX's own by default.
        process_count: Number of blocks.
        sharding: Read the rows that `device_put(batch, sharding)` needs here instead; required
            where processes share rows or hold scattered ones.
        transform: Maps each record, with a generator keyed by seed and place.

    Raises:
        ValueError: for an empty source, or sizes that do not fit.
    """
    _require(len(source) > 0, "source must hold records, got none; point it at data")
    _require(
        isinstance(seed, int) and seed >= 0, f"seed must be a whole number from 0, got {seed!r}"
    )
    groups = source.groups if isinstance(source, buckets_lib.Grouped) else None
    batches = (global_batch,) if isinstance(global_batch, int) else tuple(global_batch)
    _require_at_least(1, global_batch=min(batches), prefetch=prefetch)
    _require_at_least(0, start_batch=start_batch, num_workers=num_workers, num_threads=num_threads)
    _require(
        sharding is None or (process_index is None and process_count is None),
        "rows must come from sharding or from process_index and process_count, got both; pass one",
    )
    rows = [
        _block(batch, process_index, process_count)
        if sharding is None
        else process_rows(sharding, batch)
        for batch in batches
    ]
    order_seed, record_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
    sizes = [len(group) for group in groups or (source,)]
    schedule = schedule_lib.make(sizes, batches, order_seed)
    places = schedule_lib.Rows(schedule, batches)
    own = schedule_lib.Rows(schedule, tuple(len(part) for part in rows))
    order = order_lib.make_order(len(source), groups, places, order_seed if shuffle else None)
    records = order.random_map(functools.partial(_read_record, source, transform), seed=record_seed)
    name = getattr(source, "name", str)
    read, workers = _read_ahead(prefetch * max(own.sizes), num_workers, num_threads)
    return Loader(
        order_lib.OwnRows(records, places, own, rows),
        {
            "seed": seed,
            "shuffle": shuffle,
            "global_batch": global_batch if isinstance(global_batch, int) else list(batches),
            "source": repr(source),
        },
        ids=lambda batch: [
            name(int(order[place])) for place in range(places.first(batch), places.first(batch + 1))
        ],
        rows=own,
        start_batch=start_batch,
        read=read,
        workers=workers,
        left_out=getattr(source, "left_out", {}),
    )


def _read_ahead(
    rows: int, num_workers: int, num_threads: int
) -> tuple[grain.ReadOptions, grain.MultiprocessingOptions]:
    """Returns how to hold so many rows ready."""
    buffer = num_threads if num_workers else max(num_threads, rows)
    read = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=buffer)
    workers = grain.MultiprocessingOptions(
        num_workers=num_workers, per_worker_buffer_size=max(1, -(-rows // max(num_workers, 1)))
    )
    return read, workers


def _read_record(
    source: sources.Source, transform: Transform | None, index: int, rng: np.random.Generator
) -> Record:
    record = source.read(index, rng) if hasattr(source, "read") else source[index]
    return record if transform is None else transform(record, rng)


def _block(global_batch: int, index: int | None, count: int | None) -> range:
    """Returns the rows of one of `count` equal blocks."""
    index = jax.process_index() if index is None else index
    count = jax.process_count() if count is None else count
    _require(
        count >= 1 and global_batch % count == 0,
        f"global_batch must be a multiple of the process count, got {global_batch} and {count}; "
        "change the batch size or pass a sharding",
    )
    _require(0 <= index < count, f"process_index must be from 0 to {count - 1}, got {index}")
    rows = global_batch // count
    return range(index * rows, (index + 1) * rows)


def stack(records: Sequence[Record]) -> Batch:
    """Joins records field by field: numbers and arrays of one shape stacked, all else listed."""
    batch = {}
    for key, first in records[0].items():
        values = [record[key] for record in records]
        if isinstance(first, np.ndarray | np.generic):
            same = all(value.shape == first.shape for value in values)
            batch[key] = np.stack(values) if same else values
        elif isinstance(first, bool | int | float):
            dtype = {bool: np.bool_, int: np.int32, float: np.float32}[type(first)]
            batch[key] = np.array(values, dtype)
        else:
            batch[key] = values
    return batch


def process_rows(
    sharding: Sharding, global_batch: int, process_index: int | None = None
) -> list[int]:
    """Returns, in order, the rows of a global batch that the devices of one process hold."""
    process_index = jax.process_index() if process_index is None else process_index
    places = sharding.devices_indices_map((global_batch,))
    rows = set()
    for device, (where,) in places.items():
        if device.process_index == process_index:
            rows.update(range(*where.indices(global_batch)))
    return sorted(rows)


def device_put(batch: T, sharding: Sharding) -> T:
    """Joins the rows of all processes into global arrays.

    Args:
        batch: Tree of arrays with this process's rows, in the order of a loader made with the same
            sharding.
        sharding: Sharding of the leading axis.
    """
    put = functools.partial(jax.make_array_from_process_local_data, sharding)
    return jax.tree.map(lambda rows: put(jax.device_get(rows)), batch)


def _require_at_least(least: int, **options: int) -> None:
    for name, value in options.items():
        _require(value >= least, f"{name} must be at least {least}, got {value}")


def _require(condition: bool, rule: str) -> None:
    if not condition:
        raise InputError(rule)
