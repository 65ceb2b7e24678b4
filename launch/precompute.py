# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Run the frozen networks of a text_to_video run once over its training clips:
`launch/precompute.py --config configs/mimir.py[:preset] --out FOLDER [--count N]`.

Latents and text features go to FOLDER, for any run on the same clips and frozen networks to train
from with --config.data.features=FOLDER. What is there stays; the same command makes the rest.

Processes that a scheduler starts share the shards; so do those told by --num_processes and
--process_id which they are, and these need not meet.
"""

import json
import pathlib
import sys
import time

from absl import flags
from ml_collections import config_flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import flags as flags_lib
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError

_PROCESSES = flags_lib.define_processes()
_CONFIG = config_flags.DEFINE_config_file("config", None, "File[:preset] of the run.")
_OUT = flags.DEFINE_string("out", None, "Folder of features; new, or to be completed.")
_COUNT = flags.DEFINE_integer("count", None, "Records, from the first clip. Default all.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float16", ["float16", "float32"], "Stored precision of states and latents."
)
_SHARD_SIZE = flags.DEFINE_integer("shard_size", 64, "Records of a shard.")


def main(argv) -> None:
    """Prepares, and says what was made."""
    del argv
    if _OUT.value is None:
        raise InputError("--out must name the folder of features, got none")
    config = bridge.from_config_dict(TrainConfig, _CONFIG.value)
    folder = files.expand_path(_OUT.value)

    flags_lib.prepare_host()
    from mimir_jax.parallel import distributed

    place = _PROCESSES()
    index, count = place["process_id"], place["num_processes"]
    if place["coordinator"] is None and index is not None and count is not None:
        return _prepare(config, folder, index, count)
    facts = {**flags_lib.shared(), "config": json.loads(bridge.to_json(config))}
    with distributed.session(distributed.Launch(**place), facts):
        return _prepare(config, folder)


def _prepare(
    config: TrainConfig, folder: pathlib.Path, index: int | None = None, count: int | None = None
) -> None:
    from mimir_jax.parallel import distributed
    from mimir_jax.preparation import precompute

    console = rich_console.Console(quiet=not distributed.is_first())
    print_line = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
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
                config,
                folder,
                count=_COUNT.value,
                dtype=_DTYPE.value,
                shard_size=_SHARD_SIZE.value,
                process_index=index,
                process_count=count,
                report=lambda done, total: bar.update(task, completed=done, total=total),
            )
        except KeyboardInterrupt:
            sys.exit("stopped; finished shards are kept, and the same command makes the rest")
    for name in result.skipped:
        print_line(f"skipped (could not be decoded): {name}")
    manifest = result.manifest
    size = sum(file.stat().st_size for file in folder.glob("*.array_record")) / 1e6
    print_line(
        f"{result.made} shards made, {result.found} were there, in {time.monotonic() - start:.1f} s"
    )
    print_line(
        f"{manifest.records} records in {manifest.num_shards} shards, {manifest.dtype}, "
        f"{size:.1f} MB -> {folder}"
    )
    if result.missing:
        print_line(f"{result.missing} shards of other processes are still missing")
        return
    path = config_flags.get_config_filename(flags.FLAGS["config"])
    command = f"python launch/train.py --config {path}{flags_lib.overrides()}"
    print_line(f"train: {command} --config.data.features={folder}")


if __name__ == "__main__":
    flags_lib.run(main, config="configs/mimir.py")
