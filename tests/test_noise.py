# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Random arrays, against JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import noise


@pytest.mark.parametrize("shape", [(), (5,), (3, 7), (3, 5, 2, 2), (2, 3, 1, 5, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_normal_is_that_of_jax(shape, dtype):
    key = jax.random.key(7)
    ours, theirs = noise.normal(key, shape, dtype), jax.random.normal(key, shape, dtype)
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)


def test_every_seed_of_64_bits_has_its_own_key():
    data = lambda seed: jax.random.key_data(noise.make_key(seed)).tolist()  # noqa: E731
    assert data(7) == jax.random.key_data(jax.random.key(7)).tolist()
    seeds = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63, noise.MAX_SEED]
    assert len({tuple(data(seed)) for seed in seeds}) == len(seeds)
