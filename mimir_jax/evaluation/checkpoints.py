# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that a suite evaluates: run, step, parameters and folder of results."""

import pathlib

from jax.sharding import Mesh

from mimir_jax import files, weights
from mimir_jax.config import TrainConfig
from mimir_jax.errors import InputError
from mimir_jax.evaluation import results
from mimir_jax.evaluation.config import CheckpointConfig
from mimir_jax.models import functional
from mimir_jax.weights import initialization, runs


def find_run(config: CheckpointConfig) -> pathlib.Path:
    """Returns the folder of the run or pipeline."""
    return weights.resolve(config.checkpoint)


def find_step(config: CheckpointConfig) -> int:
    """Returns the step that is evaluated, 0 for the start of a run.

    Raises:
        InputError: if there is no such checkpoint.
    """
    if config.start:
        return 0
    run, step = find_run(config), config.step
    newest = runs.latest_step(run)
    if step is not None and step not in (kept := runs.steps(run)):
        listed = ", ".join(map(str, kept))
        raise InputError(f"--step must be a kept step of {run}, one of {listed}, got {step}")
    return newest if step is None else step


def load_params(
    config: CheckpointConfig,
    run: TrainConfig,
    model: functional.Model,
    mesh: Mesh | None = None,
) -> functional.Params:
    """Loads the parameters of a run at the step that is evaluated.

    Args:
        config: Names the checkpoint.
        run: Config of the run.
        model: Its network.
        mesh: Devices that the parameters are split over; None takes one.
    """
    if config.start:
        return initialization.start_of(run, model, mesh)
    return weights.load_run(find_run(config), model, step=config.step, mesh=mesh)


def find_folder(config: CheckpointConfig, suite: str, step: int | None) -> pathlib.Path:
    """Returns the folder of results; `step` is None for a pipeline."""
    if config.out is not None:
        return files.expand_path(config.out)
    run, package = find_run(config), "package:"
    if config.checkpoint.startswith(package):  # which is not the place for results
        run = pathlib.Path("runs") / config.checkpoint.removeprefix(package).replace("/", "-")
    return results.default_folder(run, suite, step, start=config.start)


def make_title(config: CheckpointConfig) -> str:
    """Returns a name of what is evaluated, for tables and plots."""
    name = find_run(config).name
    return f"{name}, start" if config.start else name


def training_variety(config: CheckpointConfig) -> str:
    """Returns the variety of the Toyworld scenes of a run's training, `varied` for a pipeline."""
    run = find_run(config)
    return runs.read_config(run).data.toyworld.variety if runs.has_checkpoint(run) else "varied"
