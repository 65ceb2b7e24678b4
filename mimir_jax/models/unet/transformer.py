# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Transformers of the video U-Net: over the pixels of a frame, and over the frames of a pixel.

A block has three halves: self-attention, a second attention, and a gated feed-forward. Over pixels
the second one reads the context; over frames it is self-attention again.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.models import layers
from mimir_jax.models.attention import text, video
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.parallel.context import constrain

Over = Literal["pixels", "frames"]

_NORM_EPS = 1e-5
_GROUP_EPS = 1e-6


class Context(NamedTuple):
    """What cross-attention reads: text rows of a clip, and image rows of the clip or its frames."""

    text: Float[Array, "b l d"]
    image: Float[Array, "b f m d"]  # f is 1 or the number of frames


def split_context(cfg: UNetConfig, context: Float[Array, "b l d"], frames: int) -> Context:
    """Splits context rows into text and image (divot.md 4.1).

    The first `text_length` rows are text. Those behind are image rows of the whole clip, unless
    there are exactly `frame_rows` for each frame, which then reads its own.
    """
    rows, image = context[:, : cfg.text_length], context[:, cfg.text_length :]
    each = image.shape[1] == cfg.frame_rows * frames
    return Context(rows, rearrange(image, "b (f m) d -> b f m d", f=frames if each else 1))


class SelfAttention(nnx.Module):
    """Attention among the pixels of each frame or among the frames of each pixel."""

    def __init__(self, width: int, heads: int, over: Over, cfg: UNetConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.qkv = layers.Linear(width, 3 * width, axes=("embed", "heads"), bias=False, **options)
        self.out = layers.Linear(width, width, axes=("heads", "embed"), **options)
        self.heads = heads
        self.over: Over = over
        self.kernel = cfg.attention

    def __call__(self, x: Float[Array, "b t n d"], context: Context) -> Float[Array, "b t n d"]:
        """Attends; the context is not read."""
        del context
        batch, count = len(x), self.heads
        if self.over == "pixels":
            folded = "part (b t) n heads h"
            qkv = rearrange(self.qkv(x), f"b t n (part heads h) -> {folded}", part=3, heads=count)
            y = video.attend(*qkv, kernel=self.kernel)
            return self.out(rearrange(y, "(b t) n heads h -> b t n (heads h)", b=batch))
        folded = "part (b n) t heads h"
        qkv = rearrange(self.qkv(x), f"b t n (part heads h) -> {folded}", part=3, heads=count)
        y = text.attend(*qkv, scale=qkv.shape[-1] ** -0.5)
        return self.out(rearrange(y, "(b n) t heads h -> b t n (heads h)", b=batch))


class CrossAttention(nnx.Module):
    """Attention to text rows and, with keys, values and a softmax of its own, to image rows."""

    def __init__(self, width: int, heads: int, cfg: UNetConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        inner = dict(axes=("embed", "heads"), bias=False, **options)
        self.q = layers.Linear(width, width, **inner)
        self.text = layers.Linear(cfg.context_width, 2 * width, **inner)
        self.image = layers.Linear(cfg.context_width, 2 * width, **inner)
        self.gate = layers.param((), (), layers.zeros, rngs=rngs)
        self.out = layers.Linear(width, width, axes=("heads", "embed"), **options)
        self.heads = heads

    def __call__(self, x: Float[Array, "b t n d"], context: Context) -> Float[Array, "b t n d"]:
        """Returns `text + (tanh(gate) + 1) image`; without image rows, the text alone."""
        q = self.q(x)
        y = self._attend(q, self.text(context.text[:, None]))
        if context.image.shape[2]:
            share = jnp.tanh(self.gate[...]) + 1.0
            y = y + share.astype(y.dtype) * self._attend(q, self.image(context.image))
        return self.out(y)

    def _attend(self, q: Array, kv: Array) -> Array:
        """Attends to rows of `f` parts of the clip, each read by its share of the frames."""
        batch, frames, parts = len(q), q.shape[1], kv.shape[1]
        k, v = rearrange(
            kv, "b f m (part heads h) -> part (b f) m heads h", part=2, heads=self.heads
        )
        q = rearrange(q, "b (f t) n (heads h) -> (b f) (t n) heads h", f=parts, heads=self.heads)
        y = text.attend(q, k, v, scale=q.shape[-1] ** -0.5)
        split = dict(b=batch, t=frames // parts)
        return rearrange(y, "(b f) (t n) heads h -> b (f t) n (heads h)", **split)


class FeedForward(nnx.Module):
    """Linear, gate by the exact GELU of its second half, linear."""

    def __init__(self, width: int, cfg: UNetConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.up = layers.Linear(width, 8 * width, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(4 * width, width, axes=("mlp", "embed"), **options)

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Maps the last axis."""
        h, gate = jnp.split(self.up(x), 2, axis=-1)
        return self.down(h * jax.nn.gelu(gate, approximate=False))


class Block(nnx.Module):
    """Two attentions and a feed-forward, each behind a norm and added to its input."""

    def __init__(self, width: int, heads: int, over: Over, cfg: UNetConfig, *, rngs: Rngs):
        norm = dict(eps=_NORM_EPS, dtype=cfg.dtype, rngs=rngs)
        self.first_norm = layers.LayerNorm(width, **norm)
        self.first = SelfAttention(width, heads, over, cfg, rngs=rngs)
        self.second_norm = layers.LayerNorm(width, **norm)
        if over == "pixels":
            self.second = CrossAttention(width, heads, cfg, rngs=rngs)
        else:
            self.second = SelfAttention(width, heads, over, cfg, rngs=rngs)
        self.mlp_norm = layers.LayerNorm(width, **norm)
        self.mlp = FeedForward(width, cfg, rngs=rngs)

    def __call__(self, x: Float[Array, "b t n d"], context: Context) -> Float[Array, "b t n d"]:
        """Adds the three halves."""
        x = x + self.first(self.first_norm(x), context)
        x = x + self.second(self.second_norm(x), context)
        return x + self.mlp(self.mlp_norm(x))


class Transformer(nnx.Module):
    """Group norm, linear, block, linear, added to the input; the last linear starts at zero.

    Over pixels the norm is that of each frame, over frames that of the whole clip.

    Args:
        dim: Channels of the frames.
        over: What attends to each other.
        cfg: The U-Net.
        heads: Heads of the block; None has as many as `dim` holds.
    """

    def __init__(
        self,
        dim: int,
        over: Over,
        cfg: UNetConfig,
        *,
        rngs: Rngs,
        heads: int | None = None,
    ):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        heads = dim // cfg.head_dim if heads is None else heads
        width = heads * cfg.head_dim
        self.norm = layers.GroupNorm(dim, cfg.norm_groups, eps=_GROUP_EPS, **options)
        self.into = layers.Linear(dim, width, axes=(None, "embed"), **options)
        self.block = Block(width, heads, over, cfg, rngs=rngs)
        self.out = layers.Linear(width, dim, axes=("embed", None), init=layers.zeros, **options)
        self.over: Over = over

    def __call__(self, x: Float[Array, "b t h w c"], context: Context) -> Float[Array, "b t h w c"]:
        """Adds what the pixels or frames read of each other, and of the context."""
        h = layers.per_frame(self.norm, x) if self.over == "pixels" else self.norm(x)
        h = self.into(rearrange(h, "b t h w c -> b t (h w) c"))
        h = self.out(self.block(h, context))
        x = x + rearrange(h, "b t (h w) c -> b t h w c", h=x.shape[2])
        return constrain(x, "act_batch", "act_frames", "act_height", "act_width", "act_channels")
