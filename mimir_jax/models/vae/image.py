# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VAE of Stable Diffusion, KL-f8 (arXiv 2112.10752): every frame of a clip is one image.

Parameters have the names of the original code. Frames run `frame_chunk` at a time, which changes
memory and not the result.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.errors import require
from mimir_jax.models import convolution, functional, layers
from mimir_jax.models.attention import text
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.vae import tiling
from mimir_jax.models.vae.autoencoder import Moments
from mimir_jax.models.vae.config import ImageVAEConfig
from mimir_jax.parallel.context import constrain

_EPS = 1e-6


class ResBlock(nnx.Module):
    """Norm, SiLU, convolution, twice, plus the input."""

    def __init__(self, in_dim: int, out_dim: int, cfg: ImageVAEConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        norm = dict(groups=cfg.norm_groups, eps=_EPS, **options)
        self.norm1 = layers.GroupNorm(in_dim, **norm)
        self.conv1 = convolution.Conv2d(in_dim, out_dim, **options)
        self.norm2 = layers.GroupNorm(out_dim, **norm)
        self.conv2 = convolution.Conv2d(out_dim, out_dim, **options)
        self.nin_shortcut = (
            convolution.Conv2d(in_dim, out_dim, 1, **options) if in_dim != out_dim else None
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        """Runs over frames."""
        h = self.conv1(jax.nn.silu(layers.per_frame(self.norm1, x)))
        h = self.conv2(jax.nn.silu(layers.per_frame(self.norm2, h)))
        x = h + (x if self.nin_shortcut is None else self.nin_shortcut(x))
        return constrain(x, "act_batch", "act_frames", "act_height", "act_width", "act_channels")


class Attention(nnx.Module):
    """Attention with one head among the pixels of a frame."""

    def __init__(self, dim: int, cfg: ImageVAEConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.norm = layers.GroupNorm(dim, cfg.norm_groups, eps=_EPS, **options)
        self.q, self.k, self.v, self.proj_out = (
            convolution.Conv2d(dim, dim, 1, **options) for _ in range(4)
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Adds what the pixels read of each other."""
        h = layers.per_frame(self.norm, x)
        q, k, v = (
            rearrange(part(h), "b t h w c -> (b t) (h w) 1 c") for part in (self.q, self.k, self.v)
        )
        h = text.attend(q, k, v, scale=q.shape[-1] ** -0.5)
        split = dict(b=x.shape[0], h=x.shape[2])
        return x + self.proj_out(rearrange(h, "(b t) (h w) 1 c -> b t h w c", **split))


class Middle(nnx.Module):
    """Two residual blocks around attention."""

    def __init__(self, dim: int, cfg: ImageVAEConfig, *, rngs: Rngs):
        self.block_1 = ResBlock(dim, dim, cfg, rngs=rngs)
        self.attn_1 = Attention(dim, cfg, rngs=rngs)
        self.block_2 = ResBlock(dim, dim, cfg, rngs=rngs)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Runs the parts one after the other."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Stage(nnx.Module):
    """Residual blocks of one size."""

    def __init__(self, in_dim: int, dim: int, count: int, cfg: ImageVAEConfig, rngs: Rngs):
        self.block = functional.named(
            ResBlock(in_dim if i == 0 else dim, dim, cfg, rngs=rngs) for i in range(count)
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        """Runs the blocks one after the other."""
        for block in self.block.values():
            x = block(x)
        return x


class Encoder(nnx.Module):
    """Frames to what the moments are read from."""

    def __init__(self, cfg: ImageVAEConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        half = dict(stride=2, padding=((0, 1), (0, 1)), **options)
        dims = cfg.block_channels
        self.conv_in = convolution.Conv2d(cfg.in_channels, dims[0], **options)
        stages = [
            Stage(before, dim, cfg.layers_per_block, cfg, rngs)
            for before, dim in zip((dims[0], *dims), dims, strict=False)
        ]
        for stage, dim in zip(stages[:-1], dims, strict=False):
            stage.downsample = convolution.Conv2d(dim, dim, **half)
        self.down = functional.named(stages)
        self.mid = Middle(dims[-1], cfg, rngs=rngs)
        self.norm_out = layers.GroupNorm(dims[-1], cfg.norm_groups, eps=_EPS, **options)
        self.conv_out = convolution.Conv2d(dims[-1], 2 * cfg.latent_channels, **options)

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 z"]:
        """Encodes frames."""
        x = self.conv_in(x)
        for stage in self.down.values():
            x = stage(x)
            x = stage.downsample(x) if hasattr(stage, "downsample") else x
        x = self.mid(x)
        return self.conv_out(jax.nn.silu(layers.per_frame(self.norm_out, x)))


class Decoder(nnx.Module):
    """Latents to frames; stages are numbered from the pixels inwards."""

    def __init__(self, cfg: ImageVAEConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        dims = cfg.block_channels
        self.conv_in = convolution.Conv2d(cfg.latent_channels, dims[-1], **options)
        self.mid = Middle(dims[-1], cfg, rngs=rngs)
        stages = [
            Stage(before, dim, cfg.layers_per_block + 1, cfg, rngs)
            for before, dim in zip((*dims[1:], dims[-1]), dims, strict=True)
        ]
        for stage, dim in zip(stages[1:], dims[1:], strict=True):
            stage.upsample = convolution.Conv2d(dim, dim, **options)
        self.up = functional.named(stages)
        self.norm_out = layers.GroupNorm(dims[0], cfg.norm_groups, eps=_EPS, **options)
        self.conv_out = convolution.Conv2d(dims[0], cfg.out_channels, **options)

    def __call__(self, x: Float[Array, "b t h w z"]) -> Float[Array, "b t h2 w2 c"]:
        """Decodes latents."""
        x = self.mid(self.conv_in(x))
        for stage in reversed(list(self.up.values())):
            x = stage(x)
            x = stage.upsample(convolution.upsample(x)) if hasattr(stage, "upsample") else x
        return self.conv_out(jax.nn.silu(layers.per_frame(self.norm_out, x)))


class ImageVAE(nnx.Module):
    """Video <-> latents, frame by frame. Pixels in [-1, 1], latents unscaled."""

    def __init__(self, cfg: ImageVAEConfig, *, rngs: Rngs):
        point = functools.partial(convolution.Conv2d, size=1, dtype=cfg.dtype, rngs=rngs)
        self.encoder = Encoder(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)
        self.quant_conv = point(2 * cfg.latent_channels, 2 * cfg.latent_channels)
        self.post_quant_conv = point(cfg.latent_channels, cfg.latent_channels)
        self.cfg = cfg

    def encode(self, video: Float[Array, "b f h w c"], *, tiled: bool = False) -> Moments:
        """Returns the moments (b, f, h / 8, w / 8, z) of clips with any number of frames.

        Args:
            video: Pixels in [-1, 1].
            tiled: Whether to run and blend overlapping tiles, for large frames.

        Raises:
            InputError: for a height or width that is no multiple of the compression.
        """
        step = self.cfg.spatial_compression
        require(
            video.shape[2] % step == 0 == video.shape[3] % step,
            f"video height and width must be multiples of {step}, got {video.shape[2]} and "
            f"{video.shape[3]}; resize or crop the video",
        )
        run = functools.partial(self._in_chunks, lambda x: self.quant_conv(self.encoder(x)))
        x = tiling.encode(run, video, self.cfg) if tiled else run(video)
        mean, logvar = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return Moments(mean=mean, logvar=jnp.clip(logvar, -30.0, 20.0))

    def decode(
        self, latents: Float[Array, "b f h w z"], *, tiled: bool = False
    ) -> Float[Array, "b f h2 w2 c"]:
        """Returns the video of unscaled latents; `tiled` as in `encode`."""
        run = functools.partial(self._in_chunks, lambda x: self.decoder(self.post_quant_conv(x)))
        return tiling.decode(run, latents, self.cfg) if tiled else run(latents)

    def _in_chunks(
        self, coder: Callable[[Array], Array], x: Float[Array, "b f h w c"]
    ) -> Float[Array, "b f h2 w2 c2"]:
        """Runs `coder` over at most `frame_chunk` frames of the batch at a time."""
        if x.shape[0] * x.shape[1] <= self.cfg.frame_chunk:
            return coder(x)
        frames = rearrange(x, "b f h w c -> (b f) 1 h w c")
        y = jax.lax.map(
            lambda frame: coder(frame[None])[0], frames, batch_size=self.cfg.frame_chunk
        )
        return rearrange(y, "(b f) 1 h w c -> b f h w c", b=len(x))
