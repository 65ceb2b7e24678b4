# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Encoder, decoder and autoencoder of the CogVideoX causal 3D VAE (arXiv 2408.06072).

Clips run in chunks, and norm statistics are per chunk, so the chunk plan is part of the model:
`frame_chunk` frames at a time to encode, `latent_chunk` latents at a time to decode, the first
chunk absorbing the remainder. Convolution caches carry over from chunk to chunk.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from mimir_jax import noise as noise_lib
from mimir_jax.config import ImageVAEConfig, VAEConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.vae import blocks, causal, tiling


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Diagonal Gaussian over latents (b, t, h, w, c), in float32; unscaled (see `scale_latents`).

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves.
    """

    mean: Any
    logvar: Any

    def sample(self, key: PRNGKeyArray) -> Float[Array, "b t h w c"]:
        """Draws latents."""
        noise = noise_lib.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise

    def mode(self) -> Float[Array, "b t h w c"]:
        """Returns the most likely latents."""
        return self.mean

    def kl(self) -> Float[Array, " b"]:
        """Divergence from the standard normal, summed over each sample."""
        terms = jnp.square(self.mean) + jnp.exp(self.logvar) - 1.0 - self.logvar
        return 0.5 * terms.sum((1, 2, 3, 4))


def scale_latents(
    cfg: VAEConfig | ImageVAEConfig, latents: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """Turns latents of the VAE into the latents that the diffusion model sees."""
    return latents * cfg.scaling_factor


def unscale_latents(
    cfg: VAEConfig | ImageVAEConfig, latents: Float[Array, "*s"]
) -> Float[Array, "*s"]:
    """Inverts `scale_latents`; apply it before `VAE.decode`."""
    return latents / cfg.scaling_factor


class Encoder(nnx.Module):
    """Chunk of frames -> moments of its latents."""

    def __init__(self, cfg: VAEConfig, *, rngs: Rngs):
        conv = functools.partial(causal.CausalConv3d, rngs=rngs, dtype=cfg.dtype)
        norm = functools.partial(blocks.GroupNorm, eps=cfg.norm_eps)
        channels = cfg.block_channels
        self.conv_in = conv(cfg.in_channels, channels[0])
        stages = []
        for i, (before, dim) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            down = functools.partial(causal.Downsample, time=cfg.temporal_compression > 2**i)
            stages.append(
                blocks.Stage(
                    (before, *[dim] * cfg.layers_per_block),
                    cfg,
                    norm,
                    downsampler=down if i < len(channels) - 1 else None,
                    rngs=rngs,
                )
            )
        self.down_blocks = functional.named(stages)
        self.mid_block = blocks.Stage((channels[-1],) * 3, cfg, norm, rngs=rngs)
        self.norm_out = blocks.GroupNorm(channels[-1], cfg, rngs=rngs)
        self.conv_out = conv(channels[-1], 2 * cfg.latent_channels, bias_init=_start_of_moments)

    def __call__(
        self, video: Float[Array, "b f h w c"], cache: blocks.Cache | None
    ) -> tuple[Float[Array, "b t h2 w2 z"], blocks.Cache]:
        """Encodes one chunk; None as cache starts a clip."""
        cache, new = cache or {}, {}
        x, new["conv_in"] = self.conv_in(video, cache.get("conv_in"))
        x, new["down_blocks"] = blocks.run(self.down_blocks, x, None, cache.get("down_blocks"))
        x, new["mid_block"] = self.mid_block(x, None, cache.get("mid_block"))
        x, new["conv_out"] = self.conv_out(jax.nn.silu(self.norm_out(x)), cache.get("conv_out"))
        return x, new


def _start_of_moments(key, shape, dtype):
    """Starts means at 0 and variances at e^-5: less noise than signal, so training gets going."""
    del key
    return jnp.where(jnp.arange(shape[0]) < shape[0] // 2, 0.0, -5.0).astype(dtype)


class Decoder(nnx.Module):
    """Chunk of latents -> frames; every norm is conditioned on the latents."""

    def __init__(self, cfg: VAEConfig, *, rngs: Rngs):
        conv = functools.partial(causal.CausalConv3d, rngs=rngs, dtype=cfg.dtype)
        norm, channels = blocks.SpatialNorm, cfg.block_channels[::-1]
        self.conv_in = conv(cfg.latent_channels, channels[0])
        self.mid_block = blocks.Stage((channels[0],) * 3, cfg, norm, rngs=rngs)
        stages = []
        for i, (before, dim) in enumerate(zip((channels[0], *channels), channels, strict=False)):
            up = functools.partial(causal.Upsample, time=cfg.temporal_compression > 2**i)
            stages.append(
                blocks.Stage(
                    (before, *[dim] * (cfg.layers_per_block + 1)),
                    cfg,
                    norm,
                    upsampler=up if i < len(channels) - 1 else None,
                    rngs=rngs,
                )
            )
        self.up_blocks = functional.named(stages)
        self.norm_out = norm(channels[-1], cfg, rngs=rngs)
        self.conv_out = conv(channels[-1], cfg.out_channels)

    def __call__(
        self, latents: Float[Array, "b t h w z"], cache: blocks.Cache | None
    ) -> tuple[Float[Array, "b f h2 w2 c"], blocks.Cache]:
        """Decodes one chunk; None as cache starts a clip."""
        cache, new = cache or {}, {}
        x, new["conv_in"] = self.conv_in(latents, cache.get("conv_in"))
        x, new["mid_block"] = self.mid_block(x, latents, cache.get("mid_block"))
        x, new["up_blocks"] = blocks.run(self.up_blocks, x, latents, cache.get("up_blocks"))
        x = jax.nn.silu(self.norm_out(x, latents))
        x, new["conv_out"] = self.conv_out(x, cache.get("conv_out"))
        return x, new


class VAE(nnx.Module):
    """Video <-> latents. Pixels in [-1, 1], latents unscaled."""

    def __init__(self, cfg: VAEConfig, *, rngs: Rngs):
        self.encoder = Encoder(cfg, rngs=rngs)
        self.decoder = Decoder(cfg, rngs=rngs)
        self.cfg = cfg

    def encode(self, video: Float[Array, "b f h w c"], *, tiled: bool = False) -> Moments:
        """Returns the moments (b, t, h / 8, w / 8, z) of clips with any number of frames.

        Args:
            video: Pixels in [-1, 1].
            tiled: Whether to run and blend overlapping tiles, for large frames.
        """
        step = self.cfg.spatial_compression
        if video.shape[2] % step or video.shape[3] % step:
            raise InputError(
                f"video height and width must be multiples of {step}, got {video.shape[2]} and "
                f"{video.shape[3]}; resize or crop the video"
            )
        one = functools.partial(run_in_chunks, self.encoder, size=self.cfg.frame_chunk)
        x = tiling.encode(one, video, self.cfg) if tiled else one(video)
        mean, logvar = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return Moments(mean=mean, logvar=jnp.clip(logvar, -30.0, 20.0))

    def decode_chunk(
        self, latents: Float[Array, "b t h w z"], cache: blocks.Cache | None
    ) -> tuple[Float[Array, "b f h2 w2 c"], blocks.Cache]:
        """Returns the frames of one chunk of unscaled latents, and the cache for the next one."""
        return self.decoder(latents, cache)

    def decode(
        self, latents: Float[Array, "b t h w z"], *, tiled: bool = False
    ) -> Float[Array, "b f h2 w2 c"]:
        """Returns the video of unscaled latents; `tiled` as in `encode`."""
        one = functools.partial(run_in_chunks, self.decoder, size=self.cfg.latent_chunk)
        return tiling.decode(one, latents, self.cfg) if tiled else one(latents)


def run_in_chunks(
    coder: Encoder | Decoder, x: Float[Array, "b t h w c"], *, size: int
) -> Float[Array, "b t2 h2 w2 c2"]:
    """Runs `coder` over chunks of `size`, the first one longer by the remainder.

    The other chunks are equal, so they run under one `lax.scan` with the caches as carry.
    """
    count = max(x.shape[1] // size, 1)
    first = x.shape[1] - (count - 1) * size
    y, cache = coder(x[:, :first], None)
    if count == 1:
        return y
    rest = rearrange(x[:, first:], "b (n t) h w c -> n b t h w c", n=count - 1)
    _, ys = jax.lax.scan(lambda cache, chunk: coder(chunk, cache)[::-1], cache, rest)
    return jnp.concatenate([y, rearrange(ys, "n b t h w c -> b (n t) h w c")], axis=1)
