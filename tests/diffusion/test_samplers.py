# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DiffusionConfig, SamplerConfig
from mimir_jax.diffusion import samplers, schedules
from tests.diffusion.trajectories import (
    RELEASED,
    SHAPE,
    reference,
    run_reference,
    trajectory,
    velocity,
)
from tests.helpers import relative_error


def make(name, num_steps, shift=1.0, previous="reference", **overrides):
    schedule = schedules.DiscreteSchedule(DiffusionConfig(snr_shift=shift, **overrides))
    cfg = SamplerConfig(name=name, steps=num_steps, previous=previous)
    return samplers.make_sampler(cfg, schedule)


def predict(xt, timestep, condition, aux):
    return velocity(xt, timestep), aux


@pytest.mark.torch
@pytest.mark.parametrize("name", ["ddim", "dpm"])
@pytest.mark.parametrize("num_steps", [50, 30, 7])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_trajectory_is_that_of_diffusers(name, num_steps, shift):
    rng = np.random.default_rng(0)
    latents, noise = rng.normal(size=SHAPE), rng.normal(size=(num_steps, *SHAPE))
    scheduler = reference(name, RELEASED | {"snr_shift_scale": shift})
    table = scheduler.alphas_cumprod.numpy()
    expected = run_reference(scheduler, table, num_steps, latents, noise)
    sampler = make(name, num_steps, shift)
    with jax.enable_x64(True):
        exact = trajectory(sampler, latents, noise)
        assert exact.dtype == jnp.float64
        assert relative_error(exact, expected) < 1e-12
    ours = trajectory(sampler, latents.astype(np.float32), noise.astype(np.float32))
    assert relative_error(ours, expected) < 1e-6
    drawn = samplers.sample(
        predict,
        sampler,
        SHAPE,
        key=jax.random.key(0),
        latents=jnp.asarray(latents, jnp.float32),
        noise=jnp.asarray(noise, jnp.float32) if sampler.stochastic else None,
    )
    np.testing.assert_allclose(drawn, ours[-1], atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("end", ["clean", "first"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_eta_is_that_of_diffusers(eta, end):
    import torch
    from diffusers import DDIMScheduler

    rng = np.random.default_rng(0)
    latents, noise = rng.normal(size=SHAPE), rng.normal(size=(7, *SHAPE))
    zero = eta < 1.0  # at alpha 0 and eta 1 the reference takes the root of a rounding error
    sampler = dataclasses.replace(make("ddim", 7, zero_terminal_snr=zero), eta=eta, end=end)
    scheduler = DDIMScheduler(
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        set_alpha_to_one=end == "clean",
        clip_sample=False,
    )
    scheduler.alphas_cumprod = torch.tensor(sampler.schedule.alphas_cumprod)  # theirs is float32
    if end == "first":
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(7)
    xt, expected = torch.tensor(latents), []
    for t, fresh in zip(scheduler.timesteps, noise, strict=True):
        pred = torch.tensor(velocity(xt.numpy(), np.full(2, t.item())))
        xt = scheduler.step(pred, t, xt, eta=eta, variance_noise=torch.tensor(fresh)).prev_sample
        expected.append(xt.numpy())
    with jax.enable_x64(True):
        ours = trajectory(sampler, latents, noise)
    assert relative_error(ours, np.stack(expected)) < 1e-12


def test_eta_zero_has_the_coefficients_of_the_deterministic_sampler():
    steps = make("ddim", 50).coefficients()
    now, after = (steps["alpha"] ** 2, np.append(steps["alpha"][1:] ** 2, 1.0))
    np.testing.assert_allclose(steps["a"], np.sqrt((1 - after) / (1 - now)), atol=1e-12)
    assert set(steps) == {"alpha", "sigma", "a", "b"}


def test_aux_goes_from_step_to_step():
    def counting(xt, timestep, condition, aux):
        return velocity(xt, timestep) * aux["scale"], {"scale": aux["scale"] + 1.0}

    def by_timestep(xt, timestep, condition, aux):  # 999, 799, ...: step 0, 1, ...
        return velocity(xt, timestep) * (1.0 + (999 - timestep) // 200)[:, None, None], aux

    ours, expected = (
        samplers.sample(f, make("ddim", 5), SHAPE, key=jax.random.key(0), aux=aux)
        for f, aux in ((counting, {"scale": jnp.ones(())}), (by_timestep, None))
    )
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["ddim", "dpm"])
@pytest.mark.parametrize("previous", ["reference", "grid"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 30, 1000])
@pytest.mark.parametrize("zero_terminal_snr", [True, False])
def test_coefficients_are_finite(name, previous, num_steps, zero_terminal_snr):
    sampler = make(name, num_steps, 3.0, previous, zero_terminal_snr=zero_terminal_snr)
    steps = sampler.coefficients()
    assert all(np.isfinite(column).all() for column in steps.values())
    assert {column.shape for column in steps.values()} == {(num_steps,)}


@pytest.mark.parametrize(
    ("name", "num_steps", "options"),
    [
        ("ddim", 200, {}),
        pytest.param("ddim", 1000, {"eta": 1.0}, marks=pytest.mark.slow),
        ("dpm", 200, {}),
    ],
)
def test_samplers_recover_a_gaussian(name, num_steps, options):
    mean, std = 0.8, 0.3
    sampler = dataclasses.replace(make(name, num_steps, previous="grid"), **options)

    def optimal(xt, timestep, condition, aux):
        alpha, sigma = (
            f(timestep)[:, None] for f in (sampler.schedule.alpha, sampler.schedule.sigma)
        )
        residual = (xt - alpha * mean) / ((alpha * std) ** 2 + sigma**2)
        x0, noise = mean + alpha * std**2 * residual, sigma * residual
        return alpha * noise - sigma * x0, aux

    draw = jax.jit(lambda key: samplers.sample(optimal, sampler, (4, 5000), key=key))
    x = draw(jax.random.key(0))
    assert abs(float(x.mean()) - mean) < 0.01
    assert abs(float(x.std()) - std) < 0.01


@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_a_certain_prediction_is_returned(name):
    sampler = make(name, 10, previous="grid")

    def certain(xt, timestep, condition, aux):  # the velocity towards `condition`
        alpha, sigma = (
            f(timestep)[:, None, None] for f in (sampler.schedule.alpha, sampler.schedule.sigma)
        )
        return (alpha * xt - condition) / sigma, aux

    goal = jax.random.normal(jax.random.key(1), SHAPE)
    x = samplers.sample(certain, sampler, SHAPE, goal, key=jax.random.key(0))
    np.testing.assert_allclose(x, goal, atol=1e-4)


def test_dpm_depends_on_its_key_alone():
    sampler = make("dpm", 5)
    draw = jax.jit(lambda key: samplers.sample(predict, sampler, SHAPE, key=key))
    np.testing.assert_array_equal(draw(jax.random.key(0)), draw(jax.random.key(0)))
    assert relative_error(draw(jax.random.key(1)), draw(jax.random.key(0))) > 1e-2


@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_latents_keep_their_dtype(name, strict_dtypes):
    half = lambda xt, timestep, condition, aux: (jnp.sin(xt), aux)  # noqa: E731
    latents = jnp.ones(SHAPE, jnp.bfloat16)
    x = samplers.sample(half, make(name, 3), SHAPE, key=jax.random.key(0), latents=latents)
    assert x.dtype == jnp.bfloat16


def test_missing_randomness_is_named():
    with pytest.raises(ValueError, match="key must be a random key"):
        samplers.sample(predict, make("dpm", 3), SHAPE, latents=jnp.zeros(SHAPE))
    with pytest.raises(ValueError, match=r"latents must have shape \(2, 3, 4\), got \(2, 3\)"):
        samplers.sample(predict, make("ddim", 3), SHAPE, latents=jnp.zeros(SHAPE[:2]))
