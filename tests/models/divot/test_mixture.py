# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import MixtureConfig
from mimir_jax.models import functional
from mimir_jax.models.divot import mixture
from tests.helpers import relative_error

CFG = MixtureConfig(token_width=7, llm_width=10, num_components=3)
RNG = np.random.default_rng(0)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@functools.cache
def make(cfg=CFG):
    """The head with random parameters."""
    model = functional.build(mixture.MixtureHead, cfg)
    rng = np.random.default_rng(1)
    draw = lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), jnp.float32)  # noqa: E731
    return model, jax.tree.map(draw, model.abstract_params)


def a_mixture(shape=(2, 5), k=3, d=7, spread=1.0):
    logits, means, log_variances = (
        spread * RNG.normal(size=(*shape, *rest)) for rest in [(k,), (k, d), (k, d)]
    )
    parts = logits, means, np.exp(log_variances)
    return mixture.Mixture(*(jnp.asarray(part, jnp.float32) for part in parts))


def floats(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def torch_mixture(values, var_scale=1.0):
    """The same mixture in float64, by the distributions of torch."""
    import torch
    from torch import distributions as d

    logits, means, variances = (torch.tensor(np.asarray(x, np.float64)) for x in values)
    components = d.Independent(d.Normal(means, torch.sqrt(var_scale * variances)), 1)
    return d.MixtureSameFamily(d.Categorical(logits=logits), components)


@pytest.mark.torch
def test_head_orders_its_outputs_as_means_variances_logits():
    import torch

    model, params = make()
    states = floats(2, 5, 10)
    ours = jax.jit(model.apply)(params, states)
    p = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf, np.float64)), params)
    x = torch.tensor(np.asarray(states, np.float64))
    x = torch.nn.functional.gelu(x @ p["up"]["kernel"] + p["up"]["bias"])
    x = x @ p["down"]["kernel"] + p["down"]["bias"]
    assert x.shape[-1] == CFG.num_outputs == 45
    variances = torch.nn.functional.softplus(x[..., 21:42]).clamp(min=CFG.min_variance)
    assert relative_error(ours.means, x[..., :21].reshape(2, 5, 3, 7)) < 1e-5
    assert relative_error(ours.variances, variances.reshape(2, 5, 3, 7)) < 1e-5
    assert relative_error(ours.logits, x[..., 42:]) < 1e-5


def test_head_has_the_published_size():
    model = functional.build(mixture.MixtureHead, MixtureConfig())
    assert model.num_params == 101_007_648
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


def test_head_in_bfloat16_gives_a_float32_mixture():
    model, params = make(MixtureConfig(token_width=7, llm_width=10, dtype="bfloat16"))
    values = jax.jit(model.apply)(params, floats(5, 10).astype(jnp.bfloat16))
    assert {part.dtype for part in values} == {jnp.dtype("float32")}
    assert values.means.shape == (5, 16, 7)


@pytest.mark.torch
@pytest.mark.parametrize("shape, k, d", [((), 1, 1), ((2, 5), 3, 7), ((3,), 17, 33)])
@pytest.mark.parametrize("var_scale", [1.0, 0.1])
def test_log_likelihood_equals_torch(shape, k, d, var_scale):
    values, tokens = a_mixture(shape, k, d), floats(*shape, d)
    ours = mixture.log_likelihood(values, tokens, var_scale)
    expected = torch_mixture(values, var_scale).log_prob(_tensor(tokens))
    assert relative_error(ours, expected) < 1e-5
    nll = mixture.loss(values, tokens)
    assert nll == pytest.approx(-float(torch_mixture(values).log_prob(_tensor(tokens)).mean()) / d)


def _tensor(x):
    import torch

    return torch.tensor(np.asarray(x, np.float64))


@pytest.mark.torch
def test_gradients_equal_torch():
    values, tokens = a_mixture(), floats(2, 5, 7)
    ours = jax.jit(jax.grad(mixture.loss))(values, tokens)
    reference = torch_mixture(values)
    logits = reference.mixture_distribution.logits.clone().requires_grad_()
    means = reference.component_distribution.base_dist.loc.clone().requires_grad_()
    variances = (reference.component_distribution.base_dist.scale**2).requires_grad_()
    torch_loss(logits, means, variances, tokens).backward()
    for mine, theirs in zip(ours, (logits, means, variances), strict=True):
        assert relative_error(mine, theirs.grad) < 1e-5


