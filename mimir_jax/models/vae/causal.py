# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal 3D convolution with an explicit cache, and the resampling layers of the CogVideoX VAE.

A chunk of frames enters a convolution behind the last two frames of the chunk before it; the first
chunk enters behind two copies of its first frame. Those two frames are the cache: an argument and
a result of every call.
"""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jax import lax
from jaxtyping import Array, Float

from mimir_jax.config import DType
from mimir_jax.models import layers

Padding = tuple[tuple[int, int], tuple[int, int]]

_FEW_CHANNELS = 8  # up to here the CPU path folds the time taps into the channels


class CausalConv3d(nnx.Module):
    """3x3x3 convolution that sees no later frame; zero padding in space."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rngs: nnx.Rngs,
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
        y = conv3d(x, self.kernel[...].astype(self.dtype))
        return y + layers.along_last(self.bias[...], y), x[:, -2:]


class PointwiseConv3d(nnx.Module):
    """1x1x1 convolution; needs no cache."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rngs: nnx.Rngs,
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

    def __init__(self, dim: int, *, time: bool, rngs: nnx.Rngs, dtype: DType = "float32"):
        axes = (None, None, "conv_in", "conv_out")
        self.kernel = layers.param((3, 3, dim, dim), axes, layers.fan_in, rngs=rngs)
        self.bias = layers.param((dim,), ("conv_out",), layers.zeros, rngs=rngs)
        self.time = time
        self.dtype = dtype

    def _conv(self, x, padding, stride=1):
        frames = rearrange(x.astype(self.dtype), "b t h w c -> (b t) h w c")
        y = conv2d(frames, self.kernel[...].astype(self.dtype), stride, padding)
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
        x = repeat(x, "b t h w c -> b t (h 2) (w 2) c")
        x = self._conv(x, padding=((1, 1), (1, 1)))
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int = 1,
    padding: Padding = ((1, 1), (1, 1)),
) -> Float[Array, "n h2 w2 o"]:
    """Convolves every frame on its own.

    XLA's CPU backend runs a convolution fast only if it is written in this layout, and inside a
    loop it does not rewrite the others, such as those of the automatic gradient.
    """
    return _nhwc(x, kernel, padding, stride=stride)


def _conv2d_forward(x, kernel, stride, padding):
    return conv2d(x, kernel, stride, padding), (x, kernel)


def _conv2d_backward(stride, padding, residuals, dy):
    def direct(x, kernel, dy):
        return jax.vjp(lambda x, k: _nhwc(x, k, padding, stride=stride), x, kernel)[1](dy)

    cpu = functools.partial(conv2d_vjp, stride=stride, padding=padding)
    return lax.platform_dependent(*residuals, dy, cpu=cpu, default=direct)


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def conv2d_vjp(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "kh kw i o"],
    dy: Float[Array, "n h2 w2 o"],
    *,
    stride: int = 1,
    padding: Padding = ((1, 1), (1, 1)),
) -> tuple[Float[Array, "n h w i"], Float[Array, "kh kw i o"]]:
    """Cotangents of `conv2d` as two more convolutions in its own layout."""
    dx_padding = []
    for size, out, k, (low, _) in zip(
        x.shape[1:3], dy.shape[1:3], kernel.shape[:2], padding, strict=True
    ):
        dx_padding.append((k - 1 - low, size + low - (out - 1) * stride - 1))
    flipped = rearrange(kernel[::-1, ::-1], "kh kw i o -> kh kw o i")
    dx = _nhwc(dy, flipped, dx_padding, lhs_dilation=(stride, stride))
    dkernel = _kernel_gradient(x[None], dy[None], kernel.shape[:2], padding, stride)
    return dx, dkernel[0]


def _kernel_gradient(x, dy, sides, padding, stride=1):
    """Contracts frames, rows and columns by one convolution per kernel column.

    Frames and rows are the window, batch and columns the features. Shifting `dy` instead of `x`
    moves whole pixels, so the only costly transposition is the one of `x`.
    """
    x_rows = rearrange(x, "b t h w i -> i t h (b w)")
    (row_low, _), (col_low, _) = padding
    row_high = (dy.shape[2] - 1) * stride + sides[0] - row_low - x.shape[2]
    columns = []
    for col in range(sides[1]):
        low = col - col_low
        high = x.shape[3] - low - (dy.shape[3] - 1) * stride - 1
        none = (0, 0, 0)
        shifted = lax.pad(
            dy, jnp.zeros((), dy.dtype), (none, none, none, (low, high, stride - 1), none)
        )
        column = _nhwc(
            x_rows,
            rearrange(shifted, "b t h w o -> t h (b w) o"),
            ((0, 0), (row_low, row_high)),
            rhs_dilation=(1, stride),
        )
        columns.append(column)  # (i, kt, kh, o)
    return rearrange(jnp.stack(columns), "kw i kt kh o -> kt kh kw i o")


def _nhwc(x, kernel, padding, *, stride=1, lhs_dilation=(1, 1), rhs_dilation=(1, 1)):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _per_frame(x, kernel, padding):
    y = _nhwc(rearrange(x, "b t h w i -> (b t) h w i"), kernel, padding)
    return rearrange(y, "(b t) h w o -> b t h w o", b=x.shape[0])


@jax.custom_vjp
def conv3d(
    x: Float[Array, "b T h w i"], kernel: Float[Array, "kt kh kw i o"]
) -> Float[Array, "b t h w o"]:
    """Convolves without padding in time (t = T - kt + 1) and with zero padding in space.

    XLA's 3D convolution is slow on CPUs, where 2D convolutions over the time taps take its place.
    """
    return lax.platform_dependent(x, kernel, cpu=conv3d_taps, default=conv3d_direct)


def _conv3d_forward(x, kernel):
    return conv3d(x, kernel), (x, kernel)


def _conv3d_backward(residuals, dy):
    def direct(x, kernel, dy):
        return jax.vjp(conv3d_direct, x, kernel)[1](dy)

    return lax.platform_dependent(*residuals, dy, cpu=conv3d_taps_vjp, default=direct)


conv3d.defvjp(_conv3d_forward, _conv3d_backward)


def conv3d_direct(
    x: Float[Array, "b T h w i"], kernel: Float[Array, "kt kh kw i o"]
) -> Float[Array, "b t h w o"]:
    """`conv3d` as one XLA convolution."""
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, 1, 1),
        ((0, 0), *_same(kernel)),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )


def conv3d_taps(
    x: Float[Array, "b T h w i"], kernel: Float[Array, "kt kh kw i o"]
) -> Float[Array, "b t h w o"]:
    """`conv3d` as 2D convolutions: one per time tap, or a single one where channels are few."""
    taps, _, _, in_dim, out_dim = kernel.shape
    frames = x.shape[1] - taps + 1
    padding = _same(kernel)
    if in_dim <= _FEW_CHANNELS:
        x = jnp.concatenate([x[:, k : k + frames] for k in range(taps)], axis=-1)
        return _per_frame(x, rearrange(kernel, "kt kh kw i o -> kh kw (kt i) o"), padding)
    if out_dim <= _FEW_CHANNELS:
        y = _per_frame(x, rearrange(kernel, "kt kh kw i o -> kh kw i (kt o)"), padding)
        y = rearrange(y, "b t h w (kt o) -> kt b t h w o", kt=taps)
        return sum(y[k, :, k : k + frames] for k in range(taps))
    return sum(_per_frame(x[:, k : k + frames], kernel[k], padding) for k in range(taps))


def conv3d_taps_vjp(
    x: Float[Array, "b T h w i"],
    kernel: Float[Array, "kt kh kw i o"],
    dy: Float[Array, "b t h w o"],
) -> tuple[Float[Array, "b T h w i"], Float[Array, "kt kh kw i o"]]:
    """Cotangents of `conv3d_taps`, as 2D convolutions again."""
    taps = kernel.shape[0]
    padded = jnp.pad(dy, ((0, 0), (taps - 1, taps - 1), (0, 0), (0, 0), (0, 0)))
    flipped = rearrange(kernel[::-1, ::-1, ::-1], "kt kh kw i o -> kt kh kw o i")
    dx = conv3d_taps(padded, flipped)
    return dx, _kernel_gradient(x, dy, kernel.shape[1:3], _same(kernel))


def _same(kernel: Float[Array, "kt kh kw i o"]) -> Padding:
    return tuple((k // 2, k // 2) for k in kernel.shape[1:3])
