# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From a run to a native weights folder that `weights.load` and `init_from` read."""

import pathlib

import jax

from mimir_jax import weights
from mimir_jax.config import TextToVideoConfig, TrainConfig, bridge
from mimir_jax.training import checkpoint


def read_config(workdir: pathlib.Path) -> TrainConfig:
    """Reads the config of a run.

    Raises:
        ValueError: if `workdir` holds no run.
    """
    path = workdir / checkpoint.CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"run folder must hold {checkpoint.CONFIG_FILE}, found none in {workdir}")
    return bridge.from_json(TrainConfig, path.read_text())


def export_run(workdir: pathlib.Path, target: pathlib.Path, *, dtype: str) -> tuple[str, int, int]:
    """Writes the newest parameters of a run, averaged where the run keeps an average.

    Args:
        workdir: The run.
        target: Folder to write; must not exist.
        dtype: Stored precision.

    Returns:
        The kind of model, its number of parameters, and the step.

    Raises:
        ValueError: if there is no run or checkpoint, or `target` exists.
    """
    config = read_config(workdir)
    task = config.task
    if isinstance(task, TextToVideoConfig):
        kind, network, tokenizer = "mimir", task.network, None
    else:
        kind, network = task.kind, task.model
        tokenizer = getattr(task, "tokenizer_path", None)
    params, step = checkpoint.read_params(workdir)
    files = {}
    if tokenizer is not None:
        folder = weights.resolve(tokenizer)
        files = {file.name: file.read_bytes() for file in sorted(folder.glob("tokenizer*"))}
    weights.save(target, kind, network, params, dtype=dtype, files=files)
    return kind, sum(x.size for x in jax.tree.leaves(params)), step
