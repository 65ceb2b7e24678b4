# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers shared by every network, each parameter with its logical axes beside its shape.

Parameters are float32; `dtype` is the compute dtype. Norm statistics are always float32.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mimir_jax import noise as noise_lib
from mimir_jax.config import DType
from mimir_jax.errors import InputError
from mimir_jax.models.rngs import Rngs

Axes = tuple[str | None, ...]
Initializer = Callable[..., Array]

zeros = nnx.initializers.zeros_init()
ones = nnx.initializers.ones_init()


def fan_in(key: PRNGKeyArray, shape: Sequence[int], dtype: DTypeLike) -> Float[Array, "..."]:
    """Draws a kernel whose last axis counts its outputs, for outputs of the inputs' variance."""
    return noise_lib.normal(key, shape, dtype) * math.prod(shape[:-1]) ** -0.5


def param(shape: Sequence[int], axes: Axes, init: Initializer, *, rngs: Rngs) -> nnx.Param:
    """Returns a float32 parameter, its shape if `rngs` has no keys; `axes` names each dimension."""
    if len(shape) != len(axes):
        raise InputError(f"axes must name every dimension, got shape {shape} and axes {axes}")
    key, shape = rngs.params(), tuple(shape)
    abstract = jax.ShapeDtypeStruct(shape, jnp.float32)
    drawn = abstract if key is None else init(key, shape, jnp.float32)
    return nnx.Param(drawn, axes=axes)


def along_last(vector: Float[Array, " d"], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Shapes a vector to broadcast along the last axis of `x`, in the dtype of `x`."""
    return jax.lax.expand_dims(vector.astype(x.dtype), range(x.ndim - 1))


class Linear(nnx.Module):
    """Affine map of the last axis, `y = x @ kernel + bias`."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        axes: tuple[str | None, str | None],
        rngs: Rngs,
        bias: bool = True,
        init: Initializer = fan_in,
        dtype: DType = "float32",
    ):
        self.kernel = param((in_dim, out_dim), axes, init, rngs=rngs)
        self.bias = param((out_dim,), axes[1:], zeros, rngs=rngs) if bias else None
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        """Maps the last axis."""
        y = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        return y if self.bias is None else y + along_last(self.bias[...], y)


