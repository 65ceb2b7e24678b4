# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DiffusionConfig
from mimir_jax.diffusion import objectives, schedules

KINDS = ("velocity", "noise", "x0", "flow")
SCHEDULE = schedules.DiscreteSchedule()
TIMESTEP = jnp.array([3, 400, 800])


@pytest.fixture(scope="module")
def pair():
    return tuple(jax.random.normal(jax.random.key(0), (2, 3, 2, 4)))


def weights(x, timestep=TIMESTEP):
    return (objectives.broadcast_rows(f(timestep), x) for f in (SCHEDULE.alpha, SCHEDULE.sigma))


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_give_back_data_and_noise(pair, kind):
    x0, noise = pair
    alpha, sigma = weights(x0)
    xt = objectives.add_noise(SCHEDULE, x0, noise, TIMESTEP)
    pred = objectives.target(kind, x0, noise, alpha, sigma)
    np.testing.assert_allclose(objectives.to_x0(kind, pred, xt, alpha, sigma), x0, atol=1e-4)
    np.testing.assert_allclose(objectives.to_noise(kind, pred, xt, alpha, sigma), noise, atol=1e-4)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("to", KINDS)
def test_conversions_invert(pair, source, to):
    pred, xt = pair  # any prediction, also a wrong one
    alpha, sigma = weights(xt)
    there = objectives.convert(pred, xt, alpha, sigma, source=source, to=to)
    back = objectives.convert(there, xt, alpha, sigma, source=to, to=source)
    np.testing.assert_allclose(back, pred, atol=2e-3)


def test_velocity_is_finite_at_both_ends(pair):
    x0, noise = pair
    timestep = jnp.array([0, 999, 999])
    alpha, sigma = weights(x0, timestep)
    xt = objectives.add_noise(SCHEDULE, x0, noise, timestep)
    np.testing.assert_array_equal(xt[1:], noise[1:])
    velocity = objectives.target("velocity", x0, noise, alpha, sigma)
    recovered = objectives.to_x0("velocity", velocity, xt, alpha, sigma)
    np.testing.assert_allclose(recovered, x0, atol=1e-5)


def test_v_loss_is_the_weighted_x0_error(pair):
    x0, noise = pair
    pred = jnp.sin(3.0 * x0)
    alpha, sigma = weights(x0)
    xt = objectives.add_noise(SCHEDULE, x0, noise, TIMESTEP)
    error = objectives.to_x0("velocity", pred, xt, alpha, sigma) - x0
    expected = jnp.mean((error / sigma) ** 2, axis=(1, 2))
    ours = objectives.loss(SCHEDULE, pred, x0, noise, TIMESTEP)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)  # the x0 form cancels at small sigma


def test_loss_and_noising_run_in_float32(pair, strict_dtypes):
    x0, noise = (x.astype(jnp.bfloat16) for x in pair)
    assert objectives.add_noise(SCHEDULE, x0, noise, TIMESTEP).dtype == jnp.float32
    assert objectives.loss(SCHEDULE, x0, x0, noise, TIMESTEP).dtype == jnp.float32


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_stratified_timesteps_cover_every_interval(batch):
    keys = jax.random.split(jax.random.key(0), 4000 // batch)
    draw = jax.jit(jax.vmap(lambda key: SCHEDULE.sample_times(key, batch)))
    drawn = np.asarray(draw(keys))
    edges = np.arange(batch) * 1000 / batch
    assert (drawn >= np.floor(edges)).all()
    assert (drawn <= np.ceil(edges + 1000 / batch)).all()
    assert drawn.max() <= 999
    counts = np.histogram(drawn, bins=10, range=(0, 1000))[0] / drawn.size
    np.testing.assert_allclose(counts, 0.1, atol=0.02)


def test_free_timesteps_are_uniform_and_depend_on_the_key_alone():
    schedule = schedules.DiscreteSchedule(DiffusionConfig(stratified=False))
    draw = lambda seed: schedule.sample_times(jax.random.key(seed), 5000)  # noqa: E731
    counts = np.histogram(draw(0), bins=10, range=(0, 1000))[0] / 5000
    np.testing.assert_allclose(counts, 0.1, atol=0.02)
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).mean() > 0.9


def test_timesteps_follow_the_power_of_their_density():
    schedule = schedules.DiscreteSchedule(DiffusionConfig(timestep_power=2.0))
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: schedule.sample_times(key, 8)))(keys))
    counts = np.histogram(drawn, bins=4, range=(0, 1000))[0] / drawn.size
    np.testing.assert_allclose(counts, np.array([1, 3, 5, 7]) / 16, atol=0.02)
    assert drawn.min() >= 0 and drawn.max() == 999
