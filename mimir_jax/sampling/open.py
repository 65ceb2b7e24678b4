# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as a pipeline: a run of ours, or a published folder of diffusers or Divot."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax import files, remote, systems, weights
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional, quantization
from mimir_jax.sampling import configure, pipeline
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.systems import base, quantized
from mimir_jax.weights import initialization, runs

DEFAULT = SampleConfig()


def load_pipeline(
    folder: str | os.PathLike[str], *, dtype: DTypeLike | None = None, mesh: Mesh | None = None
) -> pipeline.Pipeline:
    """Loads a pipeline from text, or text and image, to video: of diffusers, or a run of ours.

    Args:
        folder: The run, or a folder with `model_index.json` of a `CogVideoXPipeline` or a
            `CogVideoXImageToVideoPipeline`, `tokenizer`, `text_encoder`, `transformer`, `vae` and
            `scheduler`; never asks a hub.
        dtype: Dtype of all networks; None keeps that of the run, or the stored one.
        mesh: Devices to spread networks and videos over; None stands for one device.

    Raises:
        InputError: if `folder` is neither, or does not hold its parts.
    """
    folder = files.expand_path(folder)
    require(
        (folder / runs.CONFIG_FILE).is_file() or systems.find_published(folder) is not None,
        f"pipeline {folder} must hold the {runs.CONFIG_FILE} of a run or the model_index.json of "
        "diffusers, found neither; name the folder that a pipeline was saved to",
    )
    return open_pipeline(folder, mesh=mesh, dtype=dtype)


def open_pipeline(
    checkpoint: str | os.PathLike[str],
    config: SampleConfig = DEFAULT,
    mesh: Mesh | None = None,
    *,
    step: int | None = None,
    start: bool = False,
    dtype: DTypeLike | None = None,
    lora: Sequence[str] = (),
) -> pipeline.Pipeline:
    """Opens a checkpoint for sampling.

    Every one of many processes must open it and ask it for the same videos.

    Args:
        checkpoint: A run of a system that makes videos; a published folder of diffusers; or Divot's
            folder of tokenizer and de-tokenizer, or the file of a de-tokenizer in it.
        config: How to sample.
        mesh: Devices of this process to spread networks and videos over, which changes nothing but
            rounding; None stands for one device.
        step: A kept step of the run; None takes the newest.
        start: Whether to sample what the run started from instead.
        dtype: Dtype of all networks; None keeps that of the run, or the stored one.
        lora: Adapters to merge into its video transformer, each `FILE` or `FILE:SCALE`.

    Raises:
        InputError: if `checkpoint` is neither, or cannot do what `config` asks.
    """
    folder = weights.resolve(checkpoint)
    reader = systems.find_published(folder)
    opener = _open_run if reader is None else functools.partial(_open_published, reader)
    return opener(folder, config, mesh, step=step, start=start, dtype=dtype, lora=lora)


def _open_run(
    workdir: pathlib.Path,
    sample: SampleConfig,
    mesh: Mesh | None,
    *,
    step: int | None,
    start: bool,
    dtype: DTypeLike | None,
    lora: Sequence[str],
) -> pipeline.Pipeline:
    run = runs.read_config(workdir)
    if dtype is not None:
        system = bridge.replace_everywhere(run.system, "dtype", str(np.dtype(dtype)))
        run = dataclasses.replace(run, system=system)
    config = configure.with_settings(run, sample, workdir)
    system = _make_system(config, sample)
    require(
        not start or not lora, "--lora must be left out with --start, which samples before adapters"
    )
    if start:
        params, step = _start(run, system.model, mesh), 0
    else:
        step = runs.latest_step(workdir) if step is None else step
        params = weights.load_run(workdir, system.model, step=step, mesh=mesh, lora=lora)
    settings = _settings(workdir, sample, dtype, lora) | {"step": step}
    return _assemble(config, system, params, mesh, sample, settings)


def _open_published(
    reader: ModuleType,
    place: pathlib.Path,
    sample: SampleConfig,
    mesh: Mesh | None,
    *,
    step: int | None,
    start: bool,
    dtype: DTypeLike | None,
    lora: Sequence[str],
) -> pipeline.Pipeline:
    _require_no_steps(place, step, start=start)
    read: base.Published = reader.read(place, dtype=dtype)
    config = configure.with_settings(read.config, sample, place)
    system = _make_system(config, sample)
    sampler = read.make_sampler(config.system.sampler)
    options = {"dtype": dtype, "mesh": mesh, "lora": lora, "quantize": sample.quantize or "off"}
    params = read.load(**options)
    settings = _settings(read.path, sample, dtype, lora)
    options = {"sampler": sampler, "reads_as_published": read.reads_as_published}
    return _assemble(config, system, params, mesh, sample, settings, **options)


def _require_no_steps(place: pathlib.Path, step: int | None, *, start: bool) -> None:
    if start or step is not None:
        raise InputError(
            f"checkpoint {place} must be a run to have a start and steps; leave --start and "
            "--step out"
        )


def _make_system(config: TrainConfig, sample: SampleConfig) -> base.DiffusionSystem:
    """Returns the system that samples, with kernels of attention that the device has."""
    system = base.for_inference(systems.make_system(config))
    return quantized.with_network(system, sample.quantize or "off")


def _start(run: TrainConfig, model: functional.Model, mesh: Mesh | None) -> functional.Params:
    """Returns the parameters that a run begins with, quantised where the network is."""
    if isinstance(model, quantization.Quantized):
        return model.quantize(initialization.start_of(run, model.plain, mesh))
    return initialization.start_of(run, model, mesh)


def _settings(
    folder: pathlib.Path, sample: SampleConfig, dtype: DTypeLike | None, lora: Sequence[str]
) -> dict[str, Any]:
    """Returns what a record says of the networks."""
    settings: dict[str, Any] = {"checkpoint": remote.origin(folder)}
    if sample.quantize is not None:
        settings["quantize"] = sample.quantize
    if dtype is not None:
        settings["dtype"] = str(np.dtype(dtype))
    if lora:
        settings["lora"] = list(lora)
    return settings


def _assemble(
    config: TrainConfig,
    system: base.DiffusionSystem,
    params: functional.Params,
    mesh: Mesh | None,
    sample: SampleConfig,
    settings: dict[str, Any],
    **options: Any,
) -> pipeline.Pipeline:
    encoder = systems.make_encoder(config, system, mesh)
    return pipeline.make_pipeline(
        config,
        system,
        encoder,
        params,
        tiled=sample.tiled,
        mesh=mesh,
        settings=settings,
        **options,
    )
