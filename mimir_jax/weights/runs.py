# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run holds, opened as weights."""

import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mimir_jax import files
from mimir_jax.config import DiffusionSystemConfig, LoraConfig, TrainConfig, bridge, flag
from mimir_jax.errors import InputError
from mimir_jax.models import lora
from mimir_jax.training import checkpoint
from mimir_jax.weights import native
from mimir_jax.weights.tensors import Tensor


def read_config(workdir: pathlib.Path) -> TrainConfig:
    """Reads the config of a run.

    Raises:
        ValueError: if `workdir` holds no run.
    """
    path = workdir / checkpoint.CONFIG_FILE
    if not path.is_file():
        raise InputError(f"run folder must hold {checkpoint.CONFIG_FILE}, found none in {workdir}")
    values = files.read_json(path, "run config")
    if not {"system", "task"} & set(values):
        raise InputError(f"run folder must hold the config of a run, {path} is of something else")
    return bridge.from_values(TrainConfig, values)


def open_run(workdir: pathlib.Path) -> tuple[str, Any, native.Stored]:
    """Opens the newest parameters of a run, averaged where the run keeps an average.

    Adapters are merged into the kernels, which are then float32 like everything else.

    Returns:
        Kind and config of the network, and its parameters.

    Raises:
        ValueError: if there is no run or checkpoint.
    """
    task = read_config(workdir).system
    stored = checkpoint.open_params(workdir)
    if not isinstance(task, DiffusionSystemConfig):
        return task.kind, task.model, stored
    if task.lora.rank:
        stored = _merged(stored, task.lora)
    return "mimir", task.network, stored


def open_adapters(workdir: pathlib.Path) -> tuple[DiffusionSystemConfig, native.Stored]:
    """Opens the newest parameters of a run with adapters, as they train.

    Raises:
        ValueError: if there is no run, checkpoint or adapter.
    """
    task = read_config(workdir).system
    if not isinstance(task, DiffusionSystemConfig) or not task.lora.rank:
        raise InputError(
            f"run {workdir} must have adapters to export, it trained without; train one with "
            f"{flag('system.lora.rank')}"
        )
    return task, checkpoint.open_params(workdir)


def _merged(stored: native.Stored, config: LoraConfig) -> native.Stored:
    adapted = set(lora.targets(stored.tensors))

    def value(name: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
        if name not in adapted:
            return read(name).astype(np.float32, copy=False)
        a, b = lora.factor_paths(name)
        return lora.merged(read(name), read(a), read(b), config)

    def read_all() -> dict[str, np.ndarray]:
        values = stored.read_all()
        return {name: value(name, values.__getitem__) for name in names}

    names = [name for name in stored.tensors if not name.startswith(f"{lora.NAME}/")]
    read = lambda name: stored.tensors[name].read()  # noqa: E731
    tensors = {
        name: Tensor(stored.tensors[name].shape, np.dtype(np.float32), partial(value, name, read))
        for name in names
    }
    return native.Stored(tensors, read_all)


def tokenizer_path(workdir: pathlib.Path) -> str | None:
    """Returns where the tokenizer of a text model's run lies, None for other runs."""
    return getattr(read_config(workdir).system, "tokenizer_path", None)
