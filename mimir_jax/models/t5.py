# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 encoder (arXiv 1910.10683), v1.1 layout with gated GELU or the original with ReLU.

Scores are not scaled by the head size, and one table of relative position biases, held beside the
stack, serves every layer. CogVideoX encodes its prompts without a mask: pad positions are attended
to like any other, which is what `attention_mask=None` does.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import DType, T5Config
from mimir_jax.models import functional, layers
from mimir_jax.models.attention import text
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain


class Attention(nnx.Module):
    """Bidirectional self-attention with an additive bias and unscaled scores."""

    def __init__(self, cfg: T5Config, *, rngs: Rngs):
        inner = cfg.num_heads * cfg.head_dim
        # The missing 1/sqrt(head_dim) of the scores lives in the start of the query kernel.
        q_init = nnx.initializers.variance_scaling(1 / cfg.head_dim, "fan_in", "normal")
        into = dict(axes=("embed", "heads"), bias=False, dtype=cfg.dtype, rngs=rngs)
        self.q = layers.Linear(cfg.width, inner, init=q_init, **into)
        self.k = layers.Linear(cfg.width, inner, **into)
        self.v = layers.Linear(cfg.width, inner, **into)
        self.out = layers.Linear(
            inner, cfg.width, axes=("heads", "embed"), bias=False, dtype=cfg.dtype, rngs=rngs
        )
        self.num_heads = cfg.num_heads

    def __call__(
        self,
        x: Float[Array, "b l d"],
        bias: Float[Array, "1 n l l"],
        mask: Bool[Array, "b 1 1 l"] | None,
    ) -> Float[Array, "b l d"]:
        """Attends over `x`."""
        q, k, v = (
            rearrange(linear(x), "b l (n h) -> b l n h", n=self.num_heads)
            for linear in (self.q, self.k, self.v)
        )
        h = text.attend(q, k, v, scale=1.0, bias=bias, mask=mask)
        return self.out(rearrange(h, "b l n h -> b l (n h)"))


class Mlp(nnx.Module):
    """Feed-forward half of a block: gated tanh-GELU, or ReLU without a gate."""

    def __init__(self, cfg: T5Config, *, rngs: Rngs):
        into = dict(axes=("embed", "mlp"), bias=False, dtype=cfg.dtype, rngs=rngs)
        gated = cfg.activation == "gated-gelu"
        self.gate = layers.Linear(cfg.width, cfg.mlp_dim, **into) if gated else None
        self.up = layers.Linear(cfg.width, cfg.mlp_dim, **into)
        self.down = layers.Linear(
            cfg.mlp_dim,
            cfg.width,
            axes=("mlp", "embed"),
            bias=False,
            dtype=_residual_dtype(cfg),
            rngs=rngs,
        )

    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Applies the gate or the activation between the two linears."""
        h = self.up(x)
        if self.gate is None:
            h = jax.nn.relu(h)
        else:
            h = jax.nn.gelu(self.gate(x), approximate=True) * h
        return self.down(constrain(h, "act_batch", "act_length", "act_mlp"))


class Block(nnx.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, cfg: T5Config, *, rngs: Rngs):
        norm = dict(eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.attention_norm = layers.RMSNorm(cfg.width, **norm)
        self.attention = Attention(cfg, rngs=rngs)
        self.mlp_norm = layers.RMSNorm(cfg.width, **norm)
        self.mlp = Mlp(cfg, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b l d"],
        bias: Float[Array, "1 n l l"],
        mask: Bool[Array, "b 1 1 l"] | None,
    ) -> Float[Array, "b l d"]:
        """Adds both halves to the residual stream, in its dtype."""
        h = self.attention(self.attention_norm(x), bias, mask)
        x = x + h.astype(x.dtype)
        return x + self.mlp(self.mlp_norm(x)).astype(x.dtype)


class T5Encoder(nnx.Module):
    """Token ids to the states after the last norm.

    In float16 the residual stream and the feed-forward output matrix stay float32: the activations
    of T5 leave the range of float16 there.
    """

    def __init__(self, cfg: T5Config, *, rngs: Rngs):
        unit = nnx.initializers.normal(1.0)
        self.embed = layers.Embedding(
            cfg.vocab_size, cfg.width, init=unit, dtype=_residual_dtype(cfg), rngs=rngs
        )
        self.relative_bias = layers.param(
            (cfg.num_buckets, cfg.num_heads),
            (None, "heads"),
            nnx.initializers.normal(cfg.width**-0.5),
            rngs=rngs,
        )
        self.blocks = functional.Stack(
            lambda *, rngs: Block(cfg, rngs=rngs), cfg.num_layers, cfg.remat, rngs=rngs
        )
        self.norm = layers.RMSNorm(cfg.width, eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self,
        input_ids: Int[Array, "b l"],
        attention_mask: Bool[Array, "b l"] | Int[Array, "b l"] | None = None,
    ) -> Float[Array, "b l d"]:
        """Encodes `input_ids`.

        Args:
            input_ids: Token ids.
            attention_mask: True or 1 at positions to attend to; None attends everywhere.
        """
        mask = None if attention_mask is None else attention_mask.astype(bool)[:, None, None]
        bias = self._bias(input_ids.shape[1])  # (1, n, l, l)

        def body(block, x, _):
            return constrain(block(x, bias, mask), "act_batch", "act_length", "act_embed"), None

        x = constrain(self.embed(input_ids), "act_batch", "act_length", "act_embed")
        return self.norm(self.blocks(body, x)[0])

    def _bias(self, length: int) -> Float[Array, "1 n l l"]:
        positions = np.arange(length)
        buckets = relative_buckets(
            positions[None] - positions[:, None], self.cfg.num_buckets, self.cfg.max_distance
        )
        bias = self.relative_bias[...].astype(jnp.float32)[buckets]  # (l, l, n)
        return rearrange(bias, "t s n -> 1 n t s")


def relative_buckets(distance: np.ndarray, num_buckets: int, max_distance: int) -> np.ndarray:
    """Maps key minus query positions to bias rows.

    Half of the rows serve keys after the query. Of each half, the first half holds one distance a
    row and the rest widens logarithmically up to `max_distance`.
    """
    half = num_buckets // 2
    exact = half // 2
    size = np.abs(distance)
    # float32 as in the reference, so that distances on a bucket edge fall on the same side.
    log = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    steps = log / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    wide = np.minimum(exact + steps.astype(np.int32), half - 1)
    return np.where(distance > 0, half, 0) + np.where(size < exact, size, wide)


def _residual_dtype(cfg: T5Config) -> DType:
    return "float32" if cfg.dtype == "float16" else cfg.dtype
