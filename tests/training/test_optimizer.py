# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mimir_jax.config import OptimizerConfig
from mimir_jax.training import optimizer

AXES = {
    "dit": {"kernel": ("embed", "mlp"), "bias": ("mlp",), "stack": ("layers", "norm")},
    "fuser": {"kernel": ("embed", "mlp")},
}
PARAMS = {
    "dit": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "stack": jnp.ones((4, 3))},
    "fuser": {"kernel": jnp.ones((2, 3))},
}


def updates(config, grads=PARAMS, steps=1):
    tx = optimizer.make_optimizer(config, 100, AXES)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        out, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, out)
    return out, state


def test_frozen_parameters_get_zero_updates_and_no_moments():
    out, state = updates(OptimizerConfig(freeze=("^dit/",)))
    assert all(not leaf.any() for leaf in jax.tree.leaves(out["dit"]))
    assert out["fuser"]["kernel"].all()
    moments = optax.tree_utils.tree_get(state, "mu")
    assert [leaf.shape for leaf in jax.tree.leaves(moments)] == [(2, 3)]


def test_lr_scale_multiplies_the_first_match_only():
    plain, _ = updates(OptimizerConfig(weight_decay=0.0))
    scaled, _ = updates(OptimizerConfig(weight_decay=0.0, lr_scale=(("^fuser/", 10.0), ("r", 3.0))))
    np.testing.assert_allclose(scaled["fuser"]["kernel"], 10 * plain["fuser"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(scaled["dit"]["kernel"], 3 * plain["dit"]["kernel"], rtol=1e-6)


def test_delayed_parameters_begin_to_train_after_their_steps():
    config = OptimizerConfig(delay=(("^dit/kernel", 2), ("^dit/", 4)))
    for steps, begun in ((2, set()), (3, {"kernel"}), (4, {"kernel"}), (5, set(PARAMS["dit"]))):
        out, _ = updates(config, steps=steps)
        assert out["fuser"]["kernel"].all()
        assert {name for name in out["dit"] if out["dit"][name].any()} == begun
    late, _ = updates(config, steps=5)
    plain, _ = updates(OptimizerConfig(weight_decay=0.0), steps=5)
    np.testing.assert_allclose(late["dit"]["bias"], plain["dit"]["bias"])  # moments ran on


def test_weight_decay_touches_matrices_only():
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    out, _ = updates(OptimizerConfig(weight_decay=0.1), grads=zeros)
    assert (out["dit"]["kernel"] < 0).all()
    assert not out["dit"]["bias"].any() and not out["dit"]["stack"].any()


def test_clipping_bounds_the_global_norm_of_trained_parameters():
    huge = jax.tree.map(lambda x: 1e6 * x, PARAMS)
    a, _ = updates(OptimizerConfig(eps=1.0, weight_decay=0.0, clip_norm=1.0), grads=huge)
    b, _ = updates(OptimizerConfig(eps=1.0, weight_decay=0.0, clip_norm=1e9), grads=huge)
    assert float(optax.tree.norm(a)) < float(optax.tree.norm(b)) / 5


def test_schedules_start_above_zero_and_end_where_promised():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, end_fraction=0.05)
    constant = optimizer.make_schedule(config, 100)
    np.testing.assert_allclose([constant(0), constant(9), constant(99)], [0.1, 1, 1], rtol=1e-6)
    config = OptimizerConfig(
        learning_rate=1.0, schedule="cosine", warmup_steps=10, end_fraction=0.05
    )
    cosine = optimizer.make_schedule(config, 100)
    np.testing.assert_allclose([cosine(0), cosine(10), cosine(100)], [0.1, 1, 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    "field",
    [dict(freeze=("wings",)), dict(lr_scale=(("wings", 2.0),)), dict(delay=(("wings", 2),))],
)
def test_a_pattern_without_a_parameter_is_refused(field):
    with pytest.raises(ValueError, match="pattern 'wings' must match a parameter"):
        optimizer.make_optimizer(OptimizerConfig(**field), 100, AXES)


@pytest.mark.parametrize(
    "fields",
    [dict(name="adafactor"), dict(name="adafactor", b1=0.0), dict(momentum_dtype="bfloat16")],
    ids=["adafactor", "adafactor-without-momentum", "adamw-bfloat16"],
)
def test_optimizers_of_less_memory_solve_a_least_squares_problem(fields):
    axes = {"kernel": ("embed", "mlp"), "bias": ("mlp",)}
    rng = np.random.default_rng(0)
    x, goal = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((64, 128), (128, 130)))
    config = OptimizerConfig(
        learning_rate=0.05, schedule="cosine", warmup_steps=5, weight_decay=0.0, clip_norm=1e9,
        **fields,
    )  # fmt: skip
    tx = optimizer.make_optimizer(config, 200, axes)

    def loss(params):
        return jnp.mean((x @ (params["kernel"] - goal) + params["bias"][None]) ** 2)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = {"kernel": jnp.zeros((128, 130)), "bias": jnp.zeros(130)}
    state, start = tx.init(params), loss(params)
    for _ in range(200):
        params, state = step(params, state)
    assert loss(params) < 1e-2 * start


def test_muon_makes_block_matrices_orthogonal_and_leaves_the_rest_to_adamw():
    axes = {"blocks": {"kernel": ("layers", "embed", "mlp"), "bias": ("layers", "mlp")},
            "head": ("embed", None)}  # fmt: skip
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    grads = {"blocks": {"kernel": draw(3, 24, 40), "bias": draw(3, 40)}, "head": draw(24, 5)}
    params = jax.tree.map(jnp.zeros_like, grads)
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=0, clip_norm=1e9)
    updates = {}
    for name in ("adamw", "muon"):
        tx = optimizer.make_optimizer(dataclasses.replace(config, name=name), 10, axes)
        updates[name], _ = tx.update(grads, tx.init(params), params)
    u, _, vt = np.linalg.svd(grads["blocks"]["kernel"], full_matrices=False)
    got, want = updates["muon"]["blocks"]["kernel"], -(u @ vt) * 0.2 * 40**0.5
    cosine = (got * want).sum((1, 2)) / (np.linalg.norm(got, axis=(1, 2)) * 0.2 * (40 * 24) ** 0.5)
    assert (cosine > 0.97).all()
    np.testing.assert_allclose(np.sqrt((got**2).mean()), 0.2, rtol=0.15)
    for path in (("blocks", "bias"), ("head",)):
        a, b = (functools.reduce(dict.__getitem__, path, updates[n]) for n in ("adamw", "muon"))
        np.testing.assert_array_equal(a, b)


def test_muon_refuses_a_network_without_stacked_blocks():
    with pytest.raises(ValueError, match="optimizer.name=muon needs a network with stacked blocks"):
        optimizer.make_optimizer(OptimizerConfig(name="muon"), 100, {"kernel": ("embed", "mlp")})
