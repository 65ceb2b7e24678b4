# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The config of a run or of a published folder, with the settings of sampling."""

import dataclasses
import pathlib
from typing import Any

from mimir_jax import systems
from mimir_jax.config import TrainConfig
from mimir_jax.errors import InputError, require
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.systems import base, quantized

_SIZES = ("--frames", "--height", "--width")
_READ_BY = {  # fields of `SampleConfig` that some systems alone read, and what these read
    "instructions": "instructions",
    "answer_temperature": "answers of an LLM",
    "answer_seed": "answers of an LLM",
    "image_fit": "a first frame",
    "image_latent_scale": "a first frame",
}


def with_settings(run: TrainConfig, sample: SampleConfig, checkpoint: pathlib.Path) -> TrainConfig:
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
