# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Shared configs of systems that denoise videos, and of those that read captions."""

import abc
import dataclasses
from typing import Any, ClassVar

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.diffusion.config import DiffusionConfig, EDMConfig, SamplerConfig
from mimir_jax.encoders.config import FirstFrameConfig, TextConfig
from mimir_jax.models.config import DiTConfig, LoraConfig
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.vae.config import VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSystemConfig(SystemConfig):
    """Train a network to denoise latents of a frozen VAE.

    A subclass has the config of its video transformer as `dit`. One that may have another network
    overrides `denoiser`.

    Attributes:
        lora: Adapters on the frozen transformer; new parts train fully.
        vae: Config of the frozen VAE.
        vae_path: Folder of its weights; `package:NAME` is a folder that ships with mimir_jax.
        diffusion: Diffusion process.
        sampler: Sampling, of example videos and of launch/sample.py.
        caption_dropout: Share of samples trained without their condition: all text features
            together (M-U18), or the tokens of a clip.
        heldout_clips: Clips of the fixed-noise held-out loss.
        loss_bands: Bands of timesteps for which that loss is reported.
        sample_prompts: Held-out clips on every sample sheet, sampled from their captions or
            reconstructed; 0 writes none.
    """

    dit_field: ClassVar[str] = "dit"
    """Path of `dit` among the fields, which errors name."""
    _twice: ClassVar[str] = ""
    """What else `dit.in_channels` may be, for errors."""

    caches_blocks: ClassVar[bool] = False
    """Whether the network has a first-block cache."""

    guides_images: ClassVar[bool] = False
    """Whether prompts have images that guidance can have a scale for."""

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
        channels, field = self.vae.latent_channels, self.denoiser_field
        checks.check(
            self,
            self.denoiser.in_channels == channels or self.reads_image,
            f"{{{field}.in_channels}} must equal {{vae.latent_channels}}{self._twice}",
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
        checks.check(
            self,
            self.sampler.cache != "first_block" or self.caches_blocks,
            f"{{sampler.cache}} must be off or forecast for {self.kind}",
        )
        checks.check(
            self,
            self.sampler.image_guidance_scale is None or self.guides_images,
            f"{{sampler.image_guidance_scale}} must be None for {self.kind}, whose prompts have "
            "no images",
        )
        for name, least in (("heldout_clips", 1), ("loss_bands", 1), ("sample_prompts", 0)):
            checks.within(self, name, least)
        checks.within(self, "caption_dropout", 0, 1)

    @property
    def reads_image(self) -> bool:
        """Whether the transformer reads the latents of an image behind the noisy ones."""
        return False

    @property
    def denoiser(self) -> DiTConfig | UNetConfig:
        """The network that denoises: the video transformer."""
        return self.dit

    @property
    def denoiser_field(self) -> str:
        """Path of `denoiser` among the fields, which errors name."""
        return self.dit_field

    @property
    def side_step(self) -> int:
        """Pixels that height and width of a clip are multiples of."""
        return self.vae.spatial_compression * self.dit.patch

    @property
    def _side_rule(self) -> str:
        """What `side_step` is made of, for errors."""
        return "VAE compression x patch"

    @property
    def _native_size(self) -> tuple[int, int, int]:
        """Frames, height and width that the transformer was made for."""
        cfg, vae = self.dit, self.vae
        frames = vae.nearest_frames((cfg.sample_frames - 1) * vae.temporal_compression + 1)
        scale = vae.spatial_compression
        return frames, cfg.sample_height * scale, cfg.sample_width * scale

    @abc.abstractmethod
    def with_dit(self, **fields: Any) -> "DiffusionSystemConfig":
        """Returns this config with other `fields` of its video transformer."""

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the model can make clips of the size of the run's data."""
        step = self.side_step
        for name in ("height", "width"):
            size = getattr(run.data, name)
            checks.check(
                run,
                size % step == 0,
                f"{{data.{name}}} must be a multiple of {step} ({self._side_rule})",
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
        self._check_buckets(run)
        self._check_denoiser(run)

    def _check_denoiser(self, run: Any) -> None:
        """Raises `FieldError` for sizes or a mesh that the network cannot take."""
        native = self._native_size
        sizes = [size[:3] for size in run.data.buckets.sizes]
        sizes.append((run.data.frames, run.data.height, run.data.width))
        checks.check(
            run,
            self.dit.position != "rope+learned" or all(size == native for size in sizes),
            f"{{data.frames}}, {{data.height}} and {{data.width}} must be {native}, the size of "
            "the learned position table",
            got=", ".join("x".join(map(str, size)) for size in sizes),
        )
        checks.check(
            run,
            run.mesh.context_parallel != "ring" or self.dit.attention == "xla",
            f"{{system.{self.dit_field}.attention}} must be xla where {{mesh.context_parallel}} is "
            "ring, which computes attention itself",
        )

    def _check_buckets(self, run: Any) -> None:
        """Raises `FieldError` for a bucket that VAE or patches refuse, with the nearest size."""
        step = self.side_step
        rule = run.data.buckets.area > 0
        fields = "{data.buckets.frames}" if rule else "{data.buckets.listed}"
        for size in run.data.buckets.sizes:
            nearest = self.vae.nearest_frames(size.frames)
            checks.check(
                run,
                size.frames == nearest,
                f"frames of a bucket in {fields} must be {self.vae.frame_rule}",
                got=f"{size.frames} in {size.name}",
                remedy=f"the nearest is {nearest}",
            )
            sides = size.height, size.width
            height, width = (max(1, round(side / step)) * step for side in sides)
            fields = "{data.buckets.multiple}" if rule else "{data.buckets.listed}"
            checks.check(
                run,
                sides == (height, width),
                f"height and width of a bucket in {fields} must be multiples of {step} "
                f"({self._side_rule})",
                got=size.name,
                remedy=f"set {{data.buckets.multiple}}={step}"
                if rule
                else f"the nearest is {size.frames}x{height}x{width}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextToVideoSystemConfig(DiffusionSystemConfig):
    """Train a video transformer to make videos of captions.

    Attributes:
        text: Captions to features.
        first_frame: First frames to image latents, for a transformer whose `in_channels` are twice
            the channels of the VAE.
    """

    _twice: ClassVar[str] = ", or twice that for a transformer that reads a first frame"

    caches_blocks: ClassVar[bool] = True

    text: TextConfig = TextConfig()
    first_frame: FirstFrameConfig = FirstFrameConfig()

    def __post_init__(self):
        super().__post_init__()
        changed = checks.changed_fields(self.first_frame)
        checks.check(
            self,
            self.reads_image or not changed,
            f"{{first_frame.{(changed or ['fit'])[0]}}} must be left out where the transformer "
            f"reads no first frame, with {{{self.dit_field}.in_channels}}",
        )
        ofs = checks.changed_fields(self.first_frame).count("ofs")
        checks.check(
            self,
            not ofs or self.dit.ofs_width is not None,
            "{first_frame.ofs} must be left out where the transformer has no embedding of it, with "
            f"{{{self.dit_field}.ofs_width}}",
        )

    @property
    def reads_image(self) -> bool:
        """Whether the transformer reads a first frame: it has twice the channels of the VAE."""
        return self.dit.in_channels == 2 * self.vae.latent_channels

    @property
    def feature_settings(self) -> dict[str, Any]:
        """Captions to features."""
        return dataclasses.asdict(self.text)

    @property
    def makes_videos(self) -> bool:
        """Whether the network samples videos for prompts: it does."""
        return True

    @property
    def reads_buckets(self) -> bool:
        """Whether it trains on clips of several shapes and lengths: it does."""
        return True
