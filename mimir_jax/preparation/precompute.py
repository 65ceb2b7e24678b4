# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the frozen networks of a run once over its training clips, for `data.features` to name.

Each record passes alone through `Encoder.encode_record`, as in training, so that features stored in
float32 equal those that training would compute, to the bit.
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

from mimir_jax import systems
from mimir_jax.config import TrainConfig
from mimir_jax.data import feature_store, sources
from mimir_jax.data import loader as loader_lib
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.systems import base

SHARD_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Result:
    """Result over all processes that JAX knows.

    Attributes:
        manifest: Manifest of the folder.
        made: Number of shards written.
        found: Number of shards of these processes that existed before.
        missing: Number of shards that other processes have yet to write.
        skipped: Clips that could not be decoded and were replaced by the next, by name.
    """

    manifest: feature_store.Manifest
    made: int
    found: int
    missing: int
    skipped: list[str]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Features that are to be written.

    Attributes:
        config: The run, which trains on them.
        encoder: Runs its frozen networks.
        clips: The training clips.
        empty: Record of the empty caption; None if training reads none.
        manifest: Manifest of the folder.
        missing: Numbers of the shards that the folder lacks.
        least_bytes: Size of their parts that have a fixed size.
    """

    config: TrainConfig
    encoder: base.StoringEncoder
    clips: sources.Source
    empty: feature_store.Record | None
    manifest: feature_store.Manifest
    missing: Sequence[int]
    least_bytes: int

    def encode_first(self) -> feature_store.Record:
        """Returns the record of the first clip."""
        with _batches(self.clips, [0], self.config) as batches:
            return _encode_record(self.encoder, next(batches))


def make_plan(
    config: TrainConfig,
    folder: pathlib.Path,
    *,
    count: int | None = None,
    dtype: str = "float16",
    shard_size: int = SHARD_SIZE,
) -> Plan:
    """Checks what `write_features` needs and returns what it would write; writes nothing.

    Arguments and errors are those of `write_features`.
    """
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    if not isinstance(encoder, base.StoringEncoder):
        raise InputError(
            "system must encode clips with frozen networks to precompute features, got system.kind "
            f"{config.system.kind!r}; choose another --config"
        )
    # Checks that the run can train on stored features.
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, features=str(folder))
    )
    clips = encoder.clips()
    records = len(clips) if count is None else count
    if not 1 <= records <= len(clips):
        raise InputError(
            f"--count must be within 1..{len(clips)}, the clips of the source, got {records}"
        )
    empty = encoder.empty_record()
    manifest = feature_store.Manifest(
        encoder.identity(), records, empty is not None, shard_size, dtype
    )
    feature_store.require_claimable(folder, manifest)
    left = manifest.num_shards - len(manifest.present(folder))
    rows = min(left * shard_size, manifest.rows)
    needed = rows * encoder.least_record_size() * np.dtype(dtype).itemsize
    _check_space(folder, rows, needed)  # before shards are listed, which may be too many
    missing = manifest.missing(folder)
    return Plan(config, encoder, clips, empty, manifest, missing, needed)


def write_features(
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
        InputError: for a system that encodes no clips, a folder of anything else, sizes that do not
            fit, or too little space.
    """
    index = jax.process_index() if process_index is None else process_index
    processes = jax.process_count() if process_count is None else process_count
    if not 0 <= index < processes:
        raise InputError(f"process must be within 0..{processes - 1}, got {index}; count from 0")
    plan = make_plan(config, folder, count=count, dtype=dtype, shard_size=shard_size)
    encoder, manifest, records = plan.encoder, plan.manifest, plan.manifest.records
    numbers = [number for number in plan.missing if number % processes == index]
    rows = [row for number in numbers for row in manifest.shard_rows(number)]
    feature_store.claim(folder, manifest)

    wanted = [row for row in rows if row < records]
    with _batches(plan.clips, wanted, plan.config) as batches:

        def encode() -> Iterator[feature_store.Record]:
            for done, row in enumerate(rows):
                report(done, len(rows))
                yield _encode_record(encoder, next(batches)) if row < records else plan.empty

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


class _Subset:
    """Records of a source by a list of indices."""

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
    """Yields an iterator over the wanted records in order, one per batch, decoded ahead."""
    if not wanted:
        yield iter(())
        return
    batches = loader_lib.make_loader(
        _Subset(clips, wanted),
        global_batch=1,
        seed=config.seed,
        shuffle=False,
        num_workers=config.data.num_workers,
        process_index=0,
        process_count=1,
    )
    with contextlib.closing(batches):
        yield batches


def _encode_record(encoder: base.StoringEncoder, batch: loader_lib.Batch) -> feature_store.Record:
    record = encoder.encode_record(batch)
    return {**record, "index": int(batch["index"][0]), "skipped": batch.get("skipped", [])}


def _check_space(folder: pathlib.Path, rows: int, needed: int) -> None:
    """Raises `InputError` if not even the parts of fixed size fit the disk."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"features of {rows} records take at least {needed / 1e9:.1f} GB, {existing} has "
            f"{free / 1e9:.1f} GB; pass --count or another --out"
        )
