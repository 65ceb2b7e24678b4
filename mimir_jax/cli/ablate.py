# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Run an ablation: train its rows on equal data, steps and noise, and judge them alike.

--cells names rows, or sets of them; the default is the first set. For mimir the sets are `paper`
(Table 3), `more` (combinations that it leaves out), `choices` (alternatives to our choices) and
`all`. For divot_llm they are `paper` (heads and queries), `heads`, `queries`, `more` and `all`; a
trained run of divot decodes its clips (system.clip_tokenizer_path). For vimi they are `all`,
`documents` and `routes` in the first stage, `all` and `tasks` in the second; the grounding suite
judges these runs. The same command resumes, also with more rows or seeds; several commands can
share the runs. The report is written at the end; --report writes it at any time, of the finished
runs.
"""

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command, host
from mimir_jax.errors import InputError

WORDS = ""
CONFIG = True


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("out", None, "Folder of the sweep, new or to be resumed.", values)
    flags.DEFINE_list("cells", None, "Rows to run, or sets of them.", flag_values=values)
    flags.DEFINE_integer("seeds", 3, "Seeds of each row, from 0.", flag_values=values)
    flags.DEFINE_integer(
        "scenes", 100, "Held-out scenes per wording or condition on which each run is judged.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("report", False, "Report on the finished runs; train nothing.", values)


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
            config, cells, range(values.seeds), out, lambda line: print(line, flush=True),
            demos=ablation.demos,
        )  # fmt: skip
    print(sweep_report.write_report(out, ablation))
    print(f"report: {out / 'report.md'}")
