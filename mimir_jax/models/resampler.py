# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Perceiver resampler: any number of states in, a fixed number of learned queries out.

Queries attend to the projected states and to themselves; the states are the same in every block
(arXiv 2204.14198). Sizes and the order of the norms are those of Divot (arXiv 2412.04432), which
uses it before its LLM and before its U-Net. Before a video transformer, it turns the states of an
LLM into as many tokens as the transformer reads.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import ResamplerConfig
from mimir_jax.models import functional, layers
from mimir_jax.models.attention import text
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain

Mask = Bool[Array, "b 1 1 s"] | None


class Attention(nnx.Module):
    """Attention of the queries to the states and to themselves, each behind a norm of its own."""

    def __init__(self, cfg: ResamplerConfig, *, rngs: Rngs):
        inner = cfg.num_heads * cfg.head_dim
        norm = dict(eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        options = dict(bias=False, dtype=cfg.dtype, rngs=rngs)
        self.state_norm = layers.LayerNorm(cfg.width, **norm)
        self.query_norm = layers.LayerNorm(cfg.width, **norm)
        self.q = layers.Linear(cfg.width, inner, axes=("embed", "heads"), **options)
        self.kv = layers.Linear(cfg.width, 2 * inner, axes=("embed", "heads"), **options)
        self.out = layers.Linear(inner, cfg.width, axes=("heads", "embed"), **options)
        self.cfg = cfg

    def __call__(
        self, queries: Float[Array, "b q d"], states: Float[Array, "b l d"], mask: Mask
    ) -> Float[Array, "b q d"]:
        """Attends from `queries` to `states` and `queries`; `mask` covers both."""
        queries = self.query_norm(queries)
        read = jnp.concatenate([self.state_norm(states), queries], axis=1)  # (b, l + q, d)
        heads = self.cfg.num_heads
        q = rearrange(self.q(queries), "b q (n h) -> b q n h", n=heads)
        k, v = rearrange(self.kv(read), "b s (part n h) -> part b s n h", part=2, n=heads)
        h = text.attend(q, k, v, scale=self.cfg.head_dim**-0.5, mask=mask)
        return self.out(rearrange(h, "b q n h -> b q (n h)"))


class Block(nnx.Module):
    """Attention and a feed-forward without biases."""

    def __init__(self, cfg: ResamplerConfig, *, rngs: Rngs):
        options = dict(bias=False, dtype=cfg.dtype, rngs=rngs)
        self.attention = Attention(cfg, rngs=rngs)
        self.mlp_norm = layers.LayerNorm(cfg.width, eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.up = layers.Linear(cfg.width, cfg.mlp_dim, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(cfg.mlp_dim, cfg.width, axes=("mlp", "embed"), **options)

    def __call__(
        self, queries: Float[Array, "b q d"], states: Float[Array, "b l d"], mask: Mask
    ) -> Float[Array, "b q d"]:
        """Adds both halves to the queries."""
        queries = queries + self.attention(queries, states, mask)
        h = jax.nn.gelu(self.up(self.mlp_norm(queries)), approximate=False)  # (b, q, f)
        queries = queries + self.down(constrain(h, "act_batch", "act_length", "act_mlp"))
        return constrain(queries, "act_batch", "act_length", "act_embed")


class Resampler(nnx.Module):
    """States of any length to `num_queries` states of another width."""

    def __init__(self, cfg: ResamplerConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        std = cfg.width**-0.5 if cfg.query_std is None else cfg.query_std
        shape = (cfg.num_queries, cfg.width)
        self.queries = layers.param(shape, (None, "embed"), nnx.initializers.normal(std), rngs=rngs)
        self.into = layers.Linear(cfg.in_width, cfg.width, axes=(None, "embed"), **options)
        self.blocks = functional.Stack(
            lambda *, rngs: Block(cfg, rngs=rngs), cfg.num_layers, cfg.remat, rngs=rngs
        )
        self.out = layers.Linear(cfg.width, cfg.out_width, axes=("embed", None), **options)
        self.norm = layers.LayerNorm(cfg.out_width, eps=cfg.norm_eps, **options)
        self.cfg = cfg

    def __call__(
        self,
        states: Float[Array, "b l in_width"],
        mask: Bool[Array, "b l"] | Int[Array, "b l"] | None = None,
    ) -> Float[Array, "b q out_width"]:
        """Returns one state for each learned query.

        Args:
            states: States to read.
            mask: True or 1 at states to attend to; None attends to all. A row without any leaves
                the queries to themselves.
        """
        cfg = self.cfg
        read = constrain(self.into(states), "act_batch", "act_length", "act_embed")  # (b, l, d)
        if mask is not None:
            own = ((0, 0), (0, cfg.num_queries))
            mask = jnp.pad(mask.astype(bool), own, constant_values=True)[:, None, None]

        def body(block: Block, queries: Array, _: None) -> tuple[Array, None]:
            return block(queries, read, mask), None

        queries = self.queries[...].astype(cfg.dtype)
        queries = jnp.broadcast_to(queries, (len(states), *queries.shape))
        return self.norm(self.out(self.blocks(body, queries)[0]))
