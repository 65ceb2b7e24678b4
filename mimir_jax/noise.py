# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random keys of whole seeds, and random arrays that compile fast."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

MAX_SEED = 2**64 - 1


def make_key(seed: int) -> Key[Array, ""]:
    """Returns the key of a seed of 0 to 2**64 - 1, that of `jax.random.key` for those below 2**32.

    JAX reads the lower half alone unless `jax_enable_x64` is set.
    """
    return make_keys([seed])[0]


def make_keys(seeds: Sequence[int]) -> Key[Array, " b"]:
    """Returns one random key per seed; see `make_key`."""
    halves = [(seed >> 32, seed & 0xFFFFFFFF) for seed in seeds]
    return jax.random.wrap_key_data(np.array(halves, np.uint32), impl="threefry2x32")


def normal(
    key: PRNGKeyArray, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Returns `jax.random.normal(key, shape, dtype)`, the same to the bit.

    JAX numbers the elements along every axis of `shape` and joins the numbers, which XLA takes
    seconds to compile for each array of four or five axes on a CPU. Here they are drawn as rows,
    in a tenth of the time; the first axis stays whole, so that devices which share it draw their
    own rows.
    """
    if len(shape) < 3:
        return jax.random.normal(key, shape, dtype)
    return jax.random.normal(key, (shape[0], math.prod(shape[1:])), dtype).reshape(shape)


def keep(key: PRNGKeyArray, share: float, shape: Sequence[int]) -> Bool[Array, "..."]:
    """Returns `jax.random.bernoulli(key, share, shape)`: True at a random `share`.

    Three and more axes are drawn as rows, as in `normal`.
    """
    rows = shape if len(shape) < 3 else (shape[0], math.prod(shape[1:]))
    return jax.random.bernoulli(key, share, rows).reshape(shape)
