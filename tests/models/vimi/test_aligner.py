# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mimir_jax.config import AlignerConfig, DiTConfig
from mimir_jax.errors import InputError
from mimir_jax.models import condition, dit, functional
from mimir_jax.models.vimi import aligner
from tests.helpers import relative_error

CFG = AlignerConfig(
    llm_width=12,
    text_width=10,
    text_length=6,
    width=16,
    num_layers=2,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
)
RNG = np.random.default_rng(0)
MASK = np.arange(9)[None] < np.array([[9], [4], [7]])
STATES = np.where(MASK[..., None], 3 * RNG.normal(size=(3, 9, 12)), 0).astype(np.float32)
FEATURES = condition.PromptFeatures(states=STATES, mask=MASK)
T5 = (0.2 * RNG.normal(size=(3, 6, 10))).astype(np.float32)
T5_MASK = np.arange(6)[None] < np.array([[6], [3], [5]])


@pytest.fixture(scope="module")
def tiny():
    model = functional.build(aligner.Aligner, CFG)
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.slow
def test_pads_do_not_count_and_dropped_rows_are_zeros(tiny, strict_dtypes):
    model, params = tiny
    run = jax.jit(model.apply)
    out = run(params, FEATURES)
    assert out.tokens.shape == (3, 6, 10) and out.mask is None
    noise = np.where(MASK[..., None], STATES, 100.0).astype(np.float32)
    assert np.array_equal(
        run(params, dataclasses.replace(FEATURES, states=noise)).tokens, out.tokens
    )
    alone = condition.PromptFeatures(states=STATES[1:2, :4], mask=MASK[1:2, :4])
    assert relative_error(model.apply(params, alone).tokens[0], out.tokens[1]) < 1e-5
    dropped = run(params, FEATURES, np.array([False, True, False]))
    assert (dropped.tokens[1] == 0).all() and np.array_equal(dropped.tokens[0], out.tokens[0])


@pytest.mark.slow
def test_the_scale_of_the_states_does_not_matter(tiny):
    model, params = tiny
    large = dataclasses.replace(FEATURES, states=50 * STATES)
    tokens = model.apply(params, FEATURES).tokens
    assert relative_error(model.apply(params, large).tokens, tokens) < 1e-4


@pytest.mark.slow
def test_a_base_reads_the_tokens(tiny):
    model, params = tiny
    cfg = DiTConfig(
        num_layers=1,
        num_heads=1,
        head_dim=16,
        in_channels=4,
        out_channels=4,
        text_width=CFG.text_width,
        text_length=CFG.text_length,
        time_width=8,
        sample_frames=2,
        sample_height=4,
        sample_width=4,
    )
    base = functional.build(dit.DiT, cfg)
    xt, time = jnp.zeros((3, 2, 4, 4, 4)), jnp.zeros(3, jnp.int32)

    @jax.jit
    def run(params, key):
        return base.denoise(base.init(key), xt, time, model.apply(params, FEATURES))

    assert run(params, jax.random.key(1)).shape == xt.shape


@pytest.mark.torch
@pytest.mark.parametrize("pads", ["match", "ignore"])
def test_the_match_is_that_of_torch(tiny, pads):
    import torch

    model = functional.build(aligner.Aligner, dataclasses.replace(CFG, pads=pads))
    params = tiny[1]
    ours = model.match(params, FEATURES, T5, T5_MASK)
    keep = torch.tensor(T5_MASK if pads == "ignore" else np.ones_like(T5_MASK))
    tokens = torch.tensor(np.array(model.apply(params, FEATURES).tokens))[keep]
    target = torch.tensor(T5)[keep]
    error = torch.nn.functional.mse_loss(tokens, target)
    cosine = torch.nn.functional.cosine_similarity(tokens, target, dim=-1).mean()
    assert float(ours.error) == pytest.approx(error.item(), rel=1e-5)
    assert float(ours.cosine) == pytest.approx(cosine.item(), rel=1e-5)
    assert float(ours.loss) == pytest.approx((error + 1 - cosine).item(), rel=1e-5)


def test_a_perfect_match_costs_nothing():
    match = aligner.compare(jnp.asarray(T5), jnp.asarray(T5), jnp.asarray(T5_MASK))
    assert float(match.error) == 0 and float(match.loss) == pytest.approx(0, abs=1e-6)
    zero = aligner.compare(jnp.zeros_like(T5), jnp.asarray(T5), jnp.zeros_like(T5_MASK))
    assert np.isfinite(zero).all()


def test_the_first_phase_learns_states_of_t5(tiny):
    model, params = tiny
    optimizer = optax.adam(1e-2)

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            loss, grads = jax.value_and_grad(
                lambda p: model.match(p, FEATURES, jnp.asarray(T5), jnp.asarray(T5_MASK)).loss
            )(params)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(params, updates), state), loss

        return jax.lax.scan(step, (params, optimizer.init(params)), length=150)

    (params, _), losses = train(params)
    assert losses[0] > 1 and losses[-1] < 0.1
    assert model.match(params, FEATURES, T5, T5_MASK).cosine > 0.9


def test_every_leaf_has_axes_and_configs_are_checked():
    model = functional.build(aligner.Aligner, CFG)
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    assert functional.build(aligner.Aligner, AlignerConfig()).num_params == 84_167_680
    with pytest.raises(InputError, match="num_layers must be at least 1, got 0"):
        AlignerConfig(num_layers=0)
