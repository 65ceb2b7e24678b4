# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cut the objects of captioned clips out of their frames, for subject-driven training.

For each clip below CLIPS, words of its caption that name single things are found, then the box and
the mask of each thing in three frames. OUT receives images of the things, transparent outside of
them; the middle frame with the things painted over; subjects.jsonl, which training reads; and
sheet.png, which shows the first clips.

The same command resumes a stopped one. Several commands can share one OUT.
"""

import collections
import time

from absl import flags
from rich import console as rich_console
from rich import progress as rich_progress

from mimir_jax import files
from mimir_jax.cli import command, dataclass_flags
from mimir_jax.errors import InputError
from mimir_jax.preparation.cutouts.config import CutoutsConfig

WORDS = "CLIPS OUT"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    dataclass_flags.define(values, CutoutsConfig, prefix="config.")


def main(args: command.Arguments) -> None:
    """Makes the cut-outs, and prints how many."""
    if len(args.words) != 2:
        raise InputError(f"{args.program} takes CLIPS and OUT, got {len(args.words)} words")
    from mimir_jax.preparation.cutouts import runner

    root, out = map(files.expand_path, args.words)
    config = dataclass_flags.read(args.flags, CutoutsConfig, prefix="config.")
    work = runner.Cutouts(root, out, config)
    start = time.monotonic()
    columns = [*rich_progress.Progress.get_default_columns(), rich_progress.MofNCompleteColumn()]
    with rich_progress.Progress(*columns, disable=not rich_console.Console().is_terminal) as bar:
        task = bar.add_task("cutting", total=len(work.videos))
        work.work(lambda: bar.advance(task))
    records = work.finish()
    made = [record for record in records if record["things"]]
    things = sum(len(record["things"]) for record in made)
    print(f"{things} things of {len(made)} clips in {time.monotonic() - start:.1f} s -> {out}")
    reasons = collections.Counter(record["reason"] for record in records if "reason" in record)
    for reason, count in reasons.most_common(10):
        print(f"{count:6d} clips without: {reason}")
    if not made:
        raise InputError(
            f"a clip must yield a subject, none of {len(records)} did; see the reasons above, and "
            "choose other plug-ins or thresholds, into another OUT"
        )
    print(f"look: {out / runner.SHEET}")
    print(f"train: --config.system.subjects_path={out}")