def torch_loss(logits, means, variances, tokens):
    from torch import distributions as d

    components = d.Independent(d.Normal(means, variances.sqrt()), 1)
    family = d.MixtureSameFamily(d.Categorical(logits=logits), components)
    return -family.log_prob(_tensor(tokens)).mean() / tokens.shape[-1]


@pytest.mark.torch
@pytest.mark.parametrize("raw", [-1e4, -60.0, 60.0, 1e4], ids=str)
@pytest.mark.parametrize("logit", [50.0, 1e6], ids=str)
def test_extreme_outputs_stay_finite(raw, logit):
    model, params = make()
    means = np.array([[0.0], [1e4], [-300.0]]) + RNG.normal(size=(3, 7))
    outputs = np.concatenate([means.ravel(), np.full(21, raw), [-logit, 0, logit]])
    params = jax.tree.map(jnp.zeros_like, params)
    params["down"]["bias"] = jnp.asarray(outputs, jnp.float32)
    tokens = floats(4, 7)

    @jax.jit
    def run(params):
        values = model.apply(params, jnp.ones((4, 10)))
        return mixture.loss(values, tokens), (values, mixture.log_likelihood(values, tokens))

    gradients, (values, log_p) = jax.grad(run, has_aux=True)(params)
    assert values.variances.min() >= CFG.min_variance
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    expected = torch_mixture(values).log_prob(_tensor(tokens))
    assert relative_error(log_p, expected) < 1e-5
    drawn = mixture.draw(values, jax.random.key(0))
    assert np.isfinite(drawn).all() and np.isfinite(mixture.mean(values)).all()


def test_loss_counts_the_chosen_tokens_alone():
    values, tokens = a_mixture(), floats(2, 5, 7)
    where = jnp.asarray(RNG.random((2, 5)) < 0.5).at[0, 0].set(True)
    chosen = -mixture.log_likelihood(values, tokens)[where].mean() / 7
    assert mixture.loss(values, tokens, where) == pytest.approx(float(chosen), rel=1e-5)
    assert mixture.loss(values, tokens, jnp.ones((2, 5), bool)) == pytest.approx(
        float(mixture.loss(values, tokens)), rel=1e-5
    )
    none = jax.grad(mixture.loss)(values, tokens, jnp.zeros((2, 5), bool))
    assert mixture.loss(values, tokens, jnp.zeros((2, 5), bool)) == 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(none))


@pytest.mark.parametrize("var_scale", [1.0, 0.1])
def test_draws_have_the_moments_of_the_mixture(var_scale):
    one = a_mixture((1,), spread=0.7)
    count = 40_000
    many = mixture.Mixture(*(jnp.repeat(part, count, axis=0) for part in one))
    drawn = np.asarray(mixture.draw(many, jax.random.key(3), var_scale), np.float64)
    weights = np.asarray(jax.nn.softmax(one.logits))[0][:, None]
    means, variances = np.asarray(one.means)[0], var_scale * np.asarray(one.variances)[0]
    mean = (weights * means).sum(0)
    second = (weights * (variances + means**2)).sum(0)
    deviation = np.sqrt(second - mean**2)
    assert np.abs((drawn.mean(0) - mean) / deviation).max() < 5 / np.sqrt(count)
    assert np.abs(drawn.var(0) / deviation**2 - 1).max() < 0.05
    assert relative_error(mixture.mean(one)[0], mean) < 1e-5


def test_draws_without_variance_are_means_of_components():
    values = a_mixture((4, 300))
    drawn = mixture.draw(values, jax.random.key(0), 0.0)
    same = (np.asarray(drawn)[..., None, :] == np.asarray(values.means)).all(-1)
    assert (same.sum(-1) == 1).all()
    assert (same.sum((0, 1)) > 0).all()


def test_draws_differ_between_tokens_and_keys():
    values = mixture.Mixture(*(jnp.broadcast_to(x, (2, 5, *x.shape)) for x in a_mixture(())))
    first, second = (np.asarray(mixture.draw(values, jax.random.key(i))) for i in range(2))
    assert len(np.unique(np.concatenate([first, second]).reshape(20, 7), axis=0)) == 20
    assert (first == np.asarray(mixture.draw(values, jax.random.key(0)))).all()


@pytest.mark.parametrize("fields", [dict(num_components=0), dict(min_variance=0.0)], ids=str)
def test_bad_configs_are_refused(fields):
    with pytest.raises(ValueError, match=f"MixtureConfig.{next(iter(fields))} must be"):
        MixtureConfig(**fields)
