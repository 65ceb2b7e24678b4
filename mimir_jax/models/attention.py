# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Joint attention over text and video tokens, and the dispatch over attention kernels."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from mimir_jax.config import DiTConfig
from mimir_jax.models import functional, layers, rope
from mimir_jax.parallel.context import constrain

Heads = Float[Array, "b s heads head_dim"]
TextMask = Bool[Array, "b l"]

MAX_SCORES = 2**28
"""Attention scores held at once by the `xla` kernel (1 GiB in float32)."""


class JointAttention(nnx.Module):
    """Full self-attention over `[text; video]` with a LayerNorm on each query and key head."""

    def __init__(self, cfg: DiTConfig, *, rngs: nnx.Rngs):
        def linear(axes: tuple[str, str]) -> layers.Linear:
            return layers.Linear(cfg.width, cfg.width, axes=axes, rngs=rngs, dtype=cfg.dtype)

        self.q = linear(("embed", "heads"))
        self.k = linear(("embed", "heads"))
        self.v = linear(("embed", "heads"))
        self.out = linear(("heads", "embed"))
        self.norm_q = layers.LayerNorm(cfg.head_dim, eps=cfg.qk_norm_eps, rngs=rngs)
        self.norm_k = layers.LayerNorm(cfg.head_dim, eps=cfg.qk_norm_eps, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self,
        x: Float[Array, "b s d"],
        rotary: rope.Rotary | None = None,
        text_mask: TextMask | None = None,
    ) -> Float[Array, "b s d"]:
        """Attends.

        Args:
            x: Joint sequence, text first.
            rotary: Angles of the joint sequence, the identity at text tokens.
            text_mask: True at the text tokens to attend to; None attends to all.
        """

        def split(y: Array) -> Array:
            y = y.reshape(*y.shape[:2], self.cfg.num_heads, self.cfg.head_dim)
            return constrain(y, "act_batch", None, "act_heads", None)

        def place(y: Array) -> Array:  # float32 until the last cast
            return (y if rotary is None else rope.rotate(y, rotary)).astype(self.cfg.dtype)

        q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))  # (b, s, heads, head_dim)
        q, k = place(self.norm_q(q)), place(self.norm_k(k))
        y = attend(q, k, v, text_mask, kernel=self.cfg.attention)
        y = constrain(y, "act_batch", None, "act_heads", None)
        return self.out(y.reshape(x.shape))  # (b, s, d)


def attend(
    q: Heads,
    k: Heads,
    v: Heads,
    text_mask: TextMask | None = None,
    *,
    kernel: Literal["xla", "cudnn"] = "xla",
) -> Heads:
    """Softmax attention with scale `head_dim ** -0.5`; `text_mask` covers the leading keys.

    The `attention` remat policy keeps the output of either kernel, and the softmax statistics of
    `cudnn`.
    """
    if kernel == "cudnn":
        return _cudnn(q, k, v, text_mask)
    return checkpoint_name(_xla(q, k, v, text_mask), functional.ATTENTION_OUTPUT)


def _xla(
    q: Heads, k: Heads, v: Heads, text_mask: TextMask | None, max_scores: int | None = None
) -> Heads:
    """Plain attention, in query chunks where the scores would exceed `max_scores`."""
    max_scores = MAX_SCORES if max_scores is None else max_scores
    b, s, heads, head_dim = q.shape
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # (b, heads, s, head_dim)
    bias = None
    if text_mask is not None:
        mask = jnp.pad(text_mask, ((0, 0), (0, s - text_mask.shape[1])), constant_values=True)
        bias = jnp.where(mask, 0.0, -jnp.inf).astype(jnp.float32)[:, None, None]  # (b, 1, 1, s)

    def core(q: Array) -> Array:
        scores = jnp.einsum("BNTH,BNSH->BNTS", q, k, preferred_element_type=jnp.float32)
        scores = scores * head_dim**-0.5
        scores = scores if bias is None else scores + bias
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        y = jnp.einsum(
            "BNTS,BNSH->BNTH", weights.astype(v.dtype), v, preferred_element_type=jnp.float32
        )
        return (y / weights.sum(-1, keepdims=True)).astype(v.dtype)  # cheaper than on the weights

    chunks = min(s, math.ceil(b * heads * s * s / max_scores))
    if chunks == 1:
        return jnp.swapaxes(core(q), 1, 2)
    size = math.ceil(s / chunks)
    q = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * size - s), (0, 0)))
    q = jnp.moveaxis(q.reshape(b, heads, chunks, size, head_dim), 2, 0)
    y = jax.lax.map(jax.checkpoint(core), q)  # (chunks, b, heads, size, head_dim)
    y = jnp.moveaxis(y, 0, 2).reshape(b, heads, chunks * size, head_dim)
    return jnp.swapaxes(y[:, :, :s], 1, 2)


def _cudnn(q: Heads, k: Heads, v: Heads, text_mask: TextMask | None) -> Heads:
    """Fused flash attention of cuDNN."""
    lengths = {}
    if text_mask is not None:
        k, v, count = _masked_last(k, v, text_mask)
        lengths = {
            "query_seq_lengths": jnp.full(q.shape[0], q.shape[1], jnp.int32),
            "key_value_seq_lengths": count,
        }
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **lengths)


def _masked_last(k: Heads, v: Heads, text_mask: TextMask) -> tuple[Array, Array, Array]:
    """Moves masked keys to the end and counts the others.

    Attention does not see the order of its keys, so a count replaces a mask of size s x s, which
    is all that fused kernels offer for holes in the middle.
    """
    length = text_mask.shape[1]
    order = jnp.argsort(~text_mask, axis=1, stable=True)[:, :, None, None]

    def move(x: Array) -> Array:
        text = jnp.where(text_mask[:, :, None, None], x[:, :length], jnp.zeros((), x.dtype))
        return jnp.concatenate([x[:, length:], jnp.take_along_axis(text, order, axis=1)], axis=1)

    count = k.shape[1] - length + text_mask.sum(1, dtype=jnp.int32)
    return move(k), move(v), count
