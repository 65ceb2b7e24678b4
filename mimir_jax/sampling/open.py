# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint as a pipeline: a run of ours, or a published folder of diffusers or Divot."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import DTypeLike

from mimir_jax import files, remote, systems, weights
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.diffusion import samplers
from mimir_jax.errors import InputError, require
from mimir_jax.models import functional, quantization
from mimir_jax.sampling import pipeline, published, published_divot
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.systems import base, quantized
from mimir_jax.weights import initialization, runs

DEFAULT = SampleConfig()
_SIZES = ("--frames", "--height", "--width")
_READ_BY = {  # fields of `SampleConfig` that some systems alone read, and what these read
    "instructions": "instructions",
    "answer_temperature": "answers of an LLM",
    "answer_seed": "answers of an LLM",
    "image_fit": "a first frame",
    "image_latent_scale": "a first frame",
}


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
    if not (folder / runs.CONFIG_FILE).is_file():
        published.check_index(folder)
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
    opener = _open_run
    if published.is_published(folder):
        opener = _open_published
    elif published_divot.is_pair(folder):
        opener = _open_divot
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
        run = _changed(run, system=system)
    config = configure(run, sample, workdir)
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
    folder: pathlib.Path,
    sample: SampleConfig,
    mesh: Mesh | None,
    *,
    step: int | None,
    start: bool,
    dtype: DTypeLike | None,
    lora: Sequence[str],
) -> pipeline.Pipeline:
    _require_no_steps(folder, step, start=start)
    run, sampler = published.read(folder, dtype=dtype)
    config = configure(run, sample, folder)
    system = _make_system(config, sample)
    options = {"dtype": dtype, "mesh": mesh, "lora": lora, "quantize": sample.quantize or "off"}
    _, params = weights.load(folder / "transformer", kind="dit", **options)
    sampler = published.with_settings(sampler, config.system.sampler)
    settings = _settings(folder, sample, dtype, lora)
    return _assemble(config, system, params, mesh, sample, settings, sampler=sampler)


