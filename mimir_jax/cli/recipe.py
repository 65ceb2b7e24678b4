# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Retrain the miniature networks of a system, stage by stage.

The argument names the system. Each stage is one command, which is printed before it runs. The same
command resumes.
"""

import shlex

from absl import flags

from mimir_jax import files
from mimir_jax.cli import command
from mimir_jax.errors import InputError

WORDS = "SYSTEM"
CONFIG = False


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("out", None, "Folder of all stages, new or to be resumed.", values)
    flags.DEFINE_float(
        "scale", 1.0, "Factor on the steps and scenes of all stages.", flag_values=values
    )
    flags.DEFINE_float("minutes", None, "Save and stop after this time.", flag_values=values)
    flags.DEFINE_bool("show", False, "Print the commands; run nothing.", values)


def main(args: command.Arguments) -> None:
    """Runs the stages that are missing."""
    values = args.flags
    from mimir_jax.preparation import recipe
    from mimir_jax.systems import recipes

    if len(args.words) != 1:
        given = " ".join(args.words) or "nothing"
        raise InputError(f"{args.program} takes one of {', '.join(recipes.names())}, got {given}")
    stages = recipes.find_recipe(args.words[0])
    if values.out is None:
        raise InputError("--out must name the folder of the recipe, got none")
    for name in ("scale", "minutes"):
        if values[name].value is not None and not values[name].value > 0:
            raise InputError(f"--{name} must be above 0, got {values[name].value:g}")
    out = files.expand_path(values.out)
    if values.show:
        for stage in stages:
            print(f"mimir-jax {shlex.join(stage.words(str(out), values.scale))}")
        return
    left = recipe.run(
        stages,
        out,
        scale=values.scale,
        minutes=values.minutes,
        tell=lambda line: print(line, flush=True),
    )
    print(f"left: {', '.join(left)}; the same command goes on" if left else f"complete: {out}")
