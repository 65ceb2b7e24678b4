# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the causal 3D VAE."""

import dataclasses
from typing import ClassVar, Literal

from mimir_jax.config import checks
from mimir_jax.errors import require
from mimir_jax.models.config import DType


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Causal 3D VAE of CogVideoX (arXiv 2408.06072); one down-sampling between two stages.

    Attributes:
        in_channels: Channels of the pixels that the encoder reads.
        out_channels: Channels of the pixels that the decoder returns.
        latent_channels: Channels of the latents.
        block_channels: Channels of each stage, from the pixels inwards.
        layers_per_block: Residual blocks per stage; the decoder has one more.
        norm_groups: Groups of the group norms.
        norm_eps: Epsilon of the norms.
        temporal_compression: Frames per latent frame.
        scaling_factor: Factor that brings latents to unit variance.
        sample_height, sample_width: Native size in pixels; the reference's tiles follow from it.
        frame_chunk: Frames that are encoded at a time.
        latent_chunk: Latent frames that are decoded at a time.
        dtype: Dtype of the computation; parameters are float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    block_channels: tuple[int, ...] = (128, 256, 256, 512)
    layers_per_block: int = 3
    norm_groups: int = 32
    norm_eps: float = 1e-6
    temporal_compression: int = 4
    scaling_factor: float = 0.7
    sample_height: int = 480
    sample_width: int = 720
    frame_chunk: int = 8
    latent_chunk: int = 2
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, bool(self.block_channels), "{block_channels} must have a stage")
        checks.check(
            self,
            not any(width % self.norm_groups for width in self.block_channels),
            "{block_channels} must be multiples of {norm_groups}",
        )
        checks.check(
            self,
            self.temporal_compression in (1, 2, 4, 8)
            and self.temporal_compression <= self.spatial_compression,
            "{temporal_compression} must be 1, 2, 4 or 8 and at most {spatial}, the spatial one",
            spatial=self.spatial_compression,
        )

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent along height and width."""
        return 2 ** (len(self.block_channels) - 1)

    @property
    def frame_period(self) -> int:
        """Frames that a clip may grow by: those of `latent_chunk` latent frames."""
        return self.temporal_compression * self.latent_chunk if self.temporal_compression > 1 else 1

    @property
    def frame_rule(self) -> str:
        """The rule for the number of frames of a clip, in words."""
        return f"{self.frame_period}N+1 so that the VAE returns as many frames as it reads"

    def nearest_frames(self, frames: int) -> int:
        """Returns the nearest number of frames that decode to as many as were encoded."""
        return max(0, round((frames - 1) / self.frame_period)) * self.frame_period + 1

    def check_frames(self, frames: int, name: str) -> None:
        """Raises `InputError` unless the VAE returns as many frames as it reads.

        Args:
            frames: Frames of a clip.
            name: The subject of the message, such as a flag.
        """
        nearest = self.nearest_frames(frames)
        require(
            frames == nearest,
            f"{name} must be {self.frame_rule}, got {frames}; the nearest is {nearest}",
        )

    def latent_frames(self, frames: int) -> int:
        """Returns the number of latent frames of a clip of `frames`."""
        return (frames - 1) // self.temporal_compression + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageVAEConfig:
    """VAE of Stable Diffusion, KL-f8 (arXiv 2112.10752); every frame is one image.

    Attributes:
        kind: Distinguishes it from the causal VAE where a run may have either.
        in_channels, out_channels, latent_channels: As in the causal VAE.
        block_channels, layers_per_block, norm_groups: As in the causal VAE.
        scaling_factor: Factor that brings latents to unit variance.
        sample_height, sample_width: Native size in pixels; tiles follow from it.
        frame_chunk: Frames that run at a time.
        dtype: Dtype of the computation; parameters are float32.
    """

    frame_rule: ClassVar[str] = "at least 1"
    """The rule for the number of frames of a clip, in words."""

    kind: Literal["image"] = "image"
    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    scaling_factor: float = 0.18215
    sample_height: int = 512
    sample_width: int = 512
    frame_chunk: int = 16
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, bool(self.block_channels), "{block_channels} must have a stage")
        checks.check(
            self,
            not any(width % self.norm_groups for width in self.block_channels),
            "{block_channels} must be multiples of {norm_groups}",
        )

    @property
    def spatial_compression(self) -> int:
        """Pixels per latent along height and width."""
        return 2 ** (len(self.block_channels) - 1)

    def latent_frames(self, frames: int) -> int:
        """Returns the number of latent frames of a clip of `frames`, which is the same."""
        return frames

    def nearest_frames(self, frames: int) -> int:
        """Returns `frames`, or 1 for fewer: every frame is coded alone."""
        return max(1, frames)

    def check_frames(self, frames: int, name: str) -> None:
        """Raises `InputError` for a clip without frames; `name` is the subject of the message."""
        require(frames >= 1, f"{name} must be {self.frame_rule}, got {frames}; raise it")
