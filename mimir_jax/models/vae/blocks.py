# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Norms, residual blocks and stages of the causal 3D VAE.

Every stage takes and returns the caches of its convolutions, a nested dict named like the
parameters; None starts a clip. Decoder norms also take the latent chunk they are conditioned on.
"""

from collections.abc import Callable
from typing import Any

import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.config import VAEConfig
from mimir_jax.models import functional, layers
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.vae import causal
from mimir_jax.parallel.context import constrain

Cache = dict[str, Any]


class GroupNorm(layers.GroupNorm):
    """Group normalisation of a chunk over its frames, pixels and the channels of a group."""

    def __init__(self, dim: int, cfg: VAEConfig, *, eps: float = 1e-6, rngs: Rngs):
        super().__init__(dim, cfg.norm_groups, eps=eps, dtype=cfg.dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t h w c"], latents: None = None
    ) -> Float[Array, "b t h w c"]:
        """Normalises in float32 and returns the compute dtype."""
        return super().__call__(x)


class SpatialNorm(nnx.Module):
    """Group normalisation followed by a scale and a shift read off the latents.

    The 1x1x1 convolutions run on the latent grid: they commute with the nearest resizing.
    """

    def __init__(self, dim: int, cfg: VAEConfig, *, rngs: Rngs):
        self.norm_layer = GroupNorm(dim, cfg, rngs=rngs)
        # Starts as the plain norm: scale one and shift zero, whatever the latents.
        make = lambda bias_init: causal.PointwiseConv3d(  # noqa: E731
            cfg.latent_channels,
            dim,
            kernel_init=layers.zeros,
            bias_init=bias_init,
            rngs=rngs,
            dtype=cfg.dtype,
        )
        self.conv_y = make(layers.ones)
        self.conv_b = make(layers.zeros)

    def __call__(
        self, x: Float[Array, "b t h w c"], latents: Float[Array, "b t2 h2 w2 z"]
    ) -> Float[Array, "b t h w c"]:
        """Normalises `x`, scaled and shifted by the latent under each pixel."""
        x = self.norm_layer(x)
        first = latents.shape[1] % 2
        factor = (x.shape[1] - first) // max(latents.shape[1] - first, 1)
        scale, shift = (
            causal.stretch_frames(conv(latents), factor)[:, :, :, None, :, None]
            for conv in (self.conv_y, self.conv_b)
        )  # (b, t, h2, 1, w2, 1, c)
        height, width = latents.shape[2:4]
        x = rearrange(x, "b t (h p) (w q) c -> b t h p w q c", h=height, w=width)
        return rearrange(x * scale + shift, "b t h p w q c -> b t (h p) (w q) c")


class ResBlock(nnx.Module):
    """Norm, SiLU, convolution, twice, plus the shortcut.

    Args:
        in_dim: Channels in.
        out_dim: Channels out; a 1x1x1 shortcut exists only if they differ.
        cfg: The VAE.
        norm: Builds a norm, called as `norm(dim, cfg, rngs=...)`: `GroupNorm` or `SpatialNorm`.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        cfg: VAEConfig,
        norm: Callable[..., nnx.Module],
        *,
        rngs: Rngs,
    ):
        self.norm1 = norm(in_dim, cfg, rngs=rngs)
        self.conv1 = causal.CausalConv3d(in_dim, out_dim, rngs=rngs, dtype=cfg.dtype)
        self.norm2 = norm(out_dim, cfg, rngs=rngs)
        self.conv2 = causal.CausalConv3d(out_dim, out_dim, rngs=rngs, dtype=cfg.dtype)
        self.conv_shortcut = (
            causal.PointwiseConv3d(in_dim, out_dim, rngs=rngs, dtype=cfg.dtype)
            if in_dim != out_dim
            else None
        )

    def __call__(
        self,
        x: Float[Array, "b t h w i"],
        latents: Float[Array, "b t2 h2 w2 z"] | None,
        cache: Cache | None,
    ) -> tuple[Float[Array, "b t h w o"], Cache]:
        """Runs one chunk."""
        cache = cache or {}
        h = jax.nn.silu(self.norm1(x, latents))
        h, first = self.conv1(h, cache.get("conv1"))
        h = jax.nn.silu(self.norm2(h, latents))
        h, second = self.conv2(h, cache.get("conv2"))
        x = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return constrain_frames(x + h), {"conv1": first, "conv2": second}


class Stage(nnx.Module):
    """Residual blocks of one resolution, then the way to the next one if there is any.

    Args:
        dims: Channels before each block and after the last.
        cfg: The VAE.
        norm: See `ResBlock`.
        downsampler, upsampler: Builds the last layer, called as `make(dim, rngs=..., dtype=...)`.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        cfg: VAEConfig,
        norm: Callable[..., nnx.Module],
        *,
        downsampler: Callable[..., nnx.Module] | None = None,
        upsampler: Callable[..., nnx.Module] | None = None,
        rngs: Rngs,
    ):
        self.resnets = functional.named(
            ResBlock(i, o, cfg, norm, rngs=rngs) for i, o in zip(dims[:-1], dims[1:], strict=True)
        )
        make = lambda layer: layer and layer(dims[-1], rngs=rngs, dtype=cfg.dtype)  # noqa: E731
        self.downsampler = make(downsampler)
        self.upsampler = make(upsampler)

    def __call__(
        self,
        x: Float[Array, "b t h w i"],
        latents: Float[Array, "b t2 h2 w2 z"] | None,
        cache: Cache | None,
    ) -> tuple[Float[Array, "b t3 h3 w3 o"], Cache]:
        """Runs one chunk."""
        x, cache = run(self.resnets, x, latents, cache)
        for resample in (self.downsampler, self.upsampler):
            x = x if resample is None else constrain_frames(resample(x))
        return x, cache


def run(
    modules: nnx.Dict,
    x: Float[Array, "b t h w i"],
    latents: Float[Array, "b t2 h2 w2 z"] | None,
    cache: Cache | None,
) -> tuple[Float[Array, "b t3 h3 w3 o"], Cache]:
    """Runs named modules one after the other, each with its own cache."""
    caches = {}
    for name, module in modules.items():
        x, caches[name] = module(x, latents, (cache or {}).get(name))
    return x, caches


def constrain_frames(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """Shards a chunk by its logical axes."""
    return constrain(x, "act_batch", "act_frames", "act_height", "act_width", "act_channels")
