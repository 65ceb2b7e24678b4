# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Latent codecs: clips to the latents that a diffusion network denoises, and back.

A codec is pure: it takes its parameters as an argument. There are two: the causal 3D VAE of
CogVideoX, and the 2D VAE of Stable Diffusion, which codes every frame alone.
"""

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.config import ImageVAEConfig, VAEConfig
from mimir_jax.encoders import frozen
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder, image


@runtime_checkable
class LatentCodec(Protocol):
    """Encodes clips to moments of latents and decodes latents to clips.

    Attributes:
        config: Its dataclass; with the parameters it determines the latents.
        channels: Channels of the latents.
        spatial_compression: Pixels per latent along height and width.
        param_spec: Shape and dtype of every parameter.
    """

    config: Any
    channels: int
    spatial_compression: int
    param_spec: functional.Params

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns the latent shape (t, h, w, c) of a clip of `frames`, `height` and `width`."""
        ...

    def check_frames(self, frames: int, name: str) -> None:
        """Raises `InputError` unless clips of `frames` decode to as many frames.

        Args:
            frames: Frames of a clip.
            name: The subject of the message.
        """
        ...

    def whole_latents(self, latent_frames: int) -> int:
        """Returns the most latent frames, up to `latent_frames`, that a whole clip has."""
        ...

    def encode(
        self, params: functional.Params, video: Float[Array, "b f h w 3"]
    ) -> autoencoder.Moments:
        """Returns the moments of the unscaled latents of clips in [-1, 1]."""
        ...

    def scale(self, latents: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Scales latents to about unit variance, as the diffusion network sees them."""
        ...

    def decode(
        self, params: functional.Params, latents: Float[Array, "b t h w c"], *, tiled: bool = False
    ) -> Float[Array, "b f h2 w2 3"]:
        """Returns the clips of scaled latents, about in [-1, 1], in float32.

        Args:
            params: Parameters of the codec.
            latents: Scaled latents.
            tiled: Whether to decode and blend overlapping tiles, which bounds memory.
        """
        ...


class _VAECodec:
    """What the codecs of both VAEs share.

    Args:
        config: Sizes of the VAE.
        module: Its network.
    """

    def __init__(self, config: Any, module: Any):
        self.config = config
        self.model = functional.build(module, config)
        self.channels = config.latent_channels
        self.spatial_compression = config.spatial_compression

    @property
    def param_spec(self) -> functional.Params:
        """Shape and dtype of every parameter, stored in the compute dtype."""
        return frozen.param_spec(self.model, self.config.dtype)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Returns the latent shape (t, h, w, c)."""
        scale = self.spatial_compression
        return self.config.latent_frames(frames), height // scale, width // scale, self.channels

    def check_frames(self, frames: int, name: str) -> None:
        """Raises `InputError` unless the VAE returns as many frames as it reads."""
        self.config.check_frames(frames, name)

    def encode(
        self, params: functional.Params, video: Float[Array, "b f h w 3"]
    ) -> autoencoder.Moments:
        """Returns the moments of the unscaled latents."""
        return self.model.encode(params, video)

    def scale(self, latents: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Multiplies latents by the VAE's scaling factor."""
        return autoencoder.scale_latents(self.config, latents)

    def decode(
        self, params: functional.Params, latents: Float[Array, "b t h w c"], *, tiled: bool = False
    ) -> Float[Array, "b f h2 w2 3"]:
        """Returns the clips of scaled latents in float32."""
        latents = autoencoder.unscale_latents(self.config, latents)
        return self.model.decode(params, latents, tiled=tiled).astype(jnp.float32)


class CausalVAECodec(_VAECodec):
    """`LatentCodec` of the causal 3D VAE of CogVideoX (arXiv 2408.06072).

    Args:
        config: Sizes of the VAE.
    """

    def __init__(self, config: VAEConfig):
        super().__init__(config, autoencoder.VAE)

    def whole_latents(self, latent_frames: int) -> int:
        """Returns the latent frames of the whole chunks among `latent_frames`."""
        return latent_frames - (latent_frames - 1) % self.config.latent_chunk

    def decode_chunk(
        self, params: functional.Params, latents: Float[Array, "b t h w c"], cache: Any = None
    ) -> tuple[Float[Array, "b f h2 w2 3"], Any]:
        """Returns the frames of one chunk of scaled latents, and the cache for the next one."""
        latents = autoencoder.unscale_latents(self.config, latents)
        frames, cache = self.model.decode_chunk(params, latents, cache)
        return frames.astype(jnp.float32), cache

    def chunks(self, latent_frames: int) -> list[slice]:
        """Returns the chunks that `decode` takes `latent_frames` in."""
        size = self.config.latent_chunk
        count = max(latent_frames // size, 1)
        ends = [latent_frames - size * (count - 1 - i) for i in range(count)]
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


class ImageVAECodec(_VAECodec):
    """`LatentCodec` of the VAE of Stable Diffusion (arXiv 2112.10752), frame by frame.

    Args:
        config: Sizes of the VAE.
    """

    def __init__(self, config: ImageVAEConfig):
        super().__init__(config, image.ImageVAE)

    def whole_latents(self, latent_frames: int) -> int:
        """Returns `latent_frames`: each is a whole frame."""
        return latent_frames

    def decode_chunk(
        self, params: functional.Params, latents: Float[Array, "b t h w c"], cache: Any = None
    ) -> tuple[Float[Array, "b t h2 w2 3"], Any]:
        """Returns the frames of some scaled latents; there is nothing to carry on."""
        return self.decode(params, latents), cache

    def chunks(self, latent_frames: int) -> list[slice]:
        """Returns slices of `frame_chunk` latent frames, and one of the rest."""
        size = self.config.frame_chunk
        return [slice(i, min(i + size, latent_frames)) for i in range(0, latent_frames, size)]


def make_codec(config: VAEConfig | ImageVAEConfig) -> CausalVAECodec | ImageVAECodec:
    """Returns the codec of a VAE."""
    kind = ImageVAECodec if isinstance(config, ImageVAEConfig) else CausalVAECodec
    return kind(config)
