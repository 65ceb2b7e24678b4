# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Trajectories of a smooth stand-in for a network: by our samplers, and by those of diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SHAPE = (2, 3, 4)
CLASSES = {"ddim": "CogVideoXDDIMScheduler", "dpm": "CogVideoXDPMScheduler"}
RELEASED = {
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
    "snr_shift_scale": 1.0,
}


def reference(name, options):
    """Returns a scheduler of diffusers."""
    diffusers = pytest.importorskip("diffusers")
    return getattr(diffusers, CLASSES[name])(**options)


def velocity(xt, timestep):
    """A smooth stand-in for a network, the same in numpy and JAX."""
    module = jnp if isinstance(xt, jax.Array) else np
    return 0.7 * module.sin(xt) - 0.2 * xt + 1e-3 * timestep.reshape(-1, 1, 1)


def run_reference(scheduler, table, num_steps, latents, noise):
    """Runs the loop of the diffusers pipeline in float64 on `table`, with `noise` injected."""
    import torch

    scheduler.alphas_cumprod = torch.tensor(table, dtype=torch.float64)
    if not scheduler.config.set_alpha_to_one:
        scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(num_steps)
    xt, old, trajectory = torch.tensor(latents), None, []
    for i, t in enumerate(scheduler.timesteps[:num_steps]):  # 61 lists one too many
        pred = torch.tensor(velocity(xt.numpy(), np.full(2, t.item())))
        if "DDIM" in type(scheduler).__name__:
            xt = scheduler.step(pred, t, xt, return_dict=False)[0]
        else:
            back = scheduler.timesteps[i - 1] if i else None
            with pytest.MonkeyPatch.context() as patch:
                module = "diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor"
                patch.setattr(module, lambda *a, i=i, **k: torch.tensor(noise[i]))
                xt, old = scheduler.step(pred, old, t, back, xt, return_dict=False)
        trajectory.append(xt.numpy())
    return np.stack(trajectory)


def trajectory(sampler, latents, noise):
    """Runs the sampler's own methods and keeps every state."""

    def body(state, inputs):
        timestep, step, fresh = inputs
        pred = velocity(state.xt, jnp.full(2, timestep))
        state = sampler.update(state, pred, step, fresh)
        return state, state.xt

    steps = jax.tree.map(jnp.asarray, sampler.coefficients())
    start = sampler.initialize(jnp.asarray(latents))
    run = jax.jit(lambda *xs: jax.lax.scan(body, start, xs)[1])
    return run(jnp.asarray(sampler.times()), steps, noise)
