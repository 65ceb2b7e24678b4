# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal 3D convolution with an explicit cache, and the resampling layers of the CogVideoX VAE.

A chunk of frames enters a convolution behind the last two frames of the chunk before it; the first
chunk enters behind two copies of its first frame. Those two frames are the cache: an argument and
a result of every call.
"""

import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.config import DType
from mimir_jax.models import convolution, layers
from mimir_jax.models.rngs import Rngs


class CausalConv3d(nnx.Module):
    """3x3x3 convolution that sees no later frame; zero padding in space."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rngs: Rngs,
        bias_init: layers.Initializer = layers.zeros,
        dtype: DType = "float32",
    ):
        axes = (None, None, None, "conv_in", "conv_out")
        self.kernel = layers.param((3, 3, 3, in_dim, out_dim), axes, layers.fan_in, rngs=rngs)
        self.bias = layers.param((out_dim,), ("conv_out",), bias_init, rngs=rngs)
        self.dtype = dtype

    def __call__(
        self, x: Float[Array, "b t h w i"], cache: Float[Array, "b 2 h w i"] | None
    ) -> tuple[Float[Array, "b t h w o"], Float[Array, "b 2 h w i"]]:
        """Convolves one chunk.

        Args:
            x: The chunk.
            cache: The last two input frames of the previous chunk, None for the first chunk.

        Returns:
            The outputs and the cache for the next chunk.
        """
        x = x.astype(self.dtype)
        cache = repeat(x[:, 0], "b h w i -> b 2 h w i") if cache is None else cache
        x = jnp.concatenate([cache, x], axis=1)  # (b, t + 2, h, w, i)
        y = convolution.conv3d(x, self.kernel[...].astype(self.dtype))
        return y + layers.along_last(self.bias[...], y), x[:, -2:]


class PointwiseConv3d(nnx.Module):
    """1x1x1 convolution; needs no cache."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rngs: Rngs,
        kernel_init: layers.Initializer = layers.fan_in,
        bias_init: layers.Initializer = layers.zeros,
        dtype: DType = "float32",
    ):
        axes = (None, None, None, "conv_in", "conv_out")
        self.kernel = layers.param((1, 1, 1, in_dim, out_dim), axes, kernel_init, rngs=rngs)
        self.bias = layers.param((out_dim,), ("conv_out",), bias_init, rngs=rngs)
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        """Maps the channels."""
        y = x.astype(self.dtype) @ self.kernel[0, 0, 0].astype(self.dtype)
        return y + layers.along_last(self.bias[...], y)


class Resample(nnx.Module):
    """Per-frame 3x3 convolution that halves or doubles the sides, and the frames if `time`."""

    def __init__(self, dim: int, *, time: bool, rngs: Rngs, dtype: DType = "float32"):
        axes = (None, None, "conv_in", "conv_out")
        self.kernel = layers.param((3, 3, dim, dim), axes, layers.fan_in, rngs=rngs)
        self.bias = layers.param((dim,), ("conv_out",), layers.zeros, rngs=rngs)
        self.time = time
        self.dtype = dtype

    def _conv(self, x, padding, stride=1):
        frames = rearrange(x.astype(self.dtype), "b t h w c -> (b t) h w c")
        y = convolution.conv2d(frames, self.kernel[...].astype(self.dtype), stride, padding)
        y = y + layers.along_last(self.bias[...], y)
        return rearrange(y, "(b t) h w c -> b t h w c", b=x.shape[0])


class Downsample(Resample):
    """Averages pairs of frames, then a stride-2 convolution padded at the bottom and right."""

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c"]:
        """Halves height and width, and frames if `time`."""
        if self.time and x.shape[1] > 1:
            x = _average_pairs(x)
        return self._conv(x, padding=((0, 1), (0, 1)), stride=2)


class Upsample(Resample):
    """Nearest doubling, then a convolution."""

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 2*h 2*w c"]:
        """Doubles height and width, and frames if `time`."""
        x = self._conv(convolution.upsample(x), padding=((1, 1), (1, 1)))
        # The convolution is per frame, so doubling after it gives the same and costs half.
        return stretch_frames(x, 2) if self.time else x


def stretch_frames(x: Float[Array, "b t *s"], factor: int) -> Float[Array, "b t2 *s"]:
    """Repeats every frame; an odd count keeps its first frame single."""
    first = x.shape[1] % 2
    return jnp.concatenate([x[:, :first], jnp.repeat(x[:, first:], factor, axis=1)], axis=1)


def _average_pairs(x):
    first = x.shape[1] % 2
    pairs = rearrange(x[:, first:], "b (t p) h w c -> b t p h w c", p=2)
    return jnp.concatenate([x[:, :first], (pairs[:, :, 0] + pairs[:, :, 1]) * 0.5], axis=1)
