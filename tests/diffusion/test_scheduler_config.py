# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import DiffusionConfig, SamplerConfig
from mimir_jax.diffusion import guidance, samplers, scheduler_config, schedules
from mimir_jax.diffusion.scheduler_config import load_scheduler, save_scheduler
from tests.diffusion.trajectories import (
    CLASSES,
    RELEASED,
    SHAPE,
    reference,
    run_reference,
    trajectory,
    velocity,
)
from tests.helpers import relative_error

BETAS = list(np.linspace(0.01, 0.2, 100) ** 1.5)

CASES = [  # options, steps
    pytest.param({}, 50, id="defaults-50"),
    pytest.param({}, 30, id="defaults-30"),
    pytest.param(RELEASED, 50, id="released-50"),
    pytest.param(RELEASED, 61, id="released-61"),
    pytest.param(RELEASED | {"timestep_spacing": "leading"}, 7, id="leading-7"),
    pytest.param(RELEASED | {"timestep_spacing": "linspace"}, 30, id="linspace-30"),
    pytest.param(RELEASED | {"timestep_spacing": "linspace"}, 1, id="linspace-1"),
    pytest.param({"timestep_spacing": "linspace"}, 7, id="epsilon-linspace-7"),
    pytest.param({"timestep_spacing": "trailing"}, 30, id="epsilon-trailing-30"),
    pytest.param(RELEASED | {"prediction_type": "sample"}, 30, id="sample-30"),
    pytest.param(
        {"prediction_type": "sample", "steps_offset": 1, "set_alpha_to_one": False},
        30,
        id="sample-offset-30",
    ),
    pytest.param({"steps_offset": 3, "set_alpha_to_one": False}, 7, id="epsilon-offset-7"),
    pytest.param({"set_alpha_to_one": False}, 30, id="first-30"),
    pytest.param(RELEASED | {"set_alpha_to_one": False}, 50, id="released-first-50"),
    pytest.param(RELEASED | {"beta_schedule": "linear"}, 30, id="linear-30"),
    pytest.param({"beta_schedule": "linear", "snr_shift_scale": 1}, 50, id="linear-epsilon-50"),
    pytest.param(RELEASED | {"beta_schedule": "squaredcos_cap_v2"}, 30, id="cosine-30"),
    pytest.param(
        RELEASED | {"trained_betas": BETAS, "num_train_timesteps": 100}, 30, id="trained-30"
    ),
    pytest.param(
        RELEASED | {"num_train_timesteps": 400, "beta_start": 0.002, "beta_end": 0.03},
        48,
        id="range-48",
    ),
]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["ddim", "dpm"])
@pytest.mark.parametrize(("options", "num_steps"), CASES)
def test_trajectory_is_that_of_diffusers(tmp_path, name, options, num_steps):
    scheduler = reference(name, options)
    scheduler.save_pretrained(tmp_path)
    sampler = load_scheduler(tmp_path, num_steps)
    assert isinstance(sampler, samplers.SAMPLERS[name])
    theirs, table = scheduler.alphas_cumprod.numpy(), sampler.schedule.alphas_cumprod
    single = theirs.dtype == np.float32  # the reference computes this table in float32
    np.testing.assert_allclose(table, theirs, rtol=0, atol=3e-7 if single else 1e-15)
    rng = np.random.default_rng(0)
    latents, noise = rng.normal(size=SHAPE), rng.normal(size=(num_steps, *SHAPE))
    with jax.enable_x64(True):
        exact = trajectory(sampler, latents, noise)
        assert exact.dtype == jnp.float64
    same = run_reference(scheduler, table, num_steps, latents, noise)
    np.testing.assert_array_equal(sampler.times(), scheduler.timesteps[:num_steps])
    assert relative_error(exact, same) < 1e-12
    ours = trajectory(sampler, latents.astype(np.float32), noise.astype(np.float32))
    # Near the clean end one rounding of a float32 table is up to 1e-3 of the noise that is left.
    expected = run_reference(scheduler, theirs, num_steps, latents, noise)
    assert relative_error(ours, expected) < (5e-6 if single else 1e-6)


