# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The held-out loss of a run, by timestep band where it has any."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from mimir_jax import systems, tables, weights
from mimir_jax.errors import InputError
from mimir_jax.parallel import context
from mimir_jax.systems import base
from mimir_jax.weights import initialization
from mimir_jax.weights import runs as runs_lib


def run(
    workdir: pathlib.Path, *, start: bool = False, mesh: Mesh | None = None
) -> dict[str, float]:
    """Evaluates a run as its training does: fixed clips, noise and timesteps.

    Args:
        workdir: Any run of launch/train.py.
        start: Evaluate what the run started from, in place of its newest checkpoint.
        mesh: Devices that model and batches are split over; None stands for one.

    Returns:
        Held-out metrics by name, `loss` first.

    Raises:
        ValueError: if `workdir` holds no run.
    """
    config = runs_lib.read_config(workdir)
    system = base.with_available_kernels(systems.make_system(config))
    encoder = systems.make_encoder(config, system, mesh)
    params = (
        initialization.start_of(config, system.model, mesh)
        if start
        else weights.load_run(workdir, system.model, mesh=mesh)
    )
    evaluators = systems.make_evaluators(config, system, encoder)
    with context.use_mesh(mesh):
        parts = [evaluator.evaluate(params) for evaluator in evaluators]
    return {name: float(value) for part in parts for name, value in part.items()}


def read(results: Mapping[str, Any], place: pathlib.Path) -> dict[str, float]:
    """Returns the held-out metrics of a results.json.

    Raises:
        ValueError: if it holds none, or one is no number.
    """
    losses = results.get("heldout")
    numbers = isinstance(losses, dict) and all(isinstance(x, float) for x in losses.values())
    if not losses or not numbers:
        raise InputError(
            f"results in {place} must hold held-out losses, got {json.dumps(losses)[:40]}; delete "
            "the folder and evaluate again"
        )
    return losses


def text(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Lays out losses: a row a metric, a column a run."""
    names: Sequence[str] = list(dict.fromkeys(name for run in runs.values() for name in run))
    rows = [["held-out", *runs]]
    for name in names:
        rows.append([name, *(f"{run[name]:.4f}" if name in run else "-" for run in runs.values())])
    return tables.align(rows)
