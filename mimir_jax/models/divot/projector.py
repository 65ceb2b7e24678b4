# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Clip tokens into an LLM and states of queries out of it (arXiv 2412.04432).

The positions are those of a `sequences.Row`, -1 for the clips that fill it up.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import ProjectorConfig
from mimir_jax.models import layers
from mimir_jax.models.rngs import Rngs


class Projector(nnx.Module):
    """Two linears with exact GELU between them, from clip tokens to inputs of the LLM."""

    def __init__(self, cfg: ProjectorConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.up = layers.Linear(cfg.token_width, cfg.llm_width, axes=(None, "mlp"), **options)
        self.down = layers.Linear(cfg.llm_width, cfg.llm_width, axes=("mlp", "embed"), **options)

    def __call__(self, tokens: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        """Projects clip tokens."""
        return self.down(jax.nn.gelu(self.up(tokens), approximate=False))


def place(
    embeddings: Float[Array, "b t e"],
    clips: Float[Array, "b m q e"],
    positions: Int[Array, "b m q"],
) -> Float[Array, "b t e"]:
    """Returns the embeddings of a row with projected clips in place of their index tokens."""
    length = embeddings.shape[1]
    positions = rearrange(jnp.where(positions < 0, length, positions), "b m q -> b (m q)")
    clips = rearrange(clips.astype(embeddings.dtype), "b m q e -> b (m q) e")
    replace = jax.vmap(lambda row, where, values: row.at[where].set(values, mode="drop"))
    return replace(embeddings, positions, clips)


def take(states: Float[Array, "b t e"], positions: Int[Array, "b g q"]) -> Float[Array, "b g q e"]:
    """Returns the states of the queries; those of a clip that fills the row have no meaning."""
    places = rearrange(jnp.maximum(positions, 0), "b g q -> b (g q) 1")
    found = jnp.take_along_axis(states, places, axis=1)  # (b, g q, e)
    return rearrange(found, "b (g q) e -> b g q e", g=positions.shape[1])
