# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Recipes that retrain the miniatures; a system defines its own as data in `recipe.py`.

A recipe is a list of stages, each one command of the command line.
"""

import dataclasses
import importlib

from mimir_jax.config import registry
from mimir_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of a recipe.

    Attributes:
        name: Output folder, inside that of the recipe.
        command: Verb and arguments. `{out}` stands for the folder of the recipe.
        into: Flag that names the output folder, empty for a positional argument.
        scaled: Flags with counts that `--scale` multiplies, and their values.
    """

    name: str
    command: tuple[str, ...]
    into: str = "--workdir="
    scaled: tuple[tuple[str, int], ...] = ()

    def words(self, out: str, scale: float) -> list[str]:
        """Returns the command for a folder, its counts multiplied by `scale` but at least 8."""
        counts = [f"--{name}={max(round(scale * value), 8)}" for name, value in self.scaled]
        words = [word.replace("{out}", out) for word in self.command]
        return [*words, f"{self.into}{out}/{self.name}", *counts]


def export(name: str, run: str, *, to: str = "native") -> Stage:
    """Returns the stage that writes a run of the recipe as weights in float16."""
    kind = () if to == "native" else ("--to", to)
    command = ("convert", f"{{out}}/{run}", "--dtype", "float16", *kind)
    return Stage(name=name, command=command, into="")


def prepare(name: str, config: str, scenes: int, *flags: str) -> Stage:
    """Returns the stage that runs the frozen networks of a config once over its scenes."""
    count = (("config.data.toyworld.num_scenes", scenes),)
    return Stage(
        name=name, command=("precompute", "--config", config, *flags), into="--out=", scaled=count
    )


def train(name: str, config: str, steps: int, *flags: str, scenes: int = 0) -> Stage:
    """Returns the stage that trains a config; 0 scenes leaves their number to the config."""
    scaled = [("config.steps", steps)]
    if scenes:
        scaled.append(("config.data.toyworld.num_scenes", scenes))
    return Stage(name=name, command=("train", "--config", config, *flags), scaled=tuple(scaled))


def find_recipe(name: str) -> tuple[Stage, ...]:
    """Returns the stages of the system in folder `name`.

    Raises:
        InputError: for a folder that does not exist or has no recipe.
    """
    known = names()
    if name not in known:
        raise InputError(f"the recipe must be one of {', '.join(known)}, got {name!r}")
    return importlib.import_module(f"mimir_jax.systems.{name}.recipe").STAGES


def names() -> list[str]:
    """Returns the systems that have a recipe."""
    return registry.folders("recipe")
