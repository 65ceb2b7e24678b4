# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.models import block_cache, dit, functional
from mimir_jax.models import condition as conditioning
from tests.helpers import relative_error
from tests.models.test_dit import inputs, randomized, tiny


@pytest.fixture(scope="module")
def cached():
    """Outputs of plain and cached evaluations of one network, and the whole runs so far."""
    cfg = tiny("5b")
    model = functional.build(dit.DiT, cfg)
    params = randomized(model)
    xt, text, timestep = inputs(cfg)
    condition = conditioning.Condition(tokens=text)
    rows = dit.sequence_length(cfg, xt.shape, text.shape[1])
    plain = jax.jit(lambda x: model.denoise(params, x, timestep, condition))
    step = jax.jit(lambda x, c: model.denoise_cached(params, x, timestep, condition, c))

    def run(threshold, inputs):
        cache = block_cache.empty((2, rows, cfg.width), cfg.dtype, threshold)
        outs = []
        for x in inputs:
            out, cache = step(x, cache)
            outs.append(out)
        return outs, int(cache.runs)

    return xt, plain, run


def test_first_evaluation_and_threshold_0_run_all_blocks(cached):
    xt, plain, run = cached
    outs, runs = run(0.0, [xt, xt + 0.01])
    assert runs == 2
    for x, out in zip((xt, xt + 0.01), outs, strict=True):
        np.testing.assert_array_equal(out, plain(x))


def test_blocks_run_again_only_where_the_first_has_changed(cached):
    xt, plain, run = cached
    other = jnp.flip(xt, 1)
    outs, runs = run(0.2, [xt, xt + 0.001, other])
    assert runs == 2
    assert relative_error(outs[1], plain(xt + 0.001)) < 0.01
    np.testing.assert_array_equal(outs[2], plain(other))