def write(folder, name="CogVideoXDDIMScheduler", **options):
    folder.mkdir(exist_ok=True)
    path = folder / scheduler_config.FILE
    path.write_text(json.dumps({"_class_name": name, "_diffusers_version": "0.30.0"} | options))
    return path


def test_missing_keys_take_the_defaults_of_diffusers(tmp_path):
    path = write(tmp_path / "scheduler")
    for source in (path, path.parent, str(path.parent)):
        sampler = load_scheduler(source)
        assert sampler == samplers.DDIM(
            schedules.DiscreteSchedule(DiffusionConfig(snr_shift=3.0, zero_terminal_snr=False)),
            50,
            prediction="noise",
            spacing="leading",
        )


@pytest.mark.torch
def test_defaults_are_those_of_the_constructors():
    for name in CLASSES:
        options = {key: x for key, x in reference(name, {}).config.items() if key[0] != "_"}
        for key, value in scheduler_config.DEFAULTS.items():
            assert options.pop(key) == value
        assert set(options) - set(scheduler_config.NO_EFFECT) == set()


@pytest.mark.parametrize("clip", [{"clip_sample": True}, {"thresholding": True, "eta": 0.5}])
def test_options_without_effect_are_ignored(tmp_path, clip):
    plain = load_scheduler(write(tmp_path, **RELEASED))
    assert load_scheduler(write(tmp_path, **RELEASED | {"clip_sample_range": 0.1} | clip)) == plain


def other(name, **changes):
    """A sampler with no option at its default."""
    config = DiffusionConfig(num_train_steps=300, beta_start=0.001, beta_end=0.02, snr_shift=2.0)
    schedule = schedules.DiscreteSchedule(config, beta_schedule="linear")
    options = {"prediction": "x0", "spacing": "leading", "steps_offset": 1, "end": "first"}
    return samplers.SAMPLERS[name](schedule, 50, **(options | changes))


@pytest.mark.torch
@pytest.mark.parametrize("name", ["ddim", "dpm"])
def test_samplers_round_trip(tmp_path, name):
    scheduler = reference(name, {})
    betas = schedules.DiscreteSchedule(
        DiffusionConfig(num_train_steps=100, beta_end=0.012), trained_betas=tuple(BETAS)
    )
    released = samplers.SAMPLERS[name](schedules.DiscreteSchedule())
    for sampler in (other(name), dataclasses.replace(other(name), schedule=betas), released):
        path = save_scheduler(sampler, tmp_path / "new" / "scheduler")
        assert load_scheduler(path) == sampler
        theirs = type(scheduler).from_pretrained(path.parent)
        options = json.loads(path.read_text())
        assert options.pop("_class_name") == CLASSES[name]
        assert {key: x for key, x in theirs.config.items() if key[0] != "_"} == options
        theirs.set_timesteps(50)
        np.testing.assert_array_equal(sampler.times(), theirs.timesteps)
        table = sampler.schedule.alphas_cumprod
        np.testing.assert_allclose(table, theirs.alphas_cumprod, atol=3e-7)


