# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import (
    EDMConfig,
    MimirSystemConfig,
    SamplerConfig,
    from_config_dict,
    to_config_dict,
)
from mimir_jax.diffusion import guidance, objectives, samplers, schedules
from tests.helpers import relative_error

SCHEDULE = schedules.make_schedule(EDMConfig())
SHAPE = (2, 3, 4)
MEAN, STD = 0.8, 0.3


def network(xt, time):
    """A smooth stand-in for F, the same in numpy and JAX."""
    module = jnp if isinstance(xt, jax.Array) else np
    return 0.7 * module.sin(xt) + 0.1 * time.reshape(-1, 1, 1)


def preconditioned():
    return SCHEDULE.precondition(lambda xt, time, condition, aux: (network(xt, time), aux))


def denoiser(xt, sigma, condition, aux):
    """The exact D of normally distributed data."""
    sigma = objectives.broadcast_rows(sigma, xt)
    return MEAN + STD**2 / (STD**2 + sigma**2) * (xt - MEAN), aux


@pytest.mark.torch
def test_preconditioned_euler_is_that_of_diffusers():
    torch = pytest.importorskip("torch")
    from diffusers import EDMEulerScheduler

    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(7)
    latents = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    xt = torch.tensor(latents) * scheduler.config.sigma_max
    for t in scheduler.timesteps:
        into = scheduler.scale_model_input(xt, t)
        pred = network(into.numpy(), np.full(2, t.item(), np.float32))
        xt = scheduler.step(torch.tensor(pred), t, xt).prev_sample
    sampler = samplers.Euler(SCHEDULE, 7)
    run = jax.jit(lambda x: samplers.sample(preconditioned(), sampler, SHAPE, latents=x))
    assert relative_error(run(jnp.asarray(latents)), xt.numpy()) < 1e-5


def test_heun_is_algorithm_1_of_the_paper():
    latents = np.random.default_rng(0).normal(size=SHAPE)
    d = lambda x, s: (x - np.asarray(denoiser(jnp.asarray(x), jnp.full(2, s), None, None)[0])) / s  # noqa: E731
    sigmas = np.append(SCHEDULE.grid(6), 0.0)
    with jax.enable_x64(True):
        ours = samplers.sample(denoiser, samplers.Heun(SCHEDULE, 6), SHAPE, latents=latents)
        x = latents * sigmas[0]
        for s, after in zip(sigmas, sigmas[1:], strict=False):
            slope = d(x, s)
            new = x + (after - s) * slope
            x = new if after == 0 else x + (after - s) * (slope + d(new, after)) / 2
    assert relative_error(ours, x) < 1e-6


def test_samplers_follow_the_flow_to_a_gaussian_and_heun_is_of_second_order():
    latents = jax.random.normal(jax.random.key(0), (4, 5000))
    top = SCHEDULE.config.sigma_max
    exact = MEAN + (top * latents - MEAN) * STD / np.hypot(STD, top)
    errors = {}
    for name, kind in (("euler", samplers.Euler), ("heun", samplers.Heun)):
        for steps in (32, 64):
            sampler = kind(SCHEDULE, steps)
            ours = jax.jit(functools.partial(samplers.sample, denoiser, sampler, latents.shape))
            errors[name, steps] = relative_error(ours(latents=latents), exact)
    assert errors["heun", 64] < 5e-3 < errors["euler", 64] < 0.05
    assert errors["euler", 32] / errors["euler", 64] > 1.7
    assert errors["heun", 32] / errors["heun", 64] > 3.5


def test_preconditioning_gives_the_network_unit_variance():
    sigma = jnp.array([0.002, 0.5, 80.0])
    c, data = SCHEDULE.scalings(sigma), SCHEDULE.config.sigma_data
    np.testing.assert_allclose(c.into**2 * (data**2 + sigma**2), 1.0, rtol=1e-5)
    target = ((1 - c.skip) * data) ** 2 + (c.skip * sigma) ** 2  # variance of what F must give
    np.testing.assert_allclose(target / c.out**2, 1.0, rtol=1e-5)
    np.testing.assert_allclose(SCHEDULE.loss_weight(sigma) * c.out**2, 1.0, rtol=1e-5)


