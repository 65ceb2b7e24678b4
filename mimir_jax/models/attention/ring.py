# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Ring attention (arXiv 2310.01889): devices keep their queries and pass keys and values on.

The softmax is computed online in float32: for each query, a device holds the sum of weighted
values, the sum of weights and the largest score so far, and updates them with every block of keys
that arrives. The backward pass is a second turn of the ring, in which the gradients of keys and
values travel with them. Scores are never stored: chunks of queries meet the current keys in turn.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from mimir_jax.models import functional
from mimir_jax.parallel import context

MAX_SCORES = 2**28
"""Most scores that a device holds at a time (1 GiB in float32)."""

_MASKED = -1e30  # finite: later corrections erase the weights of a block that is masked whole
_AXIS = "context"


class _Keys(NamedTuple):
    """What devices pass on: keys, values `(b, heads, s, head_dim)` and their mask `(b, s)`."""

    k: Array
    v: Array
    valid: Array


def attend(
    q: Float[Array, "b s heads head_dim"],
    k: Float[Array, "b s heads head_dim"],
    v: Float[Array, "b s heads head_dim"],
    valid: Bool[Array, "b s"],
) -> Float[Array, "b s heads head_dim"]:
    """Softmax attention with scale `head_dim ** -0.5`, the sequence split over `context`.

    Args:
        q, k, v: Whole arrays; a length that the mesh does not divide is padded.
        valid: True at the keys to attend to, at least one in each row.
    """
    length = q.shape[1]
    more = -length % context.num_shards("act_queries")
    if more:
        q, k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q, k, v))
        valid = jnp.pad(valid, ((0, 0), (0, more)))
    heads = ("act_batch", "act_queries", "act_heads", None)
    axes = (heads, heads, heads, ("act_batch", "act_queries"))
    return context.on_shards(_local, (q, k, v, valid), axes)[:, :length]


def _local(q: Array, k: Array, v: Array, valid: Array) -> Array:
    """Attention of one device's queries to the keys of all; arrays `(b, s, heads, head_dim)`."""
    b, s, heads, _ = q.shape
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # (b, heads, s, head_dim)
    chunks = min(s, math.ceil(b * heads * s * s / MAX_SCORES))
    size = math.ceil(s / chunks)
    q = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * size - s), (0, 0)))
    q = jnp.moveaxis(q.reshape(b, heads, chunks, size, -1), 2, 0)  # (chunks, b, heads, size, h)
    y = _ring(q, _Keys(k, v, valid))
    y = jnp.moveaxis(y, 0, 2).reshape(b, heads, chunks * size, -1)
    return jnp.swapaxes(y[:, :, :s], 1, 2)


@jax.custom_vjp
def _ring(q: Array, keys: _Keys) -> Array:
    """Attention of chunks of queries `(chunks, b, heads, size, head_dim)`."""
    return _forward(q, keys)[0]


def _forward(q: Array, keys: _Keys) -> tuple[Array, tuple]:
    def fold(state: tuple, keys: _Keys) -> tuple:
        return jax.lax.map(lambda chunk: _fold(*chunk, keys), (q, *state))

    def hop(carry: tuple, _: None) -> tuple:
        state, keys = carry
        arriving = _pass_on(keys)  # is transferred while the current block is computed
        return (fold(state, keys), arriving), None

    state = (
        jnp.zeros(q.shape, jnp.float32),
        jnp.zeros((*q.shape[:-1], 1), jnp.float32),
        jnp.full((*q.shape[:-1], 1), _MASKED, jnp.float32),
    )
    (state, last), _ = jax.lax.scan(hop, (state, keys), length=jax.lax.axis_size(_AXIS) - 1)
    values, total, top = fold(state, last)
    y = checkpoint_name((values / total).astype(q.dtype), functional.ATTENTION_OUTPUT)
    normaliser = checkpoint_name(top + jnp.log(total), functional.ATTENTION_OUTPUT)
    return y, (q, keys, y, normaliser)


def _fold(
    q: Array, values: Array, total: Array, top: Array, keys: _Keys
) -> tuple[Array, Array, Array]:
    """Updates the running softmax of a chunk of queries with a block of keys."""
    scores = _scores(q, keys)
    new_top = jnp.maximum(top, scores.max(-1, keepdims=True))
    weights = jnp.exp(scores - new_top)
    shrink = jnp.exp(top - new_top)
    arrived = _product("BNTS,BNSH->BNTH", weights.astype(keys.v.dtype), keys.v)
    total = total * shrink + weights.sum(-1, keepdims=True)
    return values * shrink + arrived, total, new_top


def _backward(saved: tuple, dy: Array) -> tuple[Array, _Keys]:
    q, keys, y, normaliser = saved
    delta = (dy.astype(jnp.float32) * y.astype(jnp.float32)).sum(-1, keepdims=True)

    def visit(dq: Array, keys: _Keys, dkeys: tuple[Array, Array]) -> tuple:
        def one(dkeys: tuple[Array, Array], chunk: tuple) -> tuple:
            dq, dk, dv = _unfold(*chunk, keys)
            return (dkeys[0] + dk, dkeys[1] + dv), dq

        dkeys, more = jax.lax.scan(one, dkeys, (q, dy, delta, normaliser))
        return dq + more, dkeys

    def hop(carry: tuple, _: None) -> tuple:
        dq, keys, dkeys = carry
        arriving = _pass_on(keys)
        dq, dkeys = visit(dq, keys, dkeys)
        return (dq, arriving, _pass_on(dkeys)), None

    zeros = functools.partial(jnp.zeros_like, dtype=jnp.float32)
    carry = (zeros(q), keys, (zeros(keys.k), zeros(keys.v)))
    carry, _ = jax.lax.scan(hop, carry, length=jax.lax.axis_size(_AXIS) - 1)
    dq, dkeys = visit(*carry)
    dk, dv = _pass_on(dkeys)  # the last hop returns them to their owners
    return dq.astype(q.dtype), _Keys(dk.astype(q.dtype), dv.astype(q.dtype), None)


def _unfold(
    q: Array, dy: Array, delta: Array, normaliser: Array, keys: _Keys
) -> tuple[Array, Array, Array]:
    """Returns the gradients `dq, dk, dv` of a chunk of queries and a block of keys, in float32."""
    weights = jnp.exp(_scores(q, keys) - normaliser)
    dv = _product("BNTS,BNTH->BNSH", weights.astype(dy.dtype), dy)
    dweights = _product("BNTH,BNSH->BNTS", dy, keys.v)
    dscores = (weights * (dweights - delta) * q.shape[-1] ** -0.5).astype(q.dtype)
    dq = _product("BNTS,BNSH->BNTH", dscores, keys.k)
    return dq, _product("BNTS,BNTH->BNSH", dscores, q), dv


def _scores(q: Array, keys: _Keys) -> Float[Array, "b heads t s"]:
    scores = _product("BNTH,BNSH->BNTS", q, keys.k) * q.shape[-1] ** -0.5
    return jnp.where(keys.valid[:, None, None], scores, _MASKED)


def _product(equation: str, a: Array, b: Array) -> Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


def _pass_on(x):
    """Sends arrays to the next device of the ring and receives those of the previous one."""
    size = jax.lax.axis_size(_AXIS)
    return jax.lax.ppermute(x, _AXIS, [(i, (i + 1) % size) for i in range(size)])


_ring.defvjp(_forward, _backward)
