# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Run an ablation: a table of runs on equal data, steps and noise, judged alike.

--cells names rows of the table, or sets of them. For mimir these are `paper` (Table 3), `more`
(cells that it leaves out), `choices` (the other side of open choices) and `all`. For divot_llm,
whose clips a trained run of divot draws (system.clip_tokenizer_path), they are `paper` (heads and
queries), `heads`, `queries`, `more` and `all`. The same command goes on after a stop, also with
more cells or seeds; several at once share the runs. The report is written at the end; --report
writes it at any time, of what is there.
"""

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command, host
from mimir_jax.errors import InputError

WORDS = ""
CONFIG = True


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("out", None, "Folder of the sweep; new, or to be completed.", values)
    flags.DEFINE_list("cells", ["paper"], "Rows to run, or sets of them.", flag_values=values)
    flags.DEFINE_integer("seeds", 3, "Seeds of each row, from 0.", flag_values=values)
    flags.DEFINE_integer(
        "scenes", 100, "Held-out scenes that each run is judged on, in every wording.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("report", False, "Write the report of what is there; run nothing.", values)


def main(args: command.Arguments) -> None:
    """Runs what the sweep lacks and prints its report."""
    values = args.flags
    if values.out is None:
        raise InputError("--out must name the folder of the sweep, got none")
    for name in ("seeds", "scenes"):
        if values[name].value < 1:
            raise InputError(f"--{name} must be at least 1, got {values[name].value}")
    out = files.expand_path(values.out)
    host.prepare_host()
    from mimir_jax.evaluation import sweep, sweep_report
    from mimir_jax.systems import ablations

    ablation = ablations.find_ablation(args.config.system)
    if not values.report:
        cells = ablation.select(values.cells)
        config = sweep.apply(args.config, {"judge.scenes": values.scenes})
        sweep.run_sweep(
            config, cells, range(values.seeds), out, lambda line: print(line, flush=True)
        )
    print(sweep_report.write_report(out, ablation))
    print(f"report: {out / 'report.md'}")
