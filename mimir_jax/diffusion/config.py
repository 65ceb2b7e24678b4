# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the diffusion process and of sampling."""

import dataclasses
from typing import ClassVar, Literal, NamedTuple

from mimir_jax.config import checks


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Diffusion process of CogVideoX: scaled-linear betas, SNR shift, zero terminal SNR, v target.

    Attributes:
        kind: Time is a timestep, 0 to `num_train_steps - 1`.
        num_train_steps: Discrete timesteps.
        beta_start: First beta.
        beta_end: Last beta.
        snr_shift: s in `abar / (s + (1 - s) abar)`; 3.0 for 2B, 1.0 for the 5B family.
        zero_terminal_snr: Rescale the schedule so that its last timestep is pure noise.
        stratified: Each sample of the global batch, or of the micro-batch with
            `optimizer.grad_accumulation`, draws its timestep from its own sub-interval.
        timestep_power: Density of training timesteps t, proportional to `t^(power - 1)`. 1 draws
            them evenly, 2 draws high noise more often, where the content of a video is decided.
    """

    samplers: ClassVar[tuple[str, ...]] = ("ddim", "dpm")

    kind: Literal["discrete"] = "discrete"
    num_train_steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    snr_shift: float = 1.0
    zero_terminal_snr: bool = True
    stratified: bool = True
    timestep_power: float = 1.0

    def __post_init__(self):
        checks.within(self, "timestep_power", 0, above=True)

    @property
    def max_steps(self) -> int:
        """Most sampling steps, one per timestep."""
        return self.num_train_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class EDMConfig:
    """Diffusion process of EDM (arXiv 2206.00364): time is the noise level sigma.

    The network predicts the clean sample behind the preconditioning of `schedules.edm`. A preset
    chooses it with `diffusion=EDMConfig(...)`.

    Attributes:
        kind: Time is the noise level.
        sigma_data: Standard deviation of the scaled latents.
        sigma_min, sigma_max: Noise levels at which sampling ends and starts.
        rho: Sampling levels are equally spaced in `sigma^(1 / rho)`.
        log_mean, log_std: Normal distribution of `ln(sigma)` in training.
        stratified: As in `DiffusionConfig`, by shares of that distribution.
    """

    samplers: ClassVar[tuple[str, ...]] = ("euler", "heun")
    max_steps: ClassVar[int] = 1000

    kind: Literal["edm"] = "edm"
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    log_mean: float = -1.2
    log_std: float = 1.2
    stratified: bool = True

    def __post_init__(self):
        for name in ("sigma_data", "sigma_min", "rho", "log_std"):
            checks.within(self, name, 0, above=True)
        checks.within(self, "sigma_max", self.sigma_min, above=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Sampling from noise (M-U24).

    Attributes:
        name: For timesteps `ddim`, or `dpm` for DPM-Solver++ (2M) as CogVideoX has it; for noise
            levels `euler` or `heun`.
        steps: Sampling steps.
        guidance_scale: Scale of classifier-free guidance.
        image_guidance_scale: Separate guidance scale for the images of a prompt; `guidance_scale`
            is then that of its text (V-U17). None uses one scale for both.
        dynamic_guidance: How the scale changes over the steps: `off` keeps it.
        guidance_rescale: Share of the guided prediction that is rescaled to the standard deviation
            of the conditional one (arXiv 2305.08891).
        eta: Share of fresh noise in every step of `ddim`: 0 is deterministic, 1 is DDPM.
        previous: Target timestep of a step: one stride down, as in the `reference`, or the next
            point of the `grid` of visited timesteps.
        cache: Step cache, faster at some cost in quality: `off`; `first_block` runs the later
            blocks only where the first one's output has changed; `forecast` extrapolates
            predictions in time.
        cache_threshold: Relative change or error below which steps are skipped; 0 skips none.
        guidance_every: Compute the unconditional branch at every n-th evaluation, and keep its
            difference from the conditional one in between.
        variant: Variant of `ddim`: `clean`, or that of Divot's `reference` code (D-U12):
            timesteps 1, 1 + n, 1 + 2n, ... with n = 1000 // steps, step sizes from a table in
            float16, and noise left in the sample at the end; pixels truncated to 8 bits, not
            rounded, and null tokens of clips of an LLM from weights rounded to float16.
    """

    name: Literal["ddim", "dpm", "euler", "heun"] = "dpm"
    steps: int = 50
    guidance_scale: float = 6.0
    image_guidance_scale: float | None = None
    dynamic_guidance: Literal["off", "reference", "smooth"] = "smooth"
    guidance_rescale: float = 0.0
    eta: float = 0.0
    previous: Literal["reference", "grid"] = "reference"
    variant: Literal["clean", "reference"] = "clean"
    cache: Literal["off", "first_block", "forecast"] = "off"
    cache_threshold: float = 0.0
    guidance_every: int = 1

    def __post_init__(self):
        checks.within(self, "steps", 1, 1000)
        checks.within(self, "cache_threshold", 0, 1)
        checks.within(self, "guidance_every", 1, 1000)
        for name in ("guidance_scale", "image_guidance_scale"):
            checks.within(self, name, 0)
        for name in ("guidance_rescale", "eta"):
            checks.within(self, name, 0, 1)
        checks.check(
            self,
            self.eta == 0 or self.name == "ddim",
            "{eta} must be 0 unless {name} is ddim",
        )
        checks.check(
            self,
            self.variant == "clean" or (self.name == "ddim" and self.previous == "reference"),
            "{variant} must be clean unless {name} is ddim and {previous} is reference",
        )
        checks.check(
            self,
            self.cache != "off" or self.cache_threshold == 0,
            "{cache_threshold} must be 0 where {cache} is off",
        )
        checks.check(
            self,
            self.name != "heun" or not self.shortcuts.any,
            "{cache} must be off and {guidance_every} 1 where {name} is heun, whose steps correct "
            "themselves",
        )
        checks.check(
            self,
            self.cache != "first_block" or self.guidance_every == 1,
            "{guidance_every} must be 1 where {cache} is first_block, which keeps both branches",
        )
        checks.check(
            self,
            self.image_guidance_scale is None or self.guidance_every == 1,
            "{guidance_every} must be 1 with {image_guidance_scale}, which needs all branches",
        )

    @property
    def shortcuts(self) -> "Shortcuts":
        """What steps leave out."""
        cache = self.cache if self.cache_threshold > 0 else "off"
        return Shortcuts(cache, self.cache_threshold, self.guidance_every)


class Shortcuts(NamedTuple):
    """What sampling steps leave out, a static part of a compiled loop.

    Attributes:
        cache, threshold, guidance_every: As `cache`, `cache_threshold` and `guidance_every` of
            `SamplerConfig`; a cache with threshold 0 is `off`.
    """

    cache: str = "off"
    threshold: float = 0.0
    guidance_every: int = 1

    @property
    def any(self) -> bool:
        """Whether steps leave anything out."""
        return self.cache != "off" or self.guidance_every > 1


DIVOT_REFERENCE = SamplerConfig(
    name="ddim",
    steps=50,
    guidance_scale=7.5,
    dynamic_guidance="off",
    guidance_rescale=0.7,
    eta=1.0,
    variant="reference",
)
"""Sampling as in the published code of Divot (divot.md 4.4)."""
