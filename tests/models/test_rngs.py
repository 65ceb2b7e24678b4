# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Keys of initial parameters."""

import jax
import numpy as np
import pytest
from flax import nnx

from mimir_jax.models.rngs import Rngs


@pytest.mark.parametrize("seed", [7, "key"])
def test_keys_are_those_of_nnx(seed):
    seed = jax.random.key(3) if seed == "key" else seed
    ours, theirs = Rngs(params=seed), nnx.Rngs(params=seed)
    for _ in range(3):
        data = [jax.random.key_data(rngs.params()) for rngs in (ours, theirs)]
        np.testing.assert_array_equal(*data)
