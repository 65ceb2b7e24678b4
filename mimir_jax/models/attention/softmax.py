# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Softmax attention in plain XLA, one function with a formula each for use and for differentiation.

Heads come first, so that every product is one of whole matrices; on a CPU, XLA's matrix library
then computes scores, softmax and sum in one pass. Without a gradient the weights are normalised
before they multiply the values. With one, the sum over keys divides the product instead, and the
backward pass reads the weights and sums that the forward pass kept; neither exponentials nor scores
are computed again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from mimir_jax.models import functional

MASKED = -1e30
"""Score of a masked pair: finite, so that a row with nothing to attend to stays finite."""

_SCORES, _VALUES, _KEYS = "BNTH,BNSH->BNTS", "BNTS,BNSH->BNTH", "BNTS,BNTH->BNSH"


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(
    q: Float[Array, "b n t h"],
    k: Float[Array, "b kv s h"],
    v: Float[Array, "b kv s h"],
    bias: Float[Array, "#b n t s"] | None,
    mask: Bool[Array, "#b 1 #t s"] | None,
    scale: float,
) -> Float[Array, "b n t h"]:
    """Returns `softmax(scale q k^T + bias) v` over the keys in `mask`.

    Scores and softmax are float32; the result has the dtype of `v`.

    Args:
        q: Queries.
        k, v: Keys and values; each head of them serves `n / kv` heads of queries.
        bias: What is added to the scores.
        mask: Keys to attend to; None for all.
        scale: Factor of the scores.
    """
    weights = jax.nn.softmax(_scores(q, k, bias, mask, scale), axis=-1)
    return _product(_VALUES, weights.astype(v.dtype), v).astype(v.dtype)


def _forward(
    q: Array, k: Array, v: Array, bias: Array | None, mask: Array | None, scale: float
) -> tuple[Array, tuple]:
    scores = _scores(q, k, bias, mask, scale)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    inverse = 1.0 / weights.sum(-1, keepdims=True)
    weights = weights.astype(v.dtype)
    y = (_product(_VALUES, weights, v) * inverse).astype(v.dtype)
    y = checkpoint_name(y, functional.ATTENTION_OUTPUT)
    return y, (q, k, v, bias, mask, y, weights, inverse)


def _backward(scale: float, saved: tuple, dy: Array) -> tuple[Any, ...]:
    q, k, v, bias, mask, y, weights, inverse = saved
    dy = dy.astype(jnp.float32) * inverse
    delta = (dy * y.astype(jnp.float32)).sum(-1, keepdims=True)
    dy = dy.astype(v.dtype)
    dscores = weights.astype(jnp.float32) * (_product(_SCORES, dy, v) - delta)
    if mask is not None:  # a row with nothing to attend to has weights, but no scores
        dscores = jnp.where(mask, dscores, 0.0)
    dbias = None if bias is None else _sum_to(dscores, bias)
    dscores = dscores.astype(q.dtype)
    dq = _product(_VALUES, dscores, k) * scale
    dk = _einsum(_KEYS, *(_grouped(x, k.shape[1]) for x in (dscores, q))) * scale
    dv = _einsum(_KEYS, *(_grouped(x, k.shape[1]) for x in (weights, dy)))
    return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype), dbias, None


attend.defvjp(_forward, _backward)


def _scores(
    q: Array, k: Array, bias: Array | None, mask: Array | None, scale: float
) -> Float[Array, "b n t s"]:
    scores = _product(_SCORES, q, k) * scale
    scores = scores if bias is None else scores + bias
    return scores if mask is None else jnp.where(mask, scores, MASKED)


def _product(
    equation: str, a: Float[Array, "b n t _"], b: Float[Array, "b kv _ _"]
) -> Float[Array, "b n t _"]:
    """Multiplies matrices in float32; heads of `a` that share one of `b` lie below each other."""
    y = _einsum(equation, _grouped(a, b.shape[1]), b)
    return y.reshape(*a.shape[:3], y.shape[3])


def _grouped(x: Float[Array, "b n t i"], kv: int) -> Float[Array, "b kv _ i"]:
    return x.reshape(x.shape[0], kv, -1, x.shape[3])


def _einsum(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _sum_to(x: Float[Array, "b n t s"], like: Array) -> Array:
    """Sums the rows of `x` where `like` has one for all of them."""
    return (x if like.shape[0] == len(x) else x.sum(0, keepdims=True)).astype(like.dtype)
