# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Convolutions of frames and of clips, channels last, and their gradients.

XLA's CPU backend runs a convolution fast only in some layouts, so each has a gradient of its own.
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
from mimir_jax.models.rngs import Rngs

Padding = tuple[tuple[int, int], tuple[int, int]]

_FEW_CHANNELS = 8  # up to here the CPU path folds the time taps into the channels


class Conv2d(nnx.Module):
    """Convolution of every frame on its own, with zero padding.

    Args:
        in_dim: Channels in.
        out_dim: Channels out.
        size: Height and width of the kernel.
        stride: Pixels from one output to the next.
        padding: Rows and columns of zeros before and after a frame; None keeps its size at stride
            one.
        init: Draws the kernel.
        dtype: Dtype of the computation.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        size: int = 3,
        *,
        rngs: Rngs,
        stride: int = 1,
        padding: Padding | None = None,
        init: layers.Initializer = layers.fan_in,
        dtype: DType = "float32",
    ):
        axes = (None, None, "conv_in", "conv_out")
        self.kernel = layers.param((size, size, in_dim, out_dim), axes, init, rngs=rngs)
        self.bias = layers.param((out_dim,), ("conv_out",), layers.zeros, rngs=rngs)
        self.stride = stride
        self.padding = ((size // 2,) * 2,) * 2 if padding is None else padding
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h2 w2 o"]:
        """Convolves the frames of a batch of clips."""
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        if kernel.shape[:2] == (1, 1) and self.stride == 1:
            y = x @ kernel[0, 0]
        else:
            frames = rearrange(x, "b t h w c -> (b t) h w c")
            y = conv2d(frames, kernel, self.stride, self.padding)
            y = rearrange(y, "(b t) h w c -> b t h w c", b=x.shape[0])
        return y + layers.along_last(self.bias[...], y)


def upsample(x: Float[Array, "b t h w c"]) -> Float[Array, "b t 2*h 2*w c"]:
    """Doubles height and width by repeating pixels."""
    return repeat(x, "b t h w c -> b t (h 2) (w 2) c")


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