def _open_divot(
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
    require(
        not lora,
        f"--lora must be left out for {place}, which has no video transformer for adapters",
    )
    file = published_divot.find_detokenizer(place, generates=False)
    run, detokenizer = published_divot.read(file, dtype=dtype)
    config = configure(run, sample, place)
    system = _make_system(config, sample)
    sampler = published_divot.make_sampler(detokenizer, config.system.sampler)
    params = published_divot.load(file, dtype=dtype, mesh=mesh)
    settings = _settings(file, sample, dtype, lora)
    return _assemble(config, system, params, mesh, sample, settings, sampler=sampler)


def _require_no_steps(place: pathlib.Path, step: int | None, *, start: bool) -> None:
    if start or step is not None:
        raise InputError(
            f"checkpoint {place} must be a run to have a start and steps; leave --start and "
            "--step out"
        )


def _make_system(config: TrainConfig, sample: SampleConfig) -> base.DiffusionSystem:
    """Returns the system that samples, with kernels of attention that the device has."""
    system = base.with_available_kernels(systems.make_system(config))
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
    **options: samplers.Sampler,
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


def configure(run: TrainConfig, sample: SampleConfig, checkpoint: pathlib.Path) -> TrainConfig:
    """Returns the config of a run with the settings of `sample`.

    Args:
        run: The run.
        sample: What to change.
        checkpoint: Where the run is, for messages.

    Raises:
        InputError: for a run of no diffusion system, or settings that its model cannot follow or
            does not read.
    """
    system = systems.make_system(run)
    if not isinstance(system, base.DiffusionSystem):
        raise InputError(
            f"checkpoint {checkpoint} must be a run of a text-to-video system, got one of a "
            f"{run.system.kind}; choose another --checkpoint"
        )
    _check_read(system, sample, checkpoint)
    if sample.quantize is not None:
        quantized.with_network(system, sample.quantize)  # refuses before anything is read
        run = quantized.with_frozen(run, sample.quantize)
    data = _changed(run.data, frames=sample.frames, height=sample.height, width=sample.width)
    system.check_size(data.frames, data.height, data.width, names=_SIZES)
    part = _changed(run.system, sampler=_configure_sampler(run.system, sample))
    if sample.instructions is not None or sample.answer_temperature is not None:
        text = part.text
        tokens, given = len(text.instructions), sample.instructions
        require(
            given is None or len(given) == tokens,
            f"--instructions must hold {tokens} instructions, as many as in training, got "
            f"{len(given or ())}; change the file",
        )
        text = _changed(text, instructions=given, answer_temperature=sample.answer_temperature)
        part = _changed(part, text=text)
    if "image_fit" in system.sampling_options():
        image = _changed(
            part.first_frame, fit=sample.image_fit, latent_scale=sample.image_latent_scale
        )
        part = _changed(part, first_frame=image)
    return _changed(run, data=data, system=part, seed=sample.answer_seed)


def _configure_sampler(system: Any, sample: SampleConfig) -> Any:
    most = system.diffusion.max_steps
    require(
        sample.steps is None or sample.steps <= most,
        f"--steps must be at most the {most} of training, got {sample.steps}; lower it",
    )
    name, known = sample.sampler or system.sampler.name, system.diffusion.samplers
    require(
        name in known,
        f"--sampler must be {' or '.join(known)} for this checkpoint, got {name}; choose one",
    )
    require(
        not sample.eta or name == "ddim",
        f"--eta must be 0 with the sampler {name}, got {sample.eta}; use --sampler ddim",
    )
    eta = 0.0 if name != "ddim" else sample.eta
    _check_shortcuts(system, sample, name)
    _check_image_guidance(system, sample)
    return _changed(
        system.sampler,
        name=name,
        steps=sample.steps,
        guidance_scale=sample.guidance_scale,
        image_guidance_scale=sample.image_guidance_scale,
        dynamic_guidance=sample.dynamic_guidance,
        guidance_rescale=sample.guidance_rescale,
        eta=eta,
        variant=_variant(system.sampler, sample, name),
        cache=sample.cache,
        cache_threshold=0.0 if sample.cache == "off" else sample.cache_threshold,
        guidance_every=sample.guidance_every,
    )


def _variant(sampler: Any, sample: SampleConfig, name: str) -> str:
    """Returns how steps are taken: another sampler than `ddim` has no variant but `clean`."""
    require(
        sample.variant != "reference" or name == "ddim",
        f"--variant must be clean with the sampler {name}, got reference; use --sampler ddim",
    )
    return sample.variant or (sampler.variant if name == "ddim" else "clean")


def _check_shortcuts(system: Any, sample: SampleConfig, name: str) -> None:
    """Raises `InputError` for steps that sampler or model cannot leave out."""
    cache = sample.cache or system.sampler.cache
    every = sample.guidance_every or system.sampler.guidance_every
    require(
        name != "heun" or (cache == "off" and every == 1),
        "--cache must be off and --guidance_every 1 with the sampler heun, whose steps correct "
        f"themselves, got {cache} and {every}; use --sampler euler",
    )
    require(
        cache != "first_block" or system.caches_blocks,
        f"--cache must be off or forecast for a run of {system.kind}, got first_block; choose "
        "--cache=forecast",
    )
    require(
        cache != "first_block" or every == 1,
        f"--guidance_every must be 1 with --cache=first_block, got {every}; use --cache=forecast",
    )
    require(
        cache != "off" or not sample.cache_threshold,
        f"--cache_threshold must be 0 without a cache, got {sample.cache_threshold}; choose a "
        "--cache",
    )
    threshold = sample.cache_threshold
    threshold = system.sampler.cache_threshold if threshold is None else threshold
    require(
        sample.cache in (None, "off") or threshold > 0,
        f"--cache_threshold must be above 0 with --cache={cache}, got {threshold:g}; 0 leaves no "
        "step out",
    )


def _check_image_guidance(system: Any, sample: SampleConfig) -> None:
    """Raises `InputError` for a scale of images where prompts have none, or branches are kept."""
    scale, own = sample.image_guidance_scale, system.sampler
    require(
        scale is None or system.guides_images,
        f"--image_guidance_scale must be left out for a run of {system.kind}, whose prompts have "
        f"no images, got {scale}; use --guidance_scale, or a run of vimi",
    )
    scale = own.image_guidance_scale if scale is None else scale
    every = sample.guidance_every or own.guidance_every
    require(
        scale is None or every == 1,
        f"--guidance_every must be 1 with --image_guidance_scale, got {every}; use "
        "--cache=forecast",
    )


def _check_read(
    system: base.DiffusionSystem, sample: SampleConfig, checkpoint: pathlib.Path
) -> None:
    """Raises `InputError` for a setting that changes no video of the system."""
    options = system.sampling_options()
    for name, what in _READ_BY.items():
        row = f", row {options['ablation']}" if options.get("ablation") else ""
        require(
            name in options or getattr(sample, name) is None,
            f"checkpoint {checkpoint} must be a model that reads {what} for --{name} to change a "
            f"video, got {system.config.kind}{row}; leave --{name} out",
        )


def _changed(part: Any, **values: Any) -> Any:
    """Returns a dataclass with other fields; those that are None stay."""
    return dataclasses.replace(part, **{k: v for k, v in values.items() if v is not None})
