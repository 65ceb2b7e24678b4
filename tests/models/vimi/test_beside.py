# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import AlignerConfig, DiTConfig, VimiConfig
from mimir_jax.errors import InputError
from mimir_jax.models import condition, dit, functional
from mimir_jax.models.vimi import model as vimi
from tests.helpers import relative_error

CFG = VimiConfig(
    route="beside",
    aligner=AlignerConfig(
        llm_width=12, text_width=10, text_length=6, width=16, num_layers=1, num_heads=2, head_dim=8,
        mlp_dim=24,
    ),
    dit=DiTConfig(
        num_layers=1, num_heads=1, head_dim=16, in_channels=4, out_channels=4, text_width=10,
        text_length=6, time_width=8, sample_frames=2, sample_height=4, sample_width=4,
    ),
)  # fmt: skip
RNG = np.random.default_rng(0)
MASK = np.arange(9)[None] < np.array([[9], [4], [1]])
STATES = np.where(MASK[..., None], RNG.normal(size=(3, 9, 12)), 0).astype(np.float32)
T5 = RNG.normal(size=(3, 6, 10)).astype(np.float32)
FEATURES = condition.PromptFeatures(states=STATES, mask=MASK, t5=T5)
DROP = np.array([False, False, True])
XT = RNG.normal(size=(3, 2, 4, 4, 4)).astype(np.float32)
TIME = np.array([3, 500, 999])


@pytest.fixture(scope="module")
def tiny():
    """The network as it starts, but for a video transformer whose prediction is not zero."""
    model = functional.build(vimi.Vimi, CFG)
    params = jax.jit(model.init)(jax.random.key(0))
    draw = lambda x: jnp.asarray(0.1 * RNG.normal(size=x.shape), jnp.float32)  # noqa: E731
    return model, {**params, "dit": jax.tree.map(draw, params["dit"])}


@pytest.mark.slow
def test_it_starts_as_its_base_and_can_leave_it(tiny, strict_dtypes):
    model, params = tiny
    out = jax.jit(model.apply)(params, XT, TIME, FEATURES, DROP)
    tokens = condition.Condition(tokens=np.where(DROP[:, None, None], 0, T5).astype(np.float32))
    base = functional.build(dit.DiT, CFG.dit).denoise(params["dit"], XT, TIME, tokens)
    assert np.abs(base).max() > 0.01 and relative_error(out, base) < 1e-6

    def error(params):
        return (model.apply(params, XT, TIME, FEATURES, DROP) ** 2).mean()

    grads = jax.jit(jax.grad(error))(params)
    assert np.abs(grads["beside"]["out"]["kernel"]).max() > 0
    assert all((x == 0).all() for x in jax.tree.leaves(grads["aligner"]))
    moved = {**params, "beside": jax.tree.map(lambda x, g: x - g, *(
        tree["beside"] for tree in (params, grads)
    ))}  # fmt: skip
    again = jax.jit(jax.grad(error))(moved)
    assert max(np.abs(x).max() for x in jax.tree.leaves(again["aligner"])) > 0


def test_pads_and_dropped_rows_leave_no_trace(tiny):
    model, params = tiny
    ones = jax.tree.map(jnp.ones_like, params["beside"])
    run = jax.jit(lambda *features: model.condition({**params, "beside": ones}, *features))
    out = run(FEATURES, DROP)
    assert out.tokens.shape == T5.shape and out.mask is None
    assert (out.tokens[2] == 0).all() and (np.abs(out.tokens[:2] - T5[:2]).max((1, 2)) > 0.1).all()
    noise = np.where(MASK[..., None], STATES, 100.0).astype(np.float32)
    assert np.array_equal(run(dataclasses.replace(FEATURES, states=noise), DROP).tokens, out.tokens)
    with pytest.raises(InputError, match="features.t5 must be given to a model with route"):
        model.condition(params, dataclasses.replace(FEATURES, t5=None))
