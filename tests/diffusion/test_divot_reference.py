# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedule and DDIM of Divot's published code, by the check values of its reference (divot.md)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DIVOT_REFERENCE, DiffusionConfig, SamplerConfig
from mimir_jax.diffusion import guidance, samplers, scheduler_config, schedules
from mimir_jax.errors import InputError

SCHEDULE = schedules.make_schedule(DiffusionConfig())
SAMPLER = samplers.make_sampler(DIVOT_REFERENCE, SCHEDULE)


def test_schedule_has_the_published_levels():
    levels = SCHEDULE.alphas_cumprod
    expected = {0: 0.99915, 1: 0.99823345, 501: 0.2396822, 981: 6.886572e-5, 998: 1.967888e-7}
    for timestep, level in expected.items():
        np.testing.assert_allclose(levels[timestep], level, rtol=1e-6, atol=1e-7)
    assert levels[999] == 0.0


def test_steps_have_the_published_noise():
    np.testing.assert_array_equal(SAMPLER.times(), 1 + 20 * np.arange(50)[::-1])
    sigma = SAMPLER.coefficients()["s"][::-1]
    expected = {0: 0.0221079, 1: 0.0421283, 2: 0.1035497, 25: 0.3148667, 49: 0.8914343}
    for k, value in expected.items():
        np.testing.assert_allclose(sigma[k], value, atol=1e-6)
    np.testing.assert_allclose(sigma.sum(), 16.965033, atol=1e-6)
    exact = dataclasses.replace(SAMPLER, rounded=False).coefficients()["s"][::-1]
    for k, value in {0: 0.0210092, 1: 0.0402583, 49: 0.8913935}.items():
        np.testing.assert_allclose(exact[k], value, atol=1e-6)


@pytest.mark.parametrize("steps, count", [(6, 7), (30, 31), (50, 50)])
def test_runs_as_many_steps_as_the_published_code(steps, count):
    sampler = dataclasses.replace(SAMPLER, num_steps=steps)
    assert len(sampler.times()) == len(sampler.coefficients()["s"]) == count


def test_a_step_beyond_the_table_is_refused():
    with pytest.raises(InputError, match=r"strided timesteps must be within 0..999, got 1..1000"):
        dataclasses.replace(SAMPLER, num_steps=3).times()


def published_loop(xt, noise, network, scale, rescale):
    """The loop of divot.md 4.4 in float64, on rows of one sample each."""
    levels = SCHEDULE.alphas_cumprod
    half = lambda x: np.float64(np.float16(x))  # noqa: E731
    for z, k in zip(noise, range(49, -1, -1), strict=True):
        level = levels[1 + 20 * k]
        a = half(level)
        p = half(levels[1 + 20 * (k - 1)]) if k else half(levels[0])
        sigma = np.sqrt(half(1.0 / half(1.0 - a)) * (1.0 - p) * (1.0 - a / p))
        cond, uncond = network(xt, 0.3), network(xt, -0.2)
        guided = uncond + scale * (cond - uncond)
        moved = guided * np.std(cond, ddof=1) / np.std(guided, ddof=1)
        guided = rescale * moved + (1.0 - rescale) * guided
        x0 = np.sqrt(level) * xt - np.sqrt(1.0 - level) * guided
        eps = np.sqrt(level) * guided + np.sqrt(1.0 - level) * xt
        xt = np.sqrt(p) * x0 + np.sqrt(1.0 - p - sigma**2) * eps + sigma * z
    return xt


def test_fifty_steps_equal_the_published_loop():
    rng = np.random.default_rng(0)
    xt, noise = rng.normal(size=(1, 3, 4, 4, 2)), rng.normal(size=(50, 1, 3, 4, 4, 2))
    mix = rng.normal(size=(2, 2)) * 0.3

    def predict(xt, time, condition, aux):
        return xt @ jnp.asarray(mix) + condition[:, None, None, None, None] * xt**2 * 0.01, aux

    cfg = DIVOT_REFERENCE
    with jax.enable_x64():
        guided = guidance.guided_by(
            predict, jnp.asarray(guidance.scales(cfg, SCHEDULE)), cfg.guidance_rescale
        )
        ours = samplers.sample(
            guided, SAMPLER, xt.shape, jnp.array([-0.2, 0.3]), latents=xt, noise=noise
        )
    network = lambda x, c: x @ mix + c * x**2 * 0.01  # noqa: E731
    theirs = published_loop(xt, noise, network, cfg.guidance_scale, cfg.guidance_rescale)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    end = np.std(published_loop(xt * 0, noise, lambda x, c: 0.0 * x + 1e-9 * c, 1.0, 0.0))
    assert end > 0.02  # noise stays in the sample


def test_levels_of_a_checkpoint_take_the_place_of_computed_ones():
    half = tuple(SCHEDULE.alphas_cumprod.astype(np.float16).astype(float).tolist())
    given = schedules.DiscreteSchedule(trained_levels=half)
    np.testing.assert_array_equal(given.alphas_cumprod, half)
    with pytest.raises(InputError, match="must be 1000 levels that fall"):
        _ = schedules.DiscreteSchedule(trained_levels=half[::-1]).alphas_cumprod
    with pytest.raises(InputError, match="clean variant on computed levels"):
        scheduler_config.save_scheduler(samplers.DDIM(given), "unused")


@pytest.mark.parametrize("fields", [dict(name="dpm"), dict(name="ddim", previous="grid")])
def test_reference_is_a_variant_of_ddim_alone(fields):
    with pytest.raises(InputError, match="must be clean unless"):
        SamplerConfig(variant="reference", **fields)
