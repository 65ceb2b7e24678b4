# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Keys of initial parameters, and modules of shapes alone."""

import jax
import numpy as np
import pytest
from flax import nnx

from mimir_jax.models import functional
from mimir_jax.models.divot import model as divot_lib
from mimir_jax.models.rngs import Rngs
from tests import runs


@pytest.mark.parametrize("seed", [7, "key"])
def test_keys_are_those_of_nnx(seed):
    seed = jax.random.key(3) if seed == "key" else seed
    ours, theirs = Rngs(params=seed), nnx.Rngs(params=seed)
    for _ in range(3):
        data = [jax.random.key_data(rngs.params()) for rngs in (ours, theirs)]
        np.testing.assert_array_equal(*data)


def test_shapes_of_a_network_are_those_of_its_draw(frozen):
    config = runs.divot_run(frozen).system.model
    model = functional.build(divot_lib.Divot, config)
    drawn = jax.eval_shape(model.init, jax.random.key(0))
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), (drawn, model.abstract_params))
    assert shapes[0] == shapes[1]
    traced = nnx.eval_shape(lambda: divot_lib.Divot(config, rngs=Rngs(params=0)))
    assert nnx.split(traced)[0] == nnx.split(divot_lib.Divot(config, rngs=Rngs(params=None)))[0]
