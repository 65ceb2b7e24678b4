# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A Mimir in the layout that it is exported in.

transformer/    the DiT, which diffusers opens
mimir/          model.safetensors: fuser and stabilizer; config.json: theirs;
                run.json: what the config of diffusers does not say of the DiT, and the step
config.json     the config of that run, so that the folder samples and starts runs as it did
"""

import dataclasses
import pathlib
import shutil
from typing import Any

from mimir_jax import files
from mimir_jax.config import DiTConfig, MimirConfig, bridge
from mimir_jax.errors import InputError, listed
from mimir_jax.weights import runs, tensors

TRANSFORMER = "transformer"
STEM = "model"
"""Name, without suffix, of the file of fuser and stabilizer."""


def is_exported(folder: pathlib.Path) -> bool:
    """Whether `folder` holds a whole exported Mimir."""
    home = folder / runs.PARTS / runs.CONFIG_FILE
    return (folder / TRANSFORMER).is_dir() and home.is_file()


def write_config(folder: pathlib.Path, config: MimirConfig, source: pathlib.Path) -> None:
    """Writes the configs of a Mimir from the run or folder `source`, which may have none of a run.

    Args:
        folder: Destination, with a folder `mimir` in it.
        config: The network.
        source: What is exported.
    """
    parts, values = folder / runs.PARTS, dataclasses.asdict(config)
    more: dict[str, Any] = {"dit": values.pop("dit")}
    if (source / runs.CONFIG_FILE).is_file() and runs.steps(source):
        shutil.copyfile(source / runs.CONFIG_FILE, folder / runs.CONFIG_FILE)
        more["step"] = runs.latest_step(source)
    files.write_json(parts / runs.CONFIG_FILE, values)
    files.write_json(parts / runs.STEP_FILE, more)


def read_config(folder: pathlib.Path, transformer: DiTConfig) -> MimirConfig:
    """Returns the network; one that was exported without its DiT takes that of `transformer`."""
    parts = folder / runs.PARTS
    values = files.read_json(parts / runs.CONFIG_FILE, "config")
    more = parts / runs.STEP_FILE
    more = files.read_json(more, "config") if more.is_file() else {}
    values["dit"] = more.get("dit", dataclasses.asdict(transformer))
    return bridge.from_values(MimirConfig, values)


def read_params(
    folder: pathlib.Path, inner: tensors.Tensors, abstract: dict[str, Any]
) -> tensors.Tensors:
    """Returns all parameters.

    Args:
        folder: The exported Mimir.
        inner: Parameters of the DiT.
        abstract: Shape of every parameter.

    Raises:
        InputError: if they are not those of the network.
    """
    found = {f"dit/{name}": tensor for name, tensor in inner.items()}
    for name, tensor in read_parts(folder).items():
        found[name] = tensor
    shapes = {name: tuple(x.shape) for name, x in abstract.items()}
    wrong = [
        name
        for name in shapes | found
        if name not in found or found[name].shape != shapes.get(name)
    ]
    if wrong:
        raise InputError(
            f"weights {folder} must hold the parameters of their config, {len(wrong)} differ: "
            f"{listed(wrong)}; convert them again"
        )
    return {name: found[name] for name in abstract}


def read_parts(folder: pathlib.Path) -> tensors.Tensors:
    """Returns the parameters of fuser and stabilizer by path; none where a row has neither."""
    path = folder / runs.PARTS / f"{STEM}.safetensors"
    if not path.is_file():
        return {}
    return {name.replace(".", "/"): x for name, x in tensors.open_single(path)[0].items()}
