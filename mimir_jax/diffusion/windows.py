# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Samples longer than a network sees, by windows that overlap (MultiDiffusion, arXiv 2302.08113).

At every step the network predicts each window alone, one after the other, and predictions are
averaged where windows overlap, with weights that fall off towards the ends of a window. Memory of
the network follows the window, not the sample.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mimir_jax.diffusion import objectives
from mimir_jax.diffusion.schedules import Predict, Times
from mimir_jax.errors import require


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows over the first axis behind the batch.

    Attributes:
        length: Entries of a window.
        starts: First entry of each, ascending.
        conditions: Which of the conditions of a row each window takes.
    """

    length: int
    starts: tuple[int, ...]
    conditions: tuple[int, ...]


def spread(total: int, length: int, overlap: int) -> tuple[int, ...]:
    """Returns the starts of the fewest windows that cover `total` entries.

    Windows stand `length - overlap` apart; the last one stands at the end, so it may overlap more.

    Raises:
        InputError: for windows that cannot cover the entries, or do not move on.
    """
    require(
        0 <= overlap < length,
        f"windows must overlap by less than their length {length}, got {overlap}; lower it",
    )
    require(
        total >= length,
        f"a sample must be at least as long as a window of {length}, got {total}; shorten the "
        "window, or sample without windows",
    )
    return (*range(0, total - length, length - overlap), total - length)


def blended(predict: Predict, windows: Windows) -> Predict:
    """Wraps `predict` in windows.

    Args:
        predict: The network, for samples of `windows.length`; it carries no `aux`.
        windows: Where the windows are.

    Returns:
        A function of longer samples (b, t, ...) and of a condition whose leaves are (b, k, ...),
        one entry for each of the k conditions of a row. The prediction is at least float32.
    """
    rise = np.arange(1, windows.length + 1)
    ramp = np.minimum(rise, rise[::-1]) / windows.length

    def wrapped(
        xt: Float[Array, "b *d"], time: Times, condition: Any, aux: Any
    ) -> tuple[Float[Array, "b *d"], Any]:
        dtype = objectives.at_least_float32(xt.dtype)
        weight = jnp.asarray(ramp, dtype)
        weight = jax.lax.expand_dims(weight, (0, *range(2, xt.ndim)))  # (1, length, 1, ...)

        def body(sums: tuple[Array, Array], window: tuple[Array, Array]) -> tuple[Any, None]:
            total, weights = sums
            start, index = window
            own = jax.tree.map(lambda x: x[:, index], condition)
            part = jax.lax.dynamic_slice_in_dim(xt, start, windows.length, axis=1)
            pred, _ = predict(part, time, own, None)
            return (_add(total, weight * pred, start), _add(weights, weight, start)), None

        sums = jnp.zeros(xt.shape, dtype), jnp.zeros((1, *xt.shape[1:2], *[1] * (xt.ndim - 2)))
        plan = jnp.asarray(windows.starts), jnp.asarray(windows.conditions)
        (total, weights), _ = jax.lax.scan(body, (sums[0], sums[1].astype(dtype)), plan)
        return total / weights, aux

    return wrapped


def _add(total: Array, part: Array, start: Array) -> Array:
    """Adds `part` to the entries of `total` from `start` on."""
    length = part.shape[1]
    there = jax.lax.dynamic_slice_in_dim(total, start, length, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(total, there + part, start, axis=1)
