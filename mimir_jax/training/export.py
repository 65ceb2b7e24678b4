# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run holds, opened as weights."""

import pathlib
from typing import Any

from mimir_jax.config import TextToVideoConfig, TrainConfig, bridge
from mimir_jax.training import checkpoint
from mimir_jax.weights import native


def read_config(workdir: pathlib.Path) -> TrainConfig:
    """Reads the config of a run.

    Raises:
        ValueError: if `workdir` holds no run.
    """
    path = workdir / checkpoint.CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"run folder must hold {checkpoint.CONFIG_FILE}, found none in {workdir}")
    return bridge.from_json(TrainConfig, path.read_text())


def open_run(workdir: pathlib.Path) -> tuple[str, Any, native.Stored]:
    """Opens the newest parameters of a run, averaged where the run keeps an average.

    Returns:
        Kind and config of the network, and its parameters.

    Raises:
        ValueError: if there is no run or checkpoint.
    """
    task = read_config(workdir).task
    if isinstance(task, TextToVideoConfig):
        kind, network = "mimir", task.network
    else:
        kind, network = task.kind, task.model
    return kind, network, checkpoint.open_params(workdir)


def tokenizer_path(workdir: pathlib.Path) -> str | None:
    """Returns where the tokenizer of a text model's run lies, None for other runs."""
    return getattr(read_config(workdir).task, "tokenizer_path", None)
