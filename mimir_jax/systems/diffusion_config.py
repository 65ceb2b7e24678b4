# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the configs of all systems that denoise videos share, and of those that read captions."""

import abc
import dataclasses
from typing import Any, ClassVar

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.diffusion.config import DiffusionConfig, EDMConfig, SamplerConfig
from mimir_jax.encoders.config import TextConfig
from mimir_jax.models.config import LoraConfig
from mimir_jax.models.vae.config import VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSystemConfig(SystemConfig):
    """Train a video transformer to denoise latents of a frozen VAE.

    A subclass has the transformer's config as `dit`.

    Attributes:
        lora: Adapters in place of the transformer's own parameters; new parts train whole.
        vae: Config of the frozen VAE.
        vae_path: Folder of its weights; `package:NAME` is a folder that ships with mimir_jax.
        diffusion: Diffusion process.
        sampler: Sampling, of example videos and of launch/sample.py.
        caption_dropout: Share of samples trained without their condition: the text, all parts
            together (M-U18), or the tokens of a clip.
        heldout_clips: Clips of the fixed-noise held-out loss.
        loss_bands: Bands of timesteps for which that loss is reported.
        sample_prompts: Held-out clips on every sample sheet, drawn by their captions or
            reconstructed; 0 draws none.
    """

    dit_field: ClassVar[str] = "dit"
    """Path of `dit` among the fields, which errors name."""

    lora: LoraConfig = LoraConfig()
    vae: VAEConfig = VAEConfig()
    vae_path: str | None = None
    diffusion: DiffusionConfig | EDMConfig = DiffusionConfig()
    sampler: SamplerConfig = SamplerConfig()
    caption_dropout: float = 0.1
    heldout_clips: int = 32
    loss_bands: int = 5
    sample_prompts: int = 8

    def __post_init__(self):
        checks.check(
            self,
            self.dit.in_channels == self.vae.latent_channels,
            f"{{{self.dit_field}.in_channels}} must equal {{vae.latent_channels}}",
        )
        checks.check(
            self,
            self.sampler.name in self.diffusion.samplers,
            f"{{sampler.name}} must be {' or '.join(self.diffusion.samplers)} where "
            "{diffusion.kind} is "
            f"{self.diffusion.kind}",
        )
        checks.check(
            self,
            self.sampler.dynamic_guidance == "off" or self.diffusion.kind == "discrete",
            "{sampler.dynamic_guidance} must be off unless {diffusion.kind} is discrete",
        )
        for name, least in (("heldout_clips", 1), ("loss_bands", 1), ("sample_prompts", 0)):
            checks.within(self, name, least)
        checks.within(self, "caption_dropout", 0, 1)

    @abc.abstractmethod
    def with_dit(self, **fields: Any) -> "DiffusionSystemConfig":
        """Returns this config with other `fields` of its video transformer."""

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the model can make clips of the size of the run's data."""
        step = self.vae.spatial_compression * self.dit.patch
        for name in ("height", "width"):
            size = getattr(run.data, name)
            checks.check(
                run,
                size % step == 0,
                f"{{data.{name}}} must be a multiple of {step} (VAE compression x patch)",
                remedy=f"the nearest is {max(1, round(size / step)) * step}, "
                f"set it with {{data.{name}}}",
            )
        nearest = self.vae.nearest_frames(run.data.frames)
        checks.check(
            run,
            run.data.frames == nearest,
            f"{{data.frames}} must be {self.vae.frame_rule}",
            remedy=f"the nearest is {nearest}, set it with {{data.frames}}",
        )
        checks.check(
            run,
            run.mesh.context_parallel != "ring" or self.dit.attention == "xla",
            f"{{system.{self.dit_field}.attention}} must be xla where {{mesh.context_parallel}} is "
            "ring, which computes attention itself",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToVideoSystemConfig(DiffusionSystemConfig):
    """Train a video transformer to make videos of captions.

    Attributes:
        text: Captions to features.
    """

    text: TextConfig = TextConfig()

    @property
    def makes_videos(self) -> bool:
        """Whether the network samples videos for prompts: it does."""
        return True
