# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading of runs: config, kept steps and parameters, also as weights.

WORKDIR/config.json            the config
WORKDIR/history.jsonl          events, among them the checksum of every config that was written
WORKDIR/checkpoints/STEP/      state, data position, config and checksums, by training.checkpoint
WORKDIR/checkpoints/STEP.damaged  one that has changed on disk, set aside
WORKDIR/weights/               in place of checkpoints in a released run: one step, to use alone
WORKDIR/clip_tokenizer/        beside them, such a network that the released run reads
WORKDIR/mimir/run.json         likewise in an exported one, see `weights.exported`
"""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from mimir_jax import checksums, files
from mimir_jax.config import LoraConfig, TrainConfig, bridge, flag
from mimir_jax.errors import InputError
from mimir_jax.models import lora
from mimir_jax.weights import native
from mimir_jax.weights.tensors import Tensor

CONFIG_FILE = "config.json"
HISTORY = "history.jsonl"
CHECKPOINTS = "checkpoints"
WEIGHTS = "weights"
SUMS = "sums"
PARTS = "mimir"
INSIDE = "./"
STEP_FILE = "run.json"
DAMAGED_REMEDY = "delete that folder to go on from the one before it"


def is_run_config(content: dict[str, Any]) -> bool:
    """Whether the JSON of a `config.json` is that of a run, of this version or an older one."""
    return "optimizer" in content and ("system" in content or "task" in content)


def read_config(workdir: pathlib.Path) -> TrainConfig:
    """Reads the config of a run.

    Raises:
        InputError: if `workdir` holds no run, or its config has changed since a start wrote it.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        raise InputError(f"run folder must hold {CONFIG_FILE}, found none in {workdir}")
    values = files.read_json(path, "run config")
    if not is_run_config(values):
        raise InputError(f"run folder must hold the config of a run, {path} is of something else")
    if (sums := config_sums(workdir)) and checksums.of_json(values) not in sums:
        raise InputError(
            f"run config {path} must be as a start wrote it, it has changed since; take that of a "
            f'checkpoint, {CHECKPOINTS}/STEP/config/metadata, or delete the lines "config" of '
            f"{HISTORY} if the change is meant"
        )
    config = bridge.from_values(TrainConfig, values)
    inside = {
        name: str(workdir / path)
        for name, path in _companions(config).items()
        if path.startswith(INSIDE)
    }
    return dataclasses.replace(config, system=dataclasses.replace(config.system, **inside))


def release(workdir: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """Writes the config of a run that is released to `folder`, without its store of features.

    Returns:
        The folders of the networks that it reads, by their place inside `folder`.

    Raises:
        InputError: if `workdir` holds no run.
    """
    config = read_config(workdir)
    found = _companions(config)
    inside = {name: f"{INSIDE}{name.removesuffix('_path')}" for name in found}
    system = dataclasses.replace(config.system, **inside)
    data = dataclasses.replace(config.data, features=None)
    text = bridge.to_json(dataclasses.replace(config, system=system, data=data))
    files.write_text(folder / CONFIG_FILE, text)
    return {inside[name].removeprefix(INSIDE): path for name, path in found.items()}


def _companions(config: TrainConfig) -> dict[str, str]:
    """Returns the folders that a released run takes along, by field; `package:` ones stay."""
    found = {name: getattr(config.system, name) for name in config.system.companions}
    return {n: p for n, p in found.items() if p is not None and not p.startswith("package:")}


def config_sums(workdir: pathlib.Path) -> set[str]:
    """Returns the checksums of the configs that starts of a run wrote; none for older runs."""
    path = workdir / HISTORY
    sums = set()
    with files.reading(path, "history"):
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):  # a line that a crash has torn
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "config":
                sums.add(event.get("sum"))
    return sums


def is_released(workdir: pathlib.Path) -> bool:
    """Whether the folder of a run holds weights alone, which cannot train on."""
    return (workdir / WEIGHTS / native.MANIFEST).is_file()


def steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps of the kept checkpoints of a run, oldest first."""
    if is_released(workdir):
        return [int(native.read_manifest(workdir / WEIGHTS)["step"])]
    if (exported := workdir / PARTS / STEP_FILE).is_file():
        step = files.read_json(exported, "step of a run").get("step")
        return [step] if isinstance(step, int) else []
    folders = (workdir / CHECKPOINTS).glob("*")
    return sorted(int(path.name) for path in folders if path.name.isdigit())


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether `workdir` holds a run with a complete checkpoint."""
    return (workdir / CONFIG_FILE).is_file() and bool(steps(workdir))


def latest_step(workdir: pathlib.Path) -> int:
    """Returns the step of the newest checkpoint of a run.

    Raises:
        InputError: if it has none.
    """
    kept = steps(workdir)
    if not kept:
        raise InputError(f"run {workdir} must have a checkpoint, found none; train it first")
    return kept[-1]


def open_params(workdir: pathlib.Path, step: int | None = None) -> native.Stored:
    """Opens parameters of a run as they train: the average where there is one.

    Args:
        workdir: The run.
        step: A kept step; None takes the newest.

    Raises:
        InputError: if the run has no such checkpoint.
    """
    newest = latest_step(workdir)
    if step is not None and step not in steps(workdir):
        listed = ", ".join(map(str, steps(workdir)))
        raise InputError(f"step must be a kept one of run {workdir} ({listed}), got {step}")
    if is_released(workdir):
        return native.open_params(workdir / WEIGHTS)
    folder = workdir / CHECKPOINTS / str(newest if step is None else step)
    return native.open_checkpoint(
        folder,
        item="state",
        parts=("ema", "params"),
        sums=read_sums(folder),
        remedy=DAMAGED_REMEDY,
    )


def read_sums(folder: pathlib.Path) -> dict[str, str]:
    """Returns the checksums of a checkpoint: of each array of its state, `data` and `config`.

    Raises:
        InputError: if they are absent or damaged.
    """
    with native.readable(folder, DAMAGED_REMEDY):
        content = files.read_json(folder / SUMS / "metadata", "its checksums")
        if checksums.of_json(content.get("sums")) != content.get("checksum"):
            raise InputError("its checksums are not what was written")
    return content["sums"]


def open_run(workdir: pathlib.Path, step: int | None = None) -> tuple[str, Any, native.Stored]:
    """Opens parameters of a run as weights of its network; the average where there is one.

    Adapters are merged into the kernels, which are then float32 like everything else.

    Args:
        workdir: The run.
        step: A kept step; None takes the newest.

    Returns:
        Kind and config of the network, and its parameters.

    Raises:
        InputError: if there is no run or no such checkpoint.
    """
    system = read_config(workdir).system
    stored = open_params(workdir, step)
    adapters = getattr(system, "lora", None)
    if adapters is not None and adapters.rank and not is_released(workdir):
        stored = _merged(stored, adapters)
    return system.network_kind, system.network, stored


def open_adapters(workdir: pathlib.Path) -> tuple[Any, native.Stored]:
    """Opens the newest parameters of a run with adapters, as they train.

    Returns:
        The section `system` of the run's config, and the parameters.

    Raises:
        InputError: if there is no run, checkpoint or adapter.
    """
    system = read_config(workdir).system
    adapters = getattr(system, "lora", None)
    if adapters is None or not adapters.rank or is_released(workdir):
        raise InputError(
            f"run {workdir} must have adapters to export, it trained without; train one with "
            f"{flag('system.lora.rank')}"
        )
    return system, open_params(workdir)


def tokenizer_path(workdir: pathlib.Path) -> str | None:
    """Returns the folder of the tokenizer of a text model's run, None for other runs."""
    return getattr(read_config(workdir).system, "tokenizer_path", None)


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
