# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DiffusionConfig
from mimir_jax.diffusion import schedules

KNOWN = {  # timestep: alpha^2 for snr_shift 3 and 1
    0: (0.9974543276, 0.99915),
    1: (0.9948006264, 0.9982334461),
    10: (0.9707857689, 0.9897937330),
    100: (0.7282419323, 0.8867612845),
    250: (0.3890537092, 0.6524570153),
    500: (0.0953281009, 0.2410187828),
    750: (0.0108389019, 0.0327991181),
    900: (9.454530e-4, 2.96039342e-3),
    998: (6.230788e-8, 1.967888e-7),
}


def schedule(shift=1.0, **overrides):
    return schedules.DiscreteSchedule(DiffusionConfig(snr_shift=shift, **overrides))


@pytest.mark.parametrize(("column", "shift"), [(0, 3.0), (1, 1.0)])
def test_table_has_the_known_values(column, shift):
    table = schedule(shift).alphas_cumprod
    for timestep, values in KNOWN.items():
        np.testing.assert_allclose(table[timestep], values[column], rtol=1e-6)
    assert table[999] == 0.0
    assert round(float(1.0 / (1.0 - table).min())) == (393, 1176)[column]
    plain = schedule(shift, zero_terminal_snr=False).alphas_cumprod[999]
    np.testing.assert_allclose(plain, (0.0015582, 0.0046600985)[column], rtol=1e-4)


def test_weights_keep_variance_and_end_in_noise():
    levels = schedule()
    timestep = jnp.arange(1000)
    alpha, sigma = levels.alpha(timestep), levels.sigma(timestep)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=1e-6)
    assert (alpha[-1], sigma[-1]) == (0.0, 1.0)
    assert levels.logsnr(timestep)[-1] == -jnp.inf
    expected = 2 * (jnp.log(alpha) - jnp.log(sigma))[:-1]
    np.testing.assert_allclose(levels.logsnr(timestep)[:-1], expected, atol=1e-3)
    assert bool((jnp.diff(levels.logsnr(timestep)) < 0).all())


@pytest.mark.parametrize(
    ("num_steps", "first", "reference", "grid"),
    [
        (50, [999, 979, 959], [979, 959, 939], [979, 959, 939]),
        (30, [999, 966, 932, 899], [966, 933, 899, 866], [966, 932, 899, 866]),
        (7, [999, 856, 713], [857, 714, 571], [856, 713, 570]),
        (1, [999], [-1], [-1]),
    ],
)
def test_sampling_grid_trails(num_steps, first, reference, grid):
    levels = schedule()
    steps = levels.timesteps(num_steps)
    assert len(steps) == num_steps
    assert steps[: len(first)].tolist() == first
    assert levels.previous(num_steps)[: len(first)].tolist() == reference
    assert levels.previous(num_steps, "grid")[: len(first)].tolist() == grid
    assert levels.previous(num_steps, "grid")[-1] == -1
    assert levels.previous(num_steps).min() >= -1


@pytest.mark.torch
def test_sampling_grid_is_that_of_diffusers():
    schedulers = pytest.importorskip("diffusers.schedulers")
    reference = schedulers.CogVideoXDDIMScheduler(timestep_spacing="trailing")
    for num_steps in (1, 3, 7, 30, 48, 50, 61, 96, 1000):  # 48 and 96 have ties, 61 one too many
        reference.set_timesteps(num_steps)
        expected = reference.timesteps.numpy()[:num_steps]
        np.testing.assert_array_equal(schedule().timesteps(num_steps), expected)


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_impossible_step_counts_are_named(num_steps):
    with pytest.raises(ValueError, match=rf"within 1..1000, got {num_steps}"):
        schedule().timesteps(num_steps)
