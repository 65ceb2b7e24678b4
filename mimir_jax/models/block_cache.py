# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""First-block cache: a stack of blocks that runs whole only where its first block has changed.

From one sampling step to the next, what the blocks after the first add changes about as much as
what the first block adds (first-block cache of ParaAttention). Where the latter has changed by less
than a threshold since the last whole run, the former is added again and the other blocks do not
run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.models import functional


class BlockCache(NamedTuple):
    """What one evaluation of the network leaves to the next.

    Attributes:
        first: What the first block added in the last whole run; zeros before it.
        rest: What the other blocks added there.
        threshold: Change of `first`, relative to its size, below which `rest` is used again.
        runs: Number of whole runs.
    """

    first: Float[Array, "b s d"]
    rest: Float[Array, "b s d"]
    threshold: Float[Array, ""]
    runs: Int[Array, ""]


def empty(shape: tuple[int, ...], dtype: Any, threshold: float) -> BlockCache:
    """Returns the cache of a network that has not run, for activations of `shape`."""
    zeros = jnp.zeros(shape, dtype)
    return BlockCache(zeros, zeros, jnp.float32(threshold), jnp.int32(0))


def run(
    blocks: functional.Stack,
    apply: Callable[[nnx.Module, Array], Array],
    x: Float[Array, "b s d"],
    cache: BlockCache,
    num_layers: int,
) -> tuple[Float[Array, "b s d"], BlockCache]:
    """Returns the output of the stack, and the cache for the next evaluation.

    All rows of a batch decide together, by the row that has changed most.

    Args:
        blocks: The stack.
        apply: `(block, x) -> x`, one block.
        x: Its input.
        cache: That of the evaluation before.
        num_layers: Number of blocks.
    """

    def body(block: nnx.Module, carry: tuple, index: Array) -> tuple[tuple, None]:
        x, after, added, reuse = carry
        y = jax.lax.cond(reuse, lambda: x, lambda: apply(block, x))

        def judge() -> tuple[Array, Array, Array]:
            return y, y - x, _change(y - x, cache.first) < cache.threshold

        after, added, reuse = jax.lax.cond(index == 0, judge, lambda: (after, added, reuse))
        return (y, after, added, reuse), None

    start = (x, x, jnp.zeros_like(x), jnp.zeros((), bool))
    indices = jnp.arange(num_layers, dtype=jnp.int32)
    (y, after, added, reuse), _ = blocks(body, start, indices)

    def again() -> tuple[Array, BlockCache]:
        return after + cache.rest, cache

    def whole() -> tuple[Array, BlockCache]:
        return y, cache._replace(first=added, rest=y - after, runs=cache.runs + 1)

    return jax.lax.cond(reuse, again, whole)


def _change(now: Float[Array, "b s d"], before: Float[Array, "b s d"]) -> Float[Array, ""]:
    """Returns the mean absolute difference over the mean absolute value, of the worst row."""
    now, before = now.astype(jnp.float32), before.astype(jnp.float32)
    size = jnp.maximum(jnp.abs(before).mean((1, 2)), jnp.finfo(jnp.float32).tiny)
    return (jnp.abs(now - before).mean((1, 2)) / size).max()
