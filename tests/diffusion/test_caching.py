# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DiffusionConfig, SamplerConfig
from mimir_jax.diffusion import caching, guidance, samplers, schedules
from tests.helpers import relative_error

SHAPE = (2, 3, 4)
STEPS = 20
LATENTS = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def counted(calls, network):
    """Wraps a network so that every real call appends its number of rows to `calls`."""

    def predict(xt, time, condition, aux):
        jax.debug.callback(lambda: calls.append(len(xt)))
        return network(xt, time, condition), aux

    return predict


def smooth(xt, time, condition):
    del condition
    return 0.7 * jnp.sin(xt) - 0.2 * xt + 1e-3 * time[:, None, None]


def draw(predict, condition=None, aux=None):
    schedule = schedules.DiscreteSchedule(DiffusionConfig())
    sampler = samplers.make_sampler(SamplerConfig(name="ddim", steps=STEPS), schedule)
    run = jax.jit(lambda x, c: samplers.sample(predict, sampler, SHAPE, c, latents=x, aux=aux))
    out = run(LATENTS, condition)
    jax.effects_barrier()
    return out


def test_forecast_calls_the_network_less_and_threshold_0_never_forecasts():
    whole = draw(counted([], smooth))
    found = {}
    for threshold in (0.0, 0.02, 0.3):
        calls = []
        predict = caching.forecasting(counted(calls, smooth), threshold)
        out = draw(predict, aux=caching.start(SHAPE))
        found[threshold] = len(calls)
        if threshold == 0:
            np.testing.assert_allclose(out, whole, rtol=1e-6)  # programs of other shapes
        assert relative_error(out, whole) < 3 * threshold + 1e-7
    assert found[0.0] == STEPS > found[0.02] > found[0.3] >= 3


def test_guidance_at_every_second_step_computes_the_unconditional_branch_at_half_of_them():
    def network(xt, time, condition):
        return smooth(xt, time, None) + 0.1 * condition[:, None, None]

    condition = jnp.array([0.0, 0.0, 1.0, 2.0])
    outs, calls = {}, {}
    for every in (1, 2):
        calls[every] = []
        table = jnp.full(1000, 3.0)
        predict = guidance.guided_by(counted(calls[every], network), table, every=every)
        aux = guidance.start(SHAPE) if every > 1 else None
        outs[every] = draw(predict, condition, aux)
    assert sum(calls[1]) == 4 * STEPS and sum(calls[2]) == 3 * STEPS
    assert relative_error(outs[2], outs[1]) < 1e-5  # the gap is the same at all steps


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cache_threshold": 0.1}, "cache_threshold must be 0 where cache is off"),
        (
            {"cache": "forecast", "cache_threshold": 2.0},
            "cache_threshold must be at least 0 and at most 1",
        ),
        ({"guidance_every": 0}, "guidance_every must be at least 1"),
        ({"name": "heun", "guidance_every": 2}, "where name is heun"),
        ({"cache": "first_block", "guidance_every": 2}, "where cache is first_block"),
    ],
)
def test_impossible_shortcuts_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig(**values)
