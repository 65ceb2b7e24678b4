# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention of the text and image encoders: grouped heads, additive bias, boolean mask.

Their sequences are short, so scores are formed whole; the video transformer has its own dispatch
over kernels.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.models.attention import softmax


def attend(
    q: Float[Array, "b t n h"],
    k: Float[Array, "b s kv h"],
    v: Float[Array, "b s kv h"],
    *,
    scale: float,
    bias: Float[Array, "#b n t s"] | None = None,
    mask: Bool[Array, "#b 1 #t s"] | None = None,
) -> Float[Array, "b t n h"]:
    """Attends from `q` to `k`, each key head serving `n / kv` query heads.

    Scores and softmax are float32; the result has the dtype of `v`.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # (b, heads, length, h)
    return jnp.swapaxes(softmax.attend(q, k, v, bias, mask, scale), 1, 2)


def causal_mask(
    queries: Int[Array, "#b t"],
    keys: Int[Array, "#b s"],
    valid: Bool[Array, "b s"] | None = None,
    window: int | None = None,
) -> Bool[Array, "#b 1 t s"]:
    """Allows keys at or before each query, at most `window - 1` positions back, and `valid`.

    Args:
        queries: Positions of the queries.
        keys: Positions of the keys.
        valid: Which keys are real; None for all.
        window: Length of the sliding window; None for no limit.
    """
    q, k = queries[:, None, :, None], keys[:, None, None, :]
    mask = k <= q
    if window is not None:
        mask &= k > q - window
    return mask if valid is None else mask & valid[:, None, None, :]