def test_the_loss_is_that_of_the_network_at_every_level():
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 5))
    sigma = jnp.array([0.01, 0.6, 20.0])
    xt = objectives.add_noise(SCHEDULE, x0, noise, sigma)
    np.testing.assert_allclose(xt, x0 + sigma[:, None] * noise, rtol=1e-6)
    pred, _ = SCHEDULE.precondition(lambda xt, t, c, aux: (jnp.zeros_like(xt), aux))(
        xt, sigma, None, None
    )
    c = SCHEDULE.scalings(sigma)
    expected = jnp.mean(((x0 - c.skip[:, None] * xt) / c.out[:, None]) ** 2, axis=1)
    np.testing.assert_allclose(objectives.loss(SCHEDULE, pred, x0, noise, sigma), expected, 1e-4)


def test_times_are_log_normal_and_bands_share_them():
    drawn = np.log(SCHEDULE.sample_times(jax.random.key(0), 4000))
    cfg = SCHEDULE.config
    assert abs(drawn.mean() - cfg.log_mean) < 0.01 and abs(drawn.std() - cfg.log_std) < 0.01
    assert (np.diff(drawn) > -0.5).all()  # stratified: in order but for neighbours
    bands = [np.asarray(SCHEDULE.band_times(band, 5, 8)) for band in range(5)]
    assert (np.diff(np.concatenate(bands)) > 0).all()
    assert SCHEDULE.band_names(5)[2] == "sigma0.222_0.408"
    free = dataclasses.replace(cfg, stratified=False)
    other = schedules.make_schedule(free).sample_times(jax.random.key(0), 4000)
    assert (np.diff(other) < 0).mean() > 0.3


def test_guidance_takes_continuous_times_at_a_constant_scale():
    predict = lambda xt, sigma, condition, aux: (xt * condition + sigma[:, None], aux)  # noqa: E731
    cfg = SamplerConfig(name="heun", guidance_scale=3.0, dynamic_guidance="off")
    guided = guidance.guided_by(predict, jnp.asarray(guidance.scales(cfg, SCHEDULE)))
    condition = jnp.array([[0.0], [0.0], [1.0], [1.0]])
    pred, _ = guided(jnp.ones((2, 1)), jnp.array([0.5, 2.0]), condition, None)
    np.testing.assert_allclose(pred, [[3.5], [5.0]])
    smooth = dataclasses.replace(cfg, dynamic_guidance="smooth")
    with pytest.raises(ValueError, match="dynamic_guidance must be off"):
        guidance.scales(smooth, SCHEDULE)


@pytest.mark.parametrize("kind", [samplers.Euler, samplers.Heun])
def test_latents_keep_their_dtype(kind, strict_dtypes):
    half = lambda xt, time, condition, aux: (jnp.sin(xt), aux)  # noqa: E731
    latents = jnp.ones(SHAPE, jnp.bfloat16)
    predict = SCHEDULE.precondition(half)
    assert samplers.sample(predict, kind(SCHEDULE, 3), SHAPE, latents=latents).dtype == jnp.bfloat16


def test_a_sampler_of_the_other_kind_of_schedule_is_refused():
    with pytest.raises(ValueError, match="sampler name must be one of euler, heun"):
        samplers.make_sampler(SamplerConfig(name="dpm"), SCHEDULE)
    with pytest.raises(ValueError, match="sampler name must be one of ddim, dpm"):
        samplers.make_sampler(SamplerConfig(name="heun"), schedules.DiscreteSchedule())


def test_a_system_config_takes_noise_levels_and_names_what_does_not_go_with_them():
    system = MimirSystemConfig()
    options = dict(diffusion=EDMConfig(), vae=system.vae)
    with pytest.raises(ValueError, match=r"sampler.name must be euler or heun .* got 'dpm' and"):
        dataclasses.replace(system, **options)
    heun = SamplerConfig(name="heun")
    with pytest.raises(ValueError, match="sampler.dynamic_guidance must be off unless"):
        dataclasses.replace(system, **options, sampler=heun)
    off = dataclasses.replace(heun, dynamic_guidance="off")
    config = dataclasses.replace(system, **options, sampler=off)
    values = to_config_dict(config)
    assert from_config_dict(MimirSystemConfig, values) == config
    with pytest.raises(ValueError, match=r"sigma_max must be above 0.002, got 0.001"):
        EDMConfig(sigma_max=0.001)
    with pytest.raises(ValueError, match="eta must be 0 unless name is ddim"):
        SamplerConfig(eta=0.5)
