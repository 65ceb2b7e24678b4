# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a VAE."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.models.vae.config import VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAESystemConfig(SystemConfig):
    """Train the causal VAE: L1 and squared error, L1 of image gradients, and KL.

    The base adds LPIPS and a 3D GAN loss, whose networks cannot be had offline.

    Attributes:
        model: The VAE.
        mse_weight: Weight of the squared error, beside an L1 error of weight 1.
        chroma_weight: Weight of colour errors (what the mean over RGB leaves) against brightness;
            colour is learned late without it, as most pixels are muted.
        gradient_weight: Weight of the L1 error of image gradients.
        kl_weight: Weight of the KL divergence of the posterior.
        crop_size: Height and width of random crops to train on, cheaper and more varied than whole
            frames; None takes whole frames.
        crop_frames: Frames of random crops to train on; None takes whole clips.
        heldout_clips: Clips of the held-out reconstruction.
    """

    kind: Literal["vae"] = "vae"
    model: VAEConfig = VAEConfig()
    mse_weight: float = 2.0
    chroma_weight: float = 3.0
    gradient_weight: float = 0.5
    kl_weight: float = 1e-6
    crop_size: int | None = None
    crop_frames: int | None = None
    heldout_clips: int = 8

    def __post_init__(self):
        for name in ("heldout_clips", "crop_size", "crop_frames"):
            checks.within(self, name, 1)

    @property
    def network(self) -> VAEConfig:
        """The VAE."""
        return self.model

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the VAE can encode clips of the size of the run's data."""
        step = self.model.spatial_compression
        for name in ("height", "width"):
            size = getattr(run.data, name)
            checks.check(
                run,
                size % step == 0,
                f"{{data.{name}}} must be a multiple of the VAE compression {step}",
            )
            crop = self.crop_size or step
            checks.check(
                run,
                crop % step == 0 and crop <= size,
                f"{{system.crop_size}} must be a multiple of {step} within {{data.{name}}}",
            )
        for name, frames in (
            ("data.frames", run.data.frames),
            ("system.crop_frames", self.crop_frames or 1),
        ):
            nearest = self.model.nearest_frames(frames)
            checks.check(
                run,
                frames == nearest,
                f"{{{name}}} must be {self.model.frame_rule}",
                remedy=f"the nearest is {nearest}, set it with {{{name}}}",
            )
        checks.check(
            run,
            (self.crop_frames or 1) <= run.data.frames,
            "{system.crop_frames} must be at most {data.frames}",
        )
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for a VAE, which trains on clips",
            remedy="leave it out",
        )
