# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the frozen networks of a run once over its training clips, for `data.features` to name.

Each record passes alone through `Encoder.encode_record`, as in training, so that features stored in
float32 equal those that training would compute, to the bit. Processes share the shards by claims in
the folder (`preparation.claims`), and take over those of a killed one.
"""

import contextlib
import dataclasses
import itertools
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mimir_jax import files, systems
from mimir_jax.config import TrainConfig
from mimir_jax.data import feature_store, sources
from mimir_jax.data import loader as loader_lib
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.preparation import claims as claims_lib
from mimir_jax.systems import base

SHARD_SIZE = 64
CLAIMS = ".claims"
"""Folder of the claims, in that of the features."""

_AT_ONCE = 8  # shards that a process claims together, whose clips are decoded ahead
_WAIT_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Result:
    """Result over all processes that JAX knows.

    Attributes:
        manifest: Manifest of the folder.
        made: Number of shards written.
        skipped: Clips of these that could not be decoded and were replaced by the next, by name.
    """

    manifest: feature_store.Manifest
    made: int
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
    """Writes the missing shards of the features of a run, together with other processes.

    It returns when no shard is missing, whoever wrote it.

    Args:
        config: The run.
        folder: Receives manifest and shards; may hold some of them.
        count: Records, from the first of the source; None takes all of them.
        dtype: Of the stored states and latents.
        shard_size: Records of a shard.
        process_index: Which of `process_count` processes this is, so that they begin with
            different shards. JAX's own by default, which then end together.
        process_count: Number of processes, which share nothing but the folder.
        report: Called with how many of the missing records are done and how many there are.

    Raises:
        InputError: for a system that encodes no clips, a folder of anything else, sizes that do not
            fit, or too little space.
    """
    index = jax.process_index() if process_index is None else process_index
    processes = jax.process_count() if process_count is None else process_count
    if not 0 <= index < processes:
        raise InputError(f"process must be within 0..{processes - 1}, got {index}; count from 0")
    plan = make_plan(config, folder, count=count, dtype=dtype, shard_size=shard_size)
    manifest = plan.manifest
    feature_store.claim(folder, manifest)
    with files.writing(folder, "--out"):
        (folder / CLAIMS).mkdir(exist_ok=True)
    writer = _Writer(plan, folder, report)
    first = len(plan.missing) * index // processes
    todo = [*plan.missing[first:], *plan.missing[:first]]
    while todo := writer.left(todo):
        size = min(_AT_ONCE, max(1, len(todo) // (4 * processes)))
        groups = [todo[k : k + size] for k in range(0, len(todo), size)]
        if not sum(map(writer.write, groups)):
            time.sleep(_WAIT_SECONDS)  # others work on what is left
    parts = [[writer.made, sorted(writer.skipped)]]
    if process_count is None:
        parts = distributed.gather(parts[0])
    made, names = zip(*parts, strict=True)
    return Result(manifest, sum(made), sorted({*itertools.chain(*names)}))


class _Writer:
    """Writes shards that no other process does.

    Attributes:
        made: Number of shards that it wrote.
        skipped: Clips of these that could not be decoded.
    """

    def __init__(self, plan: Plan, folder: pathlib.Path, report: Callable[[int, int], None]):
        self.made, self.skipped = 0, set()
        self._plan, self._folder, self._report = plan, folder, report
        self._claims = claims_lib.Claims(folder / CLAIMS)
        self._total = self._left = self._rows(plan.missing)

    def left(self, numbers: Sequence[int]) -> list[int]:
        """Returns which of the shards are missing."""
        present = self._plan.manifest.present(self._folder)
        numbers = [number for number in numbers if number not in present]
        self._left = self._rows(numbers)
        self._report(self._total - self._left, self._total)
        return numbers

    def write(self, numbers: Sequence[int]) -> int:
        """Writes those of the shards that are missing and free; returns how many these were."""
        manifest = self._plan.manifest
        with contextlib.ExitStack() as stack:
            mine = [
                number
                for number in numbers
                if stack.enter_context(self._claims.claim(str(number))) is not None
                and not (self._folder / manifest.shard(number)).exists()
            ]
            rows = [row for number in mine for row in manifest.shard_rows(number)]
            wanted = [row for row in rows if row < manifest.records]
            with _batches(self._plan.clips, wanted, self._plan.config) as batches:
                encoded = self._encode(rows, batches)
                for number in mine:
                    shard = itertools.islice(encoded, len(manifest.shard_rows(number)))
                    feature_store.write_shard(self._folder, manifest, number, shard)
                self.skipped |= {*(batches.skipped if wanted else ())}
        self.made += len(mine)
        return len(mine)

    def _encode(
        self, rows: Sequence[int], batches: Iterator[loader_lib.Batch]
    ) -> Iterator[feature_store.Record]:
        for row in rows:
            is_clip = row < self._plan.manifest.records
            yield _encode_record(self._plan.encoder, next(batches)) if is_clip else self._plan.empty
            self._left -= 1
            self._report(self._total - self._left, self._total)

    def _rows(self, numbers: Sequence[int]) -> int:
        return sum(len(self._plan.manifest.shard_rows(number)) for number in numbers)


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
