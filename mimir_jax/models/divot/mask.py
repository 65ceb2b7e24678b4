# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which tokens attend to which, from the roles of the tokens (arXiv 2412.04432).

A sequence is causal, except that the queries of a clip attend to each other in both directions and
so predict all tokens of the clip in one pass. Clips that the LLM reads are ordinary tokens.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

PAD, TOKEN, QUERY = 0, 1, -1
"""Roles: padding, ordinary token, query of a clip that the LLM writes."""


def block_mask(
    roles: Int[Array, "b t"], num_queries: int, window: int | None = None
) -> Bool[Array, "b t t"]:
    """Returns where a query (row) may attend to a key (column), the `block_mask` of an LLM.

    A block is `num_queries` positions from every `num_queries`-th query on, counted from the first;
    it holds whatever stands between its queries, and one that would pass the end does not exist.
    Padding is never a key.

    Args:
        roles: `PAD`, `TOKEN` or `QUERY`.
        num_queries: Queries of a clip.
        window: Length of the LLM's sliding window; None for no limit.
    """
    length = roles.shape[1]
    places = jnp.arange(length, dtype=jnp.int32)
    queries = roles == QUERY
    order = jnp.cumsum(queries, axis=1, dtype=jnp.int32) - 1
    starts = queries & (order % num_queries == 0) & (places + num_queries <= length)[None]
    # Starts are at least `num_queries` apart, so that blocks never overlap.
    begun = jnp.where(starts, places[None], -num_queries)
    begun = jax.lax.cummax(begun, axis=1)  # last start at or before each position (b, t)
    inside = places[None] - begun < num_queries
    same = begun[:, :, None] == begun[:, None, :]
    same &= inside[:, :, None] & inside[:, None, :]
    back = (places[:, None] - places[None])[None]  # how far a key is behind its query (1, t, t)
    allowed = (back >= 0) | same
    if window is not None:
        allowed &= back < window
    return allowed & (roles != PAD)[:, None, :]
