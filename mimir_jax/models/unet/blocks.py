# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Residual blocks of the video U-Net, and its levels."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.models import convolution, functional, layers
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.unet.transformer import Context, Transformer
from mimir_jax.parallel.context import constrain

_GROUP_EPS = 1e-5


class TemporalConv(nnx.Module):
    """Group norm over the clip, SiLU, and a convolution over three frames of a pixel."""

    def __init__(
        self,
        dim: int,
        cfg: UNetConfig,
        *,
        rngs: Rngs,
        init: layers.Initializer = layers.fan_in,
    ):
        axes = (None, None, None, "conv_in", "conv_out")
        self.norm = layers.GroupNorm(
            dim, cfg.norm_groups, eps=_GROUP_EPS, dtype=cfg.dtype, rngs=rngs
        )
        self.kernel = layers.param((3, 1, 1, dim, dim), axes, init, rngs=rngs)
        self.bias = layers.param((dim,), ("conv_out",), layers.zeros, rngs=rngs)
        self.dtype = cfg.dtype

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        """Convolves, with frames of zeros before and after the clip."""
        x = jnp.pad(jax.nn.silu(self.norm(x)), ((0, 0), (1, 1), (0, 0), (0, 0), (0, 0)))
        y = convolution.conv3d(x, self.kernel[...].astype(self.dtype))
        return y + layers.along_last(self.bias[...], y)


class ResBlock(nnx.Module):
    """Residual block of each frame, steered by the time, then one over time.

    The last convolution of either part starts at zero.

    Args:
        in_dim: Channels in.
        out_dim: Channels out; a pointwise shortcut exists only if they differ.
        cfg: The U-Net.
    """

    def __init__(self, in_dim: int, out_dim: int, cfg: UNetConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        norm = dict(eps=_GROUP_EPS, **options)
        self.norm1 = layers.GroupNorm(in_dim, cfg.norm_groups, **norm)
        self.conv1 = convolution.Conv2d(in_dim, out_dim, **options)
        self.time = layers.Linear(cfg.time_width, out_dim, axes=("embed", None), **options)
        self.norm2 = layers.GroupNorm(out_dim, cfg.norm_groups, **norm)
        self.conv2 = convolution.Conv2d(out_dim, out_dim, init=layers.zeros, **options)
        self.shortcut = (
            convolution.Conv2d(in_dim, out_dim, 1, **options) if in_dim != out_dim else None
        )
        inits = [layers.fan_in] * 3 + [layers.zeros]
        self.temporal = functional.named(
            TemporalConv(out_dim, cfg, init=init, rngs=rngs) for init in inits
        )

    def __call__(
        self, x: Float[Array, "b t h w i"], time: Float[Array, "b e"]
    ) -> Float[Array, "b t h w o"]:
        """Adds both parts to `x`.

        Args:
            x: Frames.
            time: Embedding of timestep and frame stride.
        """
        h = self.conv1(jax.nn.silu(layers.per_frame(self.norm1, x)))
        h = h + self.time(jax.nn.silu(time))[:, None, None, None]
        h = self.conv2(jax.nn.silu(layers.per_frame(self.norm2, h)))
        h = h + (x if self.shortcut is None else self.shortcut(x))
        y = h
        for part in self.temporal.values():
            y = part(y)
        return constrain(
            h + y, "act_batch", "act_frames", "act_height", "act_width", "act_channels"
        )


class Step(nnx.Module):
    """Residual block, then attention over pixels and over frames where the level has it."""

    def __init__(self, in_dim: int, out_dim: int, cfg: UNetConfig, *, attention: bool, rngs: Rngs):
        self.residual = ResBlock(in_dim, out_dim, cfg, rngs=rngs)
        self.pixels = Transformer(out_dim, "pixels", cfg, rngs=rngs) if attention else None
        self.frames = Transformer(out_dim, "frames", cfg, rngs=rngs) if attention else None
        self.remat = cfg.remat

    def __call__(
        self, x: Float[Array, "b t h w i"], time: Float[Array, "b e"], context: Context
    ) -> Float[Array, "b t h w o"]:
        """Runs the parts one after the other."""

        def run(x: Array, time: Array, context: Context) -> Array:
            x = self.residual(x, time)
            for transformer in (self.pixels, self.frames):
                x = x if transformer is None else transformer(x, context)
            return x

        return functional.checkpointed(run, self.remat)(x, time, context)


class Level(nnx.Module):
    """Steps of one size, and the convolution to the next size where there is one."""

    def __init__(self, steps: list[Step], resample: nnx.Module | None):
        self.steps = functional.named(steps)
        self.resample = resample


class Middle(nnx.Module):
    """Two residual blocks around attention, at the smallest size."""

    def __init__(self, dim: int, cfg: UNetConfig, *, rngs: Rngs):
        self.first = Step(dim, dim, cfg, attention=True, rngs=rngs)
        self.last = Step(dim, dim, cfg, attention=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t h w c"], time: Float[Array, "b e"], context: Context
    ) -> Float[Array, "b t h w c"]:
        """Runs the parts one after the other."""
        return self.last(self.first(x, time, context), time, context)
