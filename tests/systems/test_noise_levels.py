# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A system runs on the noise levels of EDM as it does on timesteps."""

import jax
import jax.numpy as jnp
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.diffusion import guidance
from mimir_jax.sampling import latents


def draw(spec, key):
    """Random arrays of the shapes and dtypes of `spec`."""
    leaves, tree = jax.tree.flatten(spec)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten([
        jnp.ones(x.shape, bool) if x.dtype == bool else 0.5 * jax.random.normal(k, x.shape)
        for k, x in zip(keys, leaves, strict=True)
    ])  # fmt: skip


@pytest.fixture
def system(mimir_run, replace):
    sampler = c.SamplerConfig(name="heun", steps=2, guidance_scale=2.0, dynamic_guidance="off")
    section = replace(mimir_run.system, diffusion=c.EDMConfig(), sampler=sampler)
    return systems.make_system(replace(mimir_run, system=section))


@pytest.mark.slow
def test_loss_and_held_out_bands_start_near_one(system):
    params = system.model.init(jax.random.key(0))
    batch = draw(system.batch_spec(system.buckets[0]), jax.random.key(1))
    value, _ = jax.jit(system.loss)(params, batch, jax.random.key(2))
    # The network predicts 0 at the start, and its target has about unit variance at every level.
    bands = [float(jax.jit(system.band_loss)(params, batch, band)) for band in (0, 1)]
    assert 0.3 < float(value) < 3 and all(0.3 < x < 3 for x in bands)
    assert len(system.band_names()) == system.config.loss_bands


@pytest.mark.slow
def test_sampling_runs_in_the_pipeline(system):
    params = system.model.init(jax.random.key(0))
    bucket = system.buckets[0]
    shape = (2, *system.codec.latent_shape(bucket.frames, bucket.height, bucket.width))
    features = draw(system.feature_spec(2), jax.random.key(1))
    keys = jax.random.split(jax.random.key(2))
    cfg = system.config.sampler
    sampler = latents.make_sampler(system.config)
    scales = guidance.scales(cfg, sampler.schedule, sampler.times())
    null = (features, jnp.ones(2, bool))
    run = latents.make_denoise(system)
    out = run(params, features, null, scales, keys, sampler=sampler, shape=shape, rescale=0.0)
    assert out.shape == shape and bool(jnp.isfinite(out).all())
