# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Turn raw videos into clean clips with captions, ready to train on.

Videos below RAW are cut into shots. Clips that fail a rule are dropped: length, size, aspect and
rate; black areas, brightness, blur, still or jittering footage; aesthetics; overlaid text;
duplicates. The others are captioned and written to OUT/clips. OUT/report.html shows what each step
kept and dropped.

The same command resumes a stopped one. Commands on many machines can share one OUT, started by a
scheduler or by hand, and take over the work of killed ones.
"""

import os
import time
from typing import Any

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import command, dataclass_flags, shared_flags
from mimir_jax.errors import InputError
from mimir_jax.preparation.footage.config import FootageConfig

WORDS = "RAW OUT"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    text = "Processes of this command; by default one per core."
    flags.DEFINE_integer("workers", None, text, lower_bound=1, flag_values=values)
    flags.DEFINE_string("explain", None, "Print the decisions for this clip or raw video.", values)
    text = "Also pack the clips into ArrayRecord files of this size, OUT/shards."
    flags.DEFINE_integer("shard_megabytes", None, text, lower_bound=1, flag_values=values)
    text = "Run as an Apache Beam pipeline with these options, such as --runner=SparkRunner."
    flags.DEFINE_string("beam_options", None, text, values)
    shared_flags.define_place(values)
    dataclass_flags.define(values, FootageConfig, prefix="config.")


def main(args: command.Arguments) -> None:
    """Prepares the clips, and prints what was kept."""
    if len(args.words) != 2:
        raise InputError(f"{args.program} takes RAW and OUT, got {len(args.words)} words")
    from mimir_jax.parallel import distributed
    from mimir_jax.preparation.footage import report, runner, store

    root, out = map(files.expand_path, args.words)
    if args.flags.explain is not None:
        print("\n".join(report.explain(store.Store(out), args.flags.explain)))
        return
    config = dataclass_flags.read(args.flags, FootageConfig, prefix="config.")
    place = distributed.place(args.flags.process_id, args.flags.num_processes)
    preparation = runner.Preparation(root, out, config)
    start = time.monotonic()
    _work(preparation, args.flags, place)
    lines = preparation.finish()
    report.write(preparation.store, lines)
    kept = sum(line["dropped_by"] is None for line in lines)
    if place[0] == 0:
        for row in report.funnel(lines):
            print(f"{row.step:>10}  {row.kept:6d} kept  {row.dropped:6d} dropped")
        print(f"{kept} clips in {time.monotonic() - start:.1f} s -> {out / 'clips'}")
        print(f"look: {out / 'report.html'}")
    if not kept:
        step = report.last_step(lines)
        raise InputError(
            f"a clip must pass every step, all {len(lines)} were dropped, the last by {step}; see "
            f"{out / 'report.html'}, and loosen a rule into another OUT"
        )
    kind, path = "folder", preparation.store.clips
    if args.flags.shard_megabytes is not None:
        count = preparation.pack(lines, args.flags.shard_megabytes * 1_000_000)
        kind, path = "shards", preparation.store.shards
        if place[0] == 0:
            print(f"{count} shards -> {path}")
    train = args.program.other("train")
    if place[0] == 0:
        print(f"train: {train} --config.data.source={kind} --config.data.{kind}.path={path}")


def _work(preparation: Any, values: flags.FlagValues, place: tuple[int, int]) -> None:
    """Works with a bar for each of the two steps that take time."""
    from mimir_jax.preparation.footage import beam, processes, store

    console = rich_console.Console()
    with rich_progress.Progress(
        *rich_progress.Progress.get_default_columns(),
        rich_progress.MofNCompleteColumn(),
        console=console,
        disable=place[0] > 0 or not console.is_terminal,
    ) as bar:
        count = len(preparation.videos)
        tasks = {
            store.MEASURED: bar.add_task("measuring", total=count),
            store.EXPORTED: bar.add_task("writing", total=count),
        }
        what = preparation.root, preparation.store.folder, preparation.config

        def report(step: str, video: str) -> None:
            bar.advance(tasks[step])

        if values.beam_options is not None:
            beam.run(*what, report, values.beam_options)
        else:
            workers = values.workers or len(os.sched_getaffinity(0))
            processes.run(*what, min(workers, count), report, place)
