# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import StabilizerConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import functional
from mimir_jax.models.mimir import stabilizer

T5, LLM = 8, 6

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@functools.cache
def make(**options):
    cfg = StabilizerConfig(t5_width=T5, llm_width=LLM, **options)
    return functional.build(stabilizer.SemanticStabilizer, cfg)


def make_features(seed=0, num_tokens=4, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return conditioning.TextFeatures(
        t5=jnp.zeros((3, 5, T5)),
        t5_mask=jnp.ones((3, 5), bool),
        instructions=jnp.asarray(rng.normal(1, 4, (3, num_tokens, LLM)), dtype),
    )


def randomise(model):
    rng = np.random.default_rng(7)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 1, leaf.shape), jnp.float32)  # noqa: E731
    return jax.tree.map(draw, model.abstract_params)


def reference(cfg, params, features, drop):
    """e_s = e_i + e_l in float64."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    e_s = np.zeros((3, cfg.num_tokens, T5))
    if cfg.use_instructions:
        x = np.asarray(features.instructions, np.float64)
        x = x - (x.mean(-1, keepdims=True) if cfg.norm == "layernorm" else 0)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + cfg.norm_eps) * params["scale"]
        x = x @ params["project"]["kernel"] + params["project"]["bias"]
        e_s = x * ~np.asarray(drop)[:, None, None]
    return e_s + params.get("learned", 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(norm="rmsnorm"),
        dict(num_tokens=2, norm_eps=0.1),
        dict(use_learned=False),
        dict(use_instructions=False),
    ],
    ids=str,
)
def test_stabilizer_follows_the_equations(options):
    model = make(**options)
    features = make_features(num_tokens=model.config.num_tokens)
    params, drop = randomise(model), jnp.array([True, False, False])
    out = jax.jit(model.apply)(params, features, drop)
    expected = reference(model.config, params, features, drop)
    assert out.mask is None and out.tokens.dtype == jnp.float32
    assert helpers.relative_error(out.tokens, expected) < 1e-5


def test_stabilizer_starts_as_its_learned_tokens():
    model = make()
    params = model.init(jax.random.key(0))
    out = jax.jit(model.apply)(params, make_features())
    for row in np.asarray(out.tokens):
        np.testing.assert_array_equal(row, params["learned"])


def test_learned_tokens_start_small():
    learned = make(num_tokens=512).init(jax.random.key(0))["learned"]
    assert abs(np.std(learned) - 0.02) < 1e-3 and abs(np.mean(learned)) < 1e-3
    assert abs(np.std(make(learned_std=0.5).init(jax.random.key(0))["learned"]) - 0.5) < 0.2


def test_projection_can_start_away_from_zero():
    model = make(projection_init="variance_scaling")
    params = model.init(jax.random.key(0))
    tokens = model.instruction_tokens(params, make_features())
    assert (np.asarray(tokens) != 0).all()
    assert not make().instruction_tokens(make().init(jax.random.key(0)), make_features()).any()


def test_null_rows_are_the_learned_tokens_alone():
    model = make()
    params, drop = randomise(model), jnp.array([True, False, True])
    apply = jax.jit(model.apply)
    out, other = (apply(params, make_features(seed), drop) for seed in (0, 1))
    for row in (0, 2):
        np.testing.assert_array_equal(out.tokens[row], params["learned"])
        np.testing.assert_array_equal(other.tokens[row], params["learned"])
    np.testing.assert_array_equal(out.tokens[1], apply(params, make_features()).tokens[1])
    assert (np.asarray(out.tokens[1]) != np.asarray(other.tokens[1])).any()


def test_gradients_of_the_first_two_steps():
    model, features = make(), make_features()
    weights = jnp.asarray(np.random.default_rng(1).normal(0, 1, (3, 4, T5)), jnp.float32)
    grad = jax.jit(jax.grad(lambda p: jnp.vdot(model.apply(p, features).tokens, weights)))
    params = model.init(jax.random.key(0))
    first = grad(params)
    assert (np.asarray(first["project"]["kernel"]) != 0).all()
    assert (np.asarray(first["learned"]) != 0).all()
    assert first["scale"] == 0
    assert grad(jax.tree.map(lambda p, g: p - 0.1 * g, params, first))["scale"] != 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"learned", "project", "scale"}),
        (dict(use_learned=False), {"project", "scale"}),
        (dict(use_instructions=False), {"learned"}),
    ],
    ids=["both", "instructions", "learned"],
)
def test_parameters_are_those_of_the_summands(options, expected):
    model = make(**options)
    assert set(model.abstract_params) == expected
    ranks = jax.tree.map(
        lambda leaf, axes: leaf.ndim == len(axes), model.abstract_params, model.axes
    )
    assert all(jax.tree.leaves(ranks))


def test_learned_tokens_alone_need_no_instructions():
    model = make(use_instructions=False)
    features = dataclasses.replace(make_features(), instructions=None)
    out = model.apply(randomise(model), features, jnp.array([True, False, False]))
    np.testing.assert_array_equal(out.tokens[0], out.tokens[1])


def test_bfloat16_compute_stays_close():
    params = randomise(make())
    full = make().apply(params, make_features())
    half = make(dtype="bfloat16").apply(params, make_features(dtype=jnp.bfloat16))
    assert half.tokens.dtype == jnp.bfloat16
    assert helpers.relative_error(half.tokens.astype(jnp.float32), full.tokens) < 2e-2


def test_wrong_number_of_instructions_is_named():
    params = make().init(jax.random.key(0))
    with pytest.raises(ValueError, match="one state per stabilizer token, 4, got 3"):
        make().apply(params, make_features(num_tokens=3))
    with pytest.raises(ValueError, match="one state per stabilizer token, 4, got None"):
        make().apply(params, dataclasses.replace(make_features(), instructions=None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(use_instructions=False, use_learned=False),
            "use_instructions or use_learned must be True",
        ),
        (dict(num_tokens=0), "num_tokens must be at least 1, got 0"),
        (dict(scale_init=0.0), "scale_init must be positive"),
    ],
    ids=str,
)
def test_bad_configs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        StabilizerConfig(**options)
