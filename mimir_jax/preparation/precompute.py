# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Writes what a run's frozen networks make of its training clips, for `data.features` to name.

Every record goes through `TextToVideoTask.prepare` alone, as in training, so that what is stored in
float32 is what training would have computed, to the bit.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mimir_jax.config import DiffusionSystemConfig, TrainConfig
from mimir_jax.data import feature_store, sources
from mimir_jax.data import loader as loader_lib
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.training.tasks import text_to_video

SHARD_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Result:
    """What was done, by all processes that JAX knows.

    Attributes:
        manifest: Of the folder.
        made: Shards that were written.
        found: Shards of these processes that were there.
        missing: Shards that others have yet to write.
        skipped: Clips that could not be decoded and were replaced by the next, by name.
    """

    manifest: feature_store.Manifest
    made: int
    found: int
    missing: int
    skipped: list[str]


def prepare(
    config: TrainConfig,
    folder: pathlib.Path,
    *,
    count: int | None = None,
    dtype: str = "float16",
    shard_size: int = SHARD_SIZE,
    process_index: int | None = None,
    process_count: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Writes this process's missing shards of the features of a run.

    Args:
        config: The run.
        folder: Receives manifest and shards; may hold some of them.
        count: Records, from the first of the source; None takes all of them.
        dtype: Of the stored states and latents.
        shard_size: Records of a shard.
        process_index: Which of `process_count` processes this is; each writes every
            `process_count`-th shard. JAX's own by default, which then end together.
        process_count: Number of processes, which share nothing but the folder.
        report: Called with how many records of this call are done and how many there are.

    Raises:
        ValueError: for a task without frozen networks, a folder of anything else, sizes that do not
            fit, or too little space.
    """
    index = jax.process_index() if process_index is None else process_index
    processes = jax.process_count() if process_count is None else process_count
    if not 0 <= index < processes:
        raise InputError(f"process must be within 0..{processes - 1}, got {index}; count from 0")
    if not isinstance(config.system, DiffusionSystemConfig):
        raise InputError(
            "system.kind must be of a text-to-video system to prepare features, got "
            f"{config.system.kind!r}; choose another --config"
        )
    data = dataclasses.replace(config.data, features=str(folder))
    config = dataclasses.replace(config, data=data)
    task = text_to_video.TextToVideoTask(config)
    clips = task.clips()
    records = len(clips) if count is None else count
    if not 1 <= records <= len(clips):
        raise InputError(
            f"--count must be within 1..{len(clips)}, the clips of the source, got {records}"
        )
    empty = config.system.text.null == "empty"
    manifest = feature_store.Manifest(task.feature_content(), records, empty, shard_size, dtype)
    left = manifest.num_shards - len(manifest.present(folder))
    _check_space(config, folder, min(left * shard_size, manifest.rows), np.dtype(dtype))
    numbers = [n for n in manifest.missing(folder) if n % processes == index]
    rows = [row for n in numbers for row in manifest.shard_rows(n)]
    feature_store.claim(folder, manifest)

    wanted = [row for row in rows if row < records]
    with _batches(clips, wanted, config) as batches:

        def encode() -> Iterator[feature_store.Record]:
            for done, row in enumerate(rows):
                report(done, len(rows))
                yield _record(task, next(batches)) if row < records else _empty(task)

        encoded = encode()
        for number in numbers:
            shard = itertools.islice(encoded, len(manifest.shard_rows(number)))
            feature_store.write_shard(folder, manifest, number, shard)
        report(len(rows), len(rows))
        skipped = sorted(batches.skipped) if wanted else []
    own = len(range(index, manifest.num_shards, processes))
    parts = [[len(numbers), own - len(numbers), skipped]]
    if process_count is None:
        parts = distributed.gather(parts[0])
    made, found, names = zip(*parts, strict=True)
    missing = manifest.num_shards - len(manifest.present(folder))
    return Result(manifest, sum(made), sum(found), missing, sorted({*itertools.chain(*names)}))


class _Some:
    """Some records of a source, in an order of their own."""

    def __init__(self, source: sources.Source, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[self._indices[index]]


@contextlib.contextmanager
def _batches(
    clips: sources.Source, wanted: Sequence[int], config: TrainConfig
) -> Iterator[Iterator[loader_lib.Batch]]:
    """Gives the wanted records in order, each a batch of its own, decoded ahead."""
    if not wanted:
        yield iter(())
        return
    batches = loader_lib.make_loader(
        _Some(clips, wanted),
        global_batch=1,
        seed=config.seed,
        shuffle=False,
        num_workers=config.data.num_workers,
        process_index=0,
        process_count=1,
    )
    with contextlib.closing(batches):
        yield batches


def _record(task: text_to_video.TextToVideoTask, batch: loader_lib.Batch) -> feature_store.Record:
    out = task.prepare(batch)
    arrays = {"mean": out["mean"], "logvar": out["logvar"], **out["text"]}
    record = {name: np.asarray(value)[0] for name, value in arrays.items()}
    return {**record, "index": int(batch["index"][0]), "skipped": batch.get("skipped", [])}


def _empty(task: text_to_video.TextToVideoTask) -> feature_store.Record:
    return {name: np.asarray(value)[0] for name, value in task.text.encode([""]).items()}


def _check_space(config: TrainConfig, folder: pathlib.Path, rows: int, dtype: np.dtype) -> None:
    """Raises `ValueError` where not even what has a fixed size fits the disk."""
    batch = text_to_video.batch_spec(config)
    fixed = (batch["mean"], batch["logvar"], batch["text"]["t5"])
    row = sum(spec.size for spec in fixed) // config.batch_size
    needed = rows * row * dtype.itemsize
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputError(
            f"features of {rows} records take at least {needed / 1e9:.1f} GB, {place} has "
            f"{free / 1e9:.1f} GB; pass --count or another --out"
        )
