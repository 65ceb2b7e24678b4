# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Compute latents and text features once, for training runs to read.

The frozen networks of a run are applied to its clips, and their outputs are written to --out. Any
run on the same clips and frozen networks trains from it with --config.data.features=FOLDER.
Finished shards are kept; the same command writes the others.

Processes that a scheduler starts share the shards and end together. Processes with --num_processes
and --process_id but without --coordinator share them through files: when one is killed, the others
take over its shards.
"""

import pathlib
import sys
import time
from typing import Any

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import command, host, shared_flags
from mimir_jax.errors import InputError

WORDS = ""
CONFIG = True


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("out", None, "Folder of features, new or to be completed.", values)
    flags.DEFINE_integer(
        "count", None, "Encode only this many clips, the first ones.", flag_values=values
    )
    flags.DEFINE_enum(
        "dtype", "float16", ["float16", "float32"], "Stored precision of states and latents.",
        values,
    )  # fmt: skip
    flags.DEFINE_integer("shard_size", 64, "Records per shard.", flag_values=values)
    text = "Check the run and the folder and encode the first clip; write nothing."
    flags.DEFINE_bool("dry_run", False, text, values)
    shared_flags.define_processes(values)


def main(args: command.Arguments) -> None:
    """Computes the features, and prints what was made."""
    if args.flags.out is None:
        raise InputError("--out must name the folder of features, got none")
    folder = files.expand_path(args.flags.out)
    host.prepare_host()
    if args.flags.dry_run:
        return _dry_run(args, folder)
    from mimir_jax.parallel import distributed

    place = shared_flags.processes(args.flags)
    index, count = place["process_id"], place["num_processes"]
    if place["coordinator"] is None and index is not None and count is not None:
        return _write(args, folder, index, count)
    with distributed.session(distributed.Launch(**place), args.shared()):
        return _write(args, folder)


def _dry_run(args: command.Arguments, folder: pathlib.Path) -> None:
    from mimir_jax.preparation import precompute

    plan = precompute.make_plan(args.config, folder, **_settings(args))
    manifest, start = plan.manifest, time.monotonic()
    print(
        f"{manifest.records} records in {manifest.num_shards} shards, {manifest.dtype}, of which "
        f"{len(plan.missing)} are missing in {folder} and take at least "
        f"{plan.least_bytes / 1e6:.1f} MB"
    )
    record = plan.encode_first()
    arrays = [
        f"{name} {'x'.join(map(str, value.shape))}"
        for name, value in record.items()
        if hasattr(value, "shape")
    ]
    print(f"first clip encoded in {time.monotonic() - start:.1f} s: {', '.join(arrays)}")


def _settings(args: command.Arguments) -> dict[str, Any]:
    return {name: args.flags[name].value for name in ("count", "dtype", "shard_size")}


def _write(
    args: command.Arguments,
    folder: pathlib.Path,
    index: int | None = None,
    count: int | None = None,
) -> None:
    from mimir_jax.parallel import distributed
    from mimir_jax.preparation import precompute

    console = rich_console.Console(quiet=not distributed.is_first() or bool(index))
    start = time.monotonic()
    with rich_progress.Progress(
        *rich_progress.Progress.get_default_columns(),
        rich_progress.MofNCompleteColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("encoding")
        try:
            result = precompute.write_features(
                args.config,
                folder,
                **_settings(args),
                process_index=index,
                process_count=count,
                report=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            sys.exit("stopped; finished shards are kept, and the same command makes the rest")
    for line in _conclusion(args, folder, result, time.monotonic() - start):
        console.print(line, highlight=False, soft_wrap=True)


def _conclusion(args: command.Arguments, folder: pathlib.Path, result, seconds: float) -> list[str]:
    """Returns the lines that end the command: what was made, and how to train from it."""
    manifest = result.manifest
    size = sum(file.stat().st_size for file in folder.glob("[!.]*.array_record")) / 1e6
    lines = [f"skipped (could not be decoded): {name}" for name in result.skipped]
    lines += [
        f"{result.made} shards made, {manifest.num_shards - result.made} were there or made by "
        f"others, in {seconds:.1f} s",
        f"{manifest.records} records in {manifest.num_shards} shards, {manifest.dtype}, "
        f"{size:.1f} MB -> {folder}",
    ]
    train = args.command(f"--config.data.features={folder}", verb="train")
    return [*lines, f"train: {train}"]
