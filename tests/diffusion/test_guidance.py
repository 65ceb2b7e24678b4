# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import guidance, schedules

SCHEDULE = schedules.DiscreteSchedule()
TIMESTEP = jnp.array([999, 19])


def predict(xt, timestep, condition, aux=None):
    return xt * condition + timestep[:, None].astype(jnp.float32), aux


def guide(cfg, xt, condition, network=predict):
    table = jnp.asarray(guidance.scales(cfg, SCHEDULE))
    return guidance.guided_by(network, table)(xt, TIMESTEP, condition, None)[0]


def config(**overrides):
    return SamplerConfig(**({"dynamic_guidance": "off"} | overrides))


def test_reference_scales_have_the_known_values():
    scales = guidance.scales(config(dynamic_guidance="reference"), SCHEDULE)[SCHEDULE.timesteps(50)]
    first = [2.2915, 2.5435, 6.9744, 6.4204, 2.7881, 4.2719, 1.0376, 4.1704, 1.618, 6.9831]
    last = [6.9992, 2.3432, 6.2128, 1.2505, 6.9996, 6.8644, 1.0636, 1.0, 1.0, 1.1234]
    np.testing.assert_allclose(scales[:10], first, atol=6e-5)
    np.testing.assert_allclose(scales[-10:], last, atol=6e-5)


def test_smooth_scales_rise_at_the_end():
    scales = guidance.scales(config(dynamic_guidance="smooth"), SCHEDULE)[SCHEDULE.timesteps(50)]
    np.testing.assert_allclose(scales[[0, 49]], [1.0, 6.8644], atol=5e-5)
    assert (np.diff(scales) >= 0).all()
    assert scales[25] < 1.05


def test_smooth_scales_follow_a_grid_of_more_steps_than_asked_for():
    listed = SCHEDULE.timesteps(30, "strided", 1)
    assert len(listed) == 31
    scales = guidance.scales(config(dynamic_guidance="smooth", steps=30), SCHEDULE, listed)
    expected = 1.0 + 6.0 * (1.0 - np.cos(np.pi * (np.arange(31) / 31) ** 5)) / 2.0
    np.testing.assert_allclose(scales[listed], expected)


def test_guidance_extrapolates_from_unconditional_to_conditional():
    xt = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    condition = jnp.concatenate([jnp.zeros((2, 2)), jnp.ones((2, 2))])  # unconditional first
    ours = guide(config(guidance_scale=6.0), xt, condition)
    np.testing.assert_allclose(ours, 6.0 * xt + TIMESTEP[:, None])


@pytest.mark.parametrize("dynamic", ["reference", "smooth"])
def test_dynamic_guidance_reads_the_scale_of_each_timestep(dynamic):
    cfg = config(dynamic_guidance=dynamic)
    xt = jnp.ones((2, 1))
    condition = jnp.array([[0.0], [0.0], [1.0], [1.0]])
    ours = guide(cfg, xt, condition)
    expected = guidance.scales(cfg, SCHEDULE)[np.asarray(TIMESTEP)] + np.asarray(TIMESTEP)
    np.testing.assert_allclose(ours[:, 0], expected, rtol=1e-6)


def test_scale_one_without_dynamics_needs_no_second_branch():
    assert not guidance.guides(config(guidance_scale=1.0))
    assert guidance.guides(config(guidance_scale=1.0, dynamic_guidance="smooth"))
    assert guidance.guides(config(guidance_scale=2.0))


def guide_images(cfg, xt, condition):
    tables = guidance.scales(cfg, SCHEDULE), guidance.image_scales(cfg, SCHEDULE)
    table, image_table = map(jnp.asarray, tables)
    guided = guidance.guided_by(predict, table, image_table=image_table)
    return guided(xt, TIMESTEP, condition, None)[0]


@pytest.mark.parametrize("dynamic", ["off", "smooth"])
def test_two_scales_lead_from_nothing_to_the_text_and_on_to_the_images(dynamic):
    rng = np.random.default_rng(0)
    xt, (uncond, text, cond) = jnp.asarray(rng.normal(size=(2, 3))), rng.normal(size=(3, 2, 3))
    cfg = config(guidance_scale=6.0, image_guidance_scale=2.0, dynamic_guidance=dynamic)
    ours = guide_images(cfg, xt, jnp.concatenate([uncond, text, cond]))
    uncond, text, cond = (predict(xt, TIMESTEP, branch)[0] for branch in (uncond, text, cond))
    one, other = (
        guidance.scales(config(guidance_scale=s, dynamic_guidance=dynamic), SCHEDULE)[TIMESTEP]
        for s in (6.0, 2.0)
    )
    expected = uncond + one[:, None] * (text - uncond) + other[:, None] * (cond - text)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_two_equal_scales_are_one():
    rng = np.random.default_rng(0)
    xt, (uncond, text, cond) = jnp.asarray(rng.normal(size=(2, 3))), rng.normal(size=(3, 2, 3))
    two = config(guidance_scale=6.0, image_guidance_scale=6.0)
    expected = guide(config(guidance_scale=6.0), xt, jnp.concatenate([uncond, cond]))
    ours = guide_images(two, xt, jnp.concatenate([uncond, text, cond]))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    assert guidance.branches(two) == 3 and guidance.guides(two)
    assert not guidance.guides(config(guidance_scale=1.0, image_guidance_scale=1.0))
    assert guidance.branches(config(guidance_scale=1.0, image_guidance_scale=2.0)) == 3
    with pytest.raises(ValueError, match="condition must have 6 rows, .* got 4"):
        guide_images(two, xt, jnp.concatenate([uncond, cond]))
    with pytest.raises(ValueError, match="guidance_every must be 1 with image_guidance_scale"):
        config(image_guidance_scale=6.0, guidance_every=2)


def test_guidance_runs_in_float32(strict_dtypes):
    def half(xt, timestep, condition, aux):
        return (xt * condition).astype(jnp.bfloat16), aux

    assert guide(config(), jnp.ones((2, 1)), jnp.ones((4, 1)), half).dtype == jnp.float32


def test_one_branch_alone_is_refused():
    with pytest.raises(ValueError, match="condition must have 4 rows, .* got 2"):
        guide(config(), jnp.ones((2, 1)), jnp.ones((2, 1)))


def test_aux_belongs_to_the_rows_of_both_branches():
    def remembers(xt, timestep, condition, aux):
        return xt * condition + aux, xt

    xt, condition = jnp.ones((2, 1)), jnp.ones((4, 1))
    wrapped = guidance.guided_by(remembers, jnp.full(1000, 3.0))
    aux = jnp.array([[0.0], [0.0], [1.0], [2.0]])
    pred, aux = wrapped(xt, TIMESTEP, condition, aux)
    np.testing.assert_allclose(pred, [[4.0], [7.0]])
    assert aux.shape == (4, 1)


@pytest.mark.torch
@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescale_is_that_of_diffusers(phi):
    torch = pytest.importorskip("torch")
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion as reference

    guided, cond = np.random.default_rng(0).normal(size=(2, 3, 5, 4, 2)).astype(np.float32)
    theirs = reference.rescale_noise_cfg(torch.tensor(guided * 4.0), torch.tensor(cond), phi)
    ours = guidance.rescale(jnp.asarray(guided * 4.0), jnp.asarray(cond), phi)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert jnp.isfinite(guidance.rescale(jnp.zeros((2, 3)), jnp.zeros((2, 3)), phi)).all()
