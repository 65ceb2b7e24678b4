# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of agents: LLMs that describe videos and write clips."""

import os
import pathlib

from jax.sharding import Mesh

from mimir_jax import systems, weights
from mimir_jax.config import TrainConfig, registry
from mimir_jax.errors import InputError, require
from mimir_jax.systems import base
from mimir_jax.weights import runs


def is_agent(checkpoint: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is a run of an agent, or a published one."""
    folder = weights.resolve(checkpoint)
    if (reader := systems.find_published(folder)) is not None:
        return reader.SYSTEM.is_agent
    if not (folder / runs.CONFIG_FILE).is_file() or not runs.has_checkpoint(folder):
        return False
    return runs.read_config(folder).system.is_agent


def read_run(folder: pathlib.Path) -> TrainConfig:
    """Returns the config of a run of an agent, or that of a published one.

    Raises:
        InputError: for anything else.
    """
    reader = systems.find_published(folder)
    config = runs.read_config(folder) if reader is None else reader.read(folder).config
    _require_agent(config, folder)
    return config


def _require_agent(config: TrainConfig, folder: pathlib.Path) -> None:
    if not config.system.is_agent:
        kinds = [kind for kind, cls in registry.system_classes().items() if cls.is_agent]
        raise InputError(
            f"--checkpoint must be a run of {' or '.join(kinds)} to describe videos and tell "
            f"stories, got one of {config.system.kind} in {folder}; name another"
        )


def open_agent(
    checkpoint: str | os.PathLike[str],
    *,
    step: int | None = None,
    mesh: Mesh | None = None,
    temperature: float = 0.0,
    text_length: int | None = None,
) -> base.Agent:
    """Opens a run of an agent with its frozen networks; adapters are merged.

    Args:
        checkpoint: The run, or the folder of a published one.
        step: A kept step; None takes the newest.
        mesh: Devices to split the LLM over; None keeps it on the first one.
        temperature: Of the tokens of a text; 0 takes the likeliest ones.
        text_length: Tokens of a text at most; None leaves it to the run.

    Raises:
        InputError: for a run of another system, or one whose frozen networks are missing.
    """
    folder = weights.resolve(checkpoint)
    options = {"temperature": temperature, "text_length": text_length}
    if (reader := systems.find_published(folder)) is not None:
        read: base.Published = reader.read(folder)
        config, options["reads_as_published"] = read.config, read.reads_as_published
        require(
            step is None,
            f"--step must be left out for {folder}, which is published and has one alone",
        )
    else:
        read, config = None, runs.read_config(folder)
    _require_agent(config, folder)
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    if read is not None:
        params = read.load(mesh=mesh)
    else:
        params = weights.load_run(folder, system.model, step=step, mesh=mesh)
    return systems.make_agent(config, system, encoder, params, **options)
