# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Settings of sampling, free of JAX. Fields are flags of the commands; messages call them so."""

import dataclasses
import math
from typing import Literal

from mimir_jax.errors import require
from mimir_jax.models.config import Quantization

SHIPPED = "package:tiny/mimir"
"""The trained miniature that ships with the package."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Sampling settings; None takes the checkpoint's own.

    Attributes:
        sampler: Sampler.
        steps: Sampling steps.
        guidance_scale: Scale of classifier-free guidance; 1 turns guidance off.
        image_guidance_scale: Separate guidance scale for images, first frame or document of a
            prompt; `guidance_scale` is then that of its text.
        dynamic_guidance: How the scale varies over the steps: `off` keeps it, `reference` is the
            formula of diffusers, `smooth` the curve that its authors intended.
        guidance_rescale: Share of the guided prediction that is rescaled to the standard deviation
            of the conditional one, 0 to 1.
        eta: Share of fresh noise in every step of DDIM: 0 is deterministic, 1 is DDPM.
        variant: Variant of `ddim`: `clean`, or that of Divot's `reference` code, with timesteps
            from 1, step sizes rounded to float16 and noise left at the end (D-U12).
        cache: Step cache: `off`; `first_block` skips the other blocks where the first block's
            output has changed little; `forecast` extrapolates predictions in time.
        cache_threshold: Relative change or error below which steps are skipped, 0 to 1.
        guidance_every: Compute the unconditional branch of guidance only at every n-th step.
        frames: Frames per video.
        height: Pixel rows.
        width: Pixel columns.
        image_fit: Fit of a first frame of another aspect ratio: `crop` at the centre, or `pad` with
            black bars.
        image_latent_scale: Factor on the latents of a first frame: the scaling factor of the VAE
            (`scaled`), one (`raw`), or one over the scaling factor (`inverse`).
        quantize: 8-bit linear layers in the video transformer and the frozen text encoders: weights
            (`int8`, `fp8`), or weights and activations (`int8_activations`).
        tiled: Decode in overlapping, blended tiles, which takes less memory.
        instructions: LLM instructions, instead of those used in training.
        answer_temperature: Temperature of the LLM's answers; 0 takes the likeliest token.
        answer_seed: Seed of the LLM's answers.

    Raises:
        InputError: for a value that no model can follow.
    """

    sampler: Literal["ddim", "dpm", "euler", "heun"] | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None
    dynamic_guidance: Literal["off", "reference", "smooth"] | None = None
    guidance_rescale: float | None = None
    eta: float | None = None
    variant: Literal["clean", "reference"] | None = None
    cache: Literal["off", "first_block", "forecast"] | None = None
    cache_threshold: float | None = None
    guidance_every: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    image_fit: Literal["crop", "pad"] | None = None
    image_latent_scale: Literal["scaled", "raw", "inverse"] | None = None
    quantize: Quantization | None = None
    tiled: bool = False
    instructions: tuple[str, ...] | None = None
    answer_temperature: float | None = None
    answer_seed: int | None = None

    def __post_init__(self):
        for name in ("frames", "height", "width", "steps"):
            value = getattr(self, name)
            require(
                value is None or value >= 1,
                f"--{name} must be at least 1, got {value}; leave it out for the checkpoint's own",
            )
        for name in ("guidance_scale", "image_guidance_scale"):
            value = getattr(self, name)
            require(
                value is None or (math.isfinite(value) and value >= 0),
                f"--{name} must be a finite number from 0, got {value}; 1 guides not at all",
            )
        require(
            self.guidance_every is None or self.guidance_every >= 1,
            f"--guidance_every must be at least 1, got {self.guidance_every}; 1 guides every step",
        )
        for name in ("guidance_rescale", "eta", "cache_threshold"):
            value = getattr(self, name)
            require(
                value is None or 0 <= value <= 1,
                f"--{name} must be a number from 0 to 1, got {value}; 0 switches it off",
            )
        require(
            self.answer_seed is None or 0 <= self.answer_seed < 2**64,
            f"--answer_seed must be within 0..{2**64 - 1}, got {self.answer_seed}; choose another",
        )
        temperature = self.answer_temperature
        require(
            temperature is None or (math.isfinite(temperature) and temperature >= 0),
            f"--answer_temperature must be a finite number from 0, got {temperature}; 0 always "
            "gives the likeliest answer",
        )
