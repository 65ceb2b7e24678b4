# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The held-out loss of a run, by timestep band where its system has any."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from mimir_jax import files, systems, tables
from mimir_jax.errors import InputError
from mimir_jax.evaluation import checkpoints, results
from mimir_jax.evaluation.config import LossEvalConfig
from mimir_jax.parallel import context, distributed
from mimir_jax.systems import base
from mimir_jax.weights import runs


def evaluate(config: LossEvalConfig, mesh: Mesh | None = None) -> results.Report:
    """Measures the held-out loss and writes it.

    Args:
        config: Settings.
        mesh: Devices that model and batches are split over; None takes one.

    Raises:
        InputError: if there is no such run or checkpoint.
    """
    run, step = checkpoints.find_run(config), checkpoints.find_step(config)
    folder = checkpoints.find_folder(config, "loss", step)
    settings = {"suite": "loss", "checkpoint": str(run), "step": step}
    with results.open_results(folder, settings):
        losses = measure_loss(config, mesh)
    if not distributed.is_first():
        return results.Report("")
    files.write_json(folder / results.RESULTS, {**settings, "heldout": losses})
    text = format_table({checkpoints.make_title(config): losses})
    return results.Report(text, folder, (results.RESULTS,))


def measure_loss(config: LossEvalConfig, mesh: Mesh | None = None) -> dict[str, float]:
    """Evaluates a run as its training does: fixed clips, noise and timesteps.

    Returns:
        Held-out metrics by name, `loss` first.

    Raises:
        InputError: if there is no such run or checkpoint.
    """
    run = runs.read_config(checkpoints.find_run(config))
    system = base.for_inference(systems.make_system(run))
    encoder = systems.make_encoder(run, system, mesh)
    params = checkpoints.load_params(config, run, system.model, mesh)
    evaluators = systems.make_evaluators(run, system, encoder)
    with context.use_mesh(mesh):
        parts = [evaluator.evaluate(params) for evaluator in evaluators]
    return {name: float(value) for part in parts for name, value in part.items()}


def read_losses(content: Mapping[str, Any], folder: pathlib.Path) -> dict[str, float]:
    """Returns the held-out metrics in the content of a `results.json`.

    Raises:
        InputError: if it holds none, or one is no number.
    """
    losses = content.get("heldout")
    numbers = isinstance(losses, dict) and all(isinstance(x, float) for x in losses.values())
    if not losses or not numbers:
        raise InputError(
            f"results in {folder} must hold held-out losses, got {json.dumps(losses)[:40]}; delete "
            "the folder and evaluate again"
        )
    return losses


def format_table(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Formats losses: one row per metric, one column per run."""
    names: Sequence[str] = list(dict.fromkeys(name for run in runs.values() for name in run))
    rows = [["held-out", *runs]]
    for name in names:
        rows.append([name, *(f"{run[name]:.4f}" if name in run else "-" for run in runs.values())])
    return tables.align(rows)