def test_what_diffusers_cannot_say_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="sampler.previous must be reference, .*, got grid"):
        save_scheduler(other("ddim", previous="grid"), tmp_path)
    with pytest.raises(ValueError, match="sampler.prediction must be one of velocity, .* got flow"):
        save_scheduler(other("ddim", prediction="flow"), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "DDIMScheduler"}, "must be one of CogVideoXDDIMScheduler, .* got DDIMScheduler"),
        ({"name": None}, "must be one of CogVideoXDDIMScheduler, .* got None"),
        ({"prediction_type": "flow"}, 'prediction_type of .* must be one of v_pred.* got "flow"'),
        ({"timestep_spacing": "log"}, 'timestep_spacing of .* must be one of trailing, .* "log"'),
        ({"beta_schedule": ["linear"]}, 'beta_schedule of .* must be one of .* got \\["linear"'),
        ({"num_train_timesteps": 0}, "must be an integer of at least 1, got 0"),
        ({"steps_offset": -1}, "steps_offset of .* must be an integer of at least 0, got -1"),
        ({"steps_offset": True}, "steps_offset of .* must be an integer of at least 0, got true"),
        ({"beta_end": "0.012"}, 'beta_end of .* must be a positive number, got "0.012"'),
        ({"snr_shift_scale": 0}, "snr_shift_scale of .* must be a positive number, got 0"),
        ({"set_alpha_to_one": 1}, "set_alpha_to_one of .* must be true or false, got 1"),
        ({"trained_betas": [0.1, None]}, "trained_betas of .* must be null or a list of numbers"),
        ({"trained_betas": [0.1]}, "must have num_train_steps=1000 entries, got 1"),
        ({"beta_end": 1.5}, r"alpha \*\* 2 must fall from below 1 to no less than 0"),
        ({"steps_offset": 30}, r"timesteps must be within 0..999, got 30..1010"),
        (RELEASED | {"prediction_type": "epsilon"}, "must start above alpha 0, .* timestep 999"),
    ],
    ids=lambda x: x if isinstance(x, str) else next(iter(x)) if len(x) == 1 else "alpha 0",
)
def test_bad_configs_are_named_in_one_line(tmp_path, options, message):
    path = write(tmp_path, **options)
    with pytest.raises(ValueError, match=message) as caught:
        load_scheduler(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_unreadable_files_are_named_in_one_line(tmp_path):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "half.json").write_text('{"a":\n')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name, message in {
        "list.json": "must hold a JSON object, got list",
        "half.json": "must be a scheduler_config.json of diffusers, got none: Expecting value",
        "deep.json": "must be a scheduler_config.json of diffusers, got none: maximum recursion",
        "none.json": "must be a scheduler_config.json of diffusers, got none: No such file",
        "": "scheduler_config.json must be a .* got none: No such file",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_scheduler(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = write(tmp_path)
    sampler = load_scheduler(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_scheduler(path) == sampler


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_impossible_step_counts_are_named(tmp_path, num_steps):
    with pytest.raises(ValueError, match=rf"num_steps must be within 1..1000, .* got {num_steps};"):
        load_scheduler(write(tmp_path), num_steps)


@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
@pytest.mark.parametrize("num_steps", [50, 7, 1])
def test_smooth_guidance_follows_the_steps_of_every_spacing(spacing, num_steps):
    schedule = schedules.DiscreteSchedule()
    sampler = samplers.DDIM(schedule, num_steps, spacing=spacing)
    cfg = SamplerConfig(steps=num_steps, dynamic_guidance="smooth")
    scales = guidance.scales(cfg, schedule, sampler.times())[sampler.times()]
    progress = np.arange(num_steps) / num_steps
    np.testing.assert_allclose(scales, 1 + 3 * (1 - np.cos(np.pi * progress**5)), rtol=1e-12)


def test_eta_is_no_part_of_the_file(tmp_path):
    sampler = samplers.DDIM(schedules.DiscreteSchedule(), eta=0.5)
    with pytest.raises(ValueError, match="sampler.eta must be 0 for diffusers, .* got 0.5"):
        save_scheduler(sampler, tmp_path)
    assert samplers.with_name(sampler, "dpm") == samplers.DPM(sampler.schedule)


def test_one_compiled_guidance_serves_every_scale():
    table = jnp.linspace(1.0, 6.0, 1000)
    xt, timestep, condition = jnp.ones((2, 1)), jnp.array([999, 19]), jnp.array([0.0, 0, 1, 1])

    @jax.jit
    def run(table):
        wrapped = guidance.guided_by(lambda xt, timestep, c, aux: (xt * c[:, None], aux), table)
        return wrapped(xt, timestep, condition, None)[0]

    np.testing.assert_allclose(run(table)[:, 0], table[timestep])
    np.testing.assert_allclose(run(2 * table)[:, 0], 2 * table[timestep])
    with pytest.raises(ValueError, match="condition must have 4 rows"):
        guidance.guided_by(velocity, table)(xt, timestep, condition[:2], None)
