# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np

from mimir_jax.config import AlignerConfig
from mimir_jax.models import condition, functional
from mimir_jax.models.vimi import direct
from tests.helpers import relative_error

CFG = AlignerConfig(llm_width=12, text_width=10)
RNG = np.random.default_rng(0)
MASK = np.arange(5)[None] < np.array([[5], [2]])
STATES = RNG.normal(size=(2, 5, 12)).astype(np.float32)


def test_each_position_is_normed_scaled_and_projected_alone(strict_dtypes):
    model = functional.build(direct.Direct, CFG)
    params = model.init(jax.random.key(0))
    params["scale"], params["null"] = jnp.float32(3.0), jnp.arange(10.0)
    features = condition.PromptFeatures(states=STATES, mask=MASK)
    out = model.apply(params, features)
    centred = STATES - STATES.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + CFG.norm_eps)
    kernel, bias = (np.asarray(params["out"][name]) for name in ("kernel", "bias"))
    expected = 3.0 * normed @ kernel + bias
    assert relative_error(out.tokens, expected) < 1e-5
    assert np.array_equal(out.mask, MASK)
    dropped = model.apply(params, features, np.array([True, False]))
    assert np.array_equal(dropped.tokens[0, 0], params["null"])
    assert (dropped.tokens[0, 1:] == 0).all() and dropped.mask[0].tolist() == [True] + 4 * [False]
    assert np.array_equal(dropped.tokens[1], out.tokens[1])
    assert np.array_equal(dropped.mask[1], MASK[1])
