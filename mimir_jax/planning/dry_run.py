# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Everything of a run up to its first step, told in lines; nothing is written."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from mimir_jax.config import TrainConfig
from mimir_jax.planning import memory
from mimir_jax.systems import base
from mimir_jax.training import setup as setup_lib


def dry_run(config: TrainConfig, workdir: pathlib.Path, say: Callable[[str], None]) -> None:
    """Checks a run as training would, reads and encodes its first batch and compiles its step.

    Args:
        config: The run.
        workdir: Where it would run.
        say: Called with each line: memory, data, batch, parameters, step.

    Raises:
        InputError: for anything that training would refuse.
    """
    start = time.monotonic()
    check = lambda system: say(str(memory.check(config, system, jax.devices())))  # noqa: E731
    setup = setup_lib.make_setup(config, workdir, check=check)
    records = len(setup.encoder.source("train"))
    say(f"data: {records} training records; held-out data is read")
    with contextlib.closing(setup.loader):
        then = time.monotonic()
        batch = setup.encoder.encode(next(setup.loader))
    say(f"first batch, read and encoded in {time.monotonic() - then:.1f} s: {_describe(batch)}")
    for name, times in sorted(setup.loader.skipped.items()):
        say(f"skipped (could not be decoded): {name} ({times}x)")
    say(_parameters(setup.system))
    if setup.compiling is None:
        say("this run has ended; raise --config.steps to go on")
        return
    flops = [setup.compiling.flops(number) for number in range(len(setup.system.buckets))]
    seconds = time.monotonic() - start
    mean = sum(flops) / len(flops)
    say(f"train step: {mean / 1e12:.3g} TFLOPs; all is ready after {seconds:.0f} s")
    for line in _describe_buckets(setup, flops):
        say(line)


def _describe_buckets(setup: setup_lib.Setup, flops: Sequence[int]) -> list[str]:
    """Returns a line per bucket of a run with several: batches in 100, clips, FLOPs, weight."""
    buckets, counts = setup.system.buckets, setup.loader.schedule.counts
    if len(buckets) == 1:
        return []
    return [
        f"bucket {bucket.name}: {100 * count / sum(counts):.0f} of 100 batches, {bucket.batch} "
        f"clips each, {number / 1e12:.3g} TFLOPs, weight {bucket.weight:.3g}"
        for bucket, count, number in zip(buckets, counts, flops, strict=True)
    ]


def _parameters(system: base.System) -> str:
    total = sum(x.size for x in jax.tree.leaves(system.model.abstract_params))
    frozen = sorted(system.frozen)
    return f"{total:,} parameters; frozen networks: {', '.join(frozen) or 'none'}"


def _describe(batch: Any) -> str:
    """Returns shape and dtype of each array of a batch, by its path."""
    return ", ".join(
        f"{jax.tree_util.keystr(path, simple=True, separator='.')} "
        f"{'x'.join(map(str, leaf.shape))} {leaf.dtype}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch)
    )