class Embedding(nnx.Module):
    """Table lookup; `attend` is the tied output projection."""

    def __init__(
        self,
        num: int,
        width: int,
        *,
        rngs: Rngs,
        init: Initializer | None = None,
        dtype: DType = "float32",
    ):
        init = nnx.initializers.normal(0.02) if init is None else init
        self.table = param((num, width), ("vocab", "embed"), init, rngs=rngs)
        self.dtype = dtype

    def __call__(self, ids: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        """Looks `ids` up."""
        return jnp.take(self.table[...], ids, axis=0).astype(self.dtype)

    def attend(self, x: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        """Projects `x` onto the rows of the table."""
        return x.astype(self.dtype) @ self.table[...].astype(self.dtype).T


class LayerNorm(nnx.Module):
    """Layer normalisation of the last axis, with an affine part unless `affine=False`."""

    def __init__(
        self,
        dim: int,
        *,
        rngs: Rngs,
        eps: float = 1e-6,
        affine: bool = True,
        axis: str = "norm",
        dtype: DType = "float32",
    ):
        self.scale = param((dim,), (axis,), ones, rngs=rngs) if affine else None
        self.bias = param((dim,), (axis,), zeros, rngs=rngs) if affine else None
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Normalises in float32 and returns the compute dtype."""
        x = x.astype(jnp.float32)
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + self.eps)
        if self.scale is not None:
            x = x * along_last(self.scale[...], x) + along_last(self.bias[...], x)
        return x.astype(self.dtype)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation of the last axis (arXiv 1910.07467)."""

    def __init__(
        self,
        dim: int,
        *,
        rngs: Rngs,
        eps: float = 1e-6,
        affine: bool = True,
        dtype: DType = "float32",
    ):
        self.scale = param((dim,), ("norm",), ones, rngs=rngs) if affine else None
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Normalises in float32 and returns the compute dtype."""
        x = x.astype(jnp.float32)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + self.eps)
        if self.scale is not None:
            x = x * along_last(self.scale[...], x)
        return x.astype(self.dtype)


class GroupNorm(nnx.Module):
    """Normalisation of each row over all its positions and the channels of a group."""

    def __init__(
        self,
        dim: int,
        groups: int,
        *,
        rngs: Rngs,
        eps: float = 1e-6,
        dtype: DType = "float32",
    ):
        self.scale = param((dim,), ("norm",), ones, rngs=rngs)
        self.bias = param((dim,), ("norm",), zeros, rngs=rngs)
        self.groups = groups
        self.eps = eps
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b *s d"]) -> Float[Array, "b *s d"]:
        """Normalises in float32 and returns the compute dtype."""
        x = standardize_groups(x, self.groups, self.eps)
        x = x * along_last(self.scale[...], x) + along_last(self.bias[...], x)
        return x.astype(self.dtype)


def per_frame(
    norm: Callable[[Array], Array], x: Float[Array, "b t *s d"]
) -> Float[Array, "b t *s d"]:
    """Applies a norm to each frame by itself."""
    return norm(x.reshape(-1, *x.shape[2:])).reshape(x.shape)


def standardize_groups(
    x: Float[Array, "b *s d"], groups: int, eps: float
) -> Float[Array, "b *s d"]:
    """Subtracts the mean and divides by the deviation of each row and group, in float32."""
    x = x.astype(jnp.float32)
    size = math.prod(x.shape[1:]) // groups
    places = tuple(range(1, x.ndim - 1))

    def mean(values: Array) -> Array:  # sums per channel first: contiguous, so fast everywhere
        sums = rearrange(values.sum(places), "b (g c) -> b g c", g=groups).sum(-1)
        means = jnp.repeat(sums / size, x.shape[-1] // groups, axis=-1)
        return jax.lax.expand_dims(means, places)

    x = x - mean(x)
    return x * jax.lax.rsqrt(mean(x * x) + eps)


class Mlp(nnx.Module):
    """Two linears with tanh-approximated GELU between them."""

    def __init__(self, width: int, mlp_dim: int, *, rngs: Rngs, dtype: DType = "float32"):
        self.up = Linear(width, mlp_dim, axes=("embed", "mlp"), rngs=rngs, dtype=dtype)
        self.down = Linear(mlp_dim, width, axes=("mlp", "embed"), rngs=rngs, dtype=dtype)

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Applies up, GELU, down."""
        return self.down(jax.nn.gelu(self.up(x), approximate=True))


def sinusoid(
    values: Float[Array, " b"] | Int[Array, " b"], width: int, max_period: float = 10000.0
) -> Float[Array, "b {width}"]:
    """Sinusoidal embedding of scalars in float32, cosine half first.

    Source: the time path of CogVideoX; frequencies `max_period ** (-i / (width / 2))`.
    """
    half = width // 2
    freqs = jnp.exp(-math.log(max_period) / half * jnp.arange(half, dtype=jnp.float32))
    angles = values.astype(jnp.float32)[:, None] * freqs[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimeEmbedding(nnx.Module):
    """Sinusoid of a scalar, then linear, SiLU, linear."""

    def __init__(
        self,
        in_dim: int,
        width: int,
        *,
        rngs: Rngs,
        out_init: Initializer = fan_in,
        dtype: DType = "float32",
    ):
        options = dict(rngs=rngs, dtype=dtype)
        self.up = Linear(in_dim, width, axes=("embed", "mlp"), **options)
        self.down = Linear(width, width, axes=("mlp", None), init=out_init, **options)
        self.in_dim = in_dim

    def __call__(self, values: Float[Array, " b"] | Int[Array, " b"]) -> Float[Array, "b e"]:
        """Embeds `values` (b,)."""
        return self.down(jax.nn.silu(self.up(sinusoid(values, self.in_dim))))
