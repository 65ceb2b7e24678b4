# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Loss and draws of clip tokens, one of each per kind of head (arXiv 2412.04432, Table 7; D-U7)."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float

from mimir_jax import noise as noise_lib
from mimir_jax.config import DiffusionConfig, SamplerConfig
from mimir_jax.diffusion import objectives, samplers, schedules
from mimir_jax.models import functional
from mimir_jax.models.divot import mixture

Choice = Literal["draw", "mean"]

DENOISING_STEPS = 50
"""Steps of DDIM that draw a token by denoising."""


def loss(
    model: functional.Model,
    params: functional.Params,
    states: Float[Array, "*b e"],
    tokens: Float[Array, "*b d"],
    where: Bool[Array, "*b"],
    key: Array,
) -> Float[Array, ""]:
    """Returns the mean loss of clip tokens per number of a token, in float32.

    It is -log p of a mixture, the squared error of a regression, and that of noise or velocity at a
    drawn timestep for the heads that denoise.

    Args:
        model: The `agent.Agent`.
        params: Its parameters.
        states: States that predict the tokens.
        tokens: What they should predict.
        where: Which tokens count. Without any, the loss is 0.
        key: Draws timesteps and noise.
    """
    head = model.config.head
    if head == "mixture":
        return mixture.loss(model.predict(params, states), tokens, where)
    if head == "regression":
        error = model.predict(params, states) - tokens.astype(jnp.float32)
    else:
        schedule = make_schedule(head)
        keys = jax.random.split(key)
        x0 = rearrange(tokens.astype(jnp.float32), "... d -> (...) d")
        time = schedule.sample_times(keys[0], len(x0))
        noise = noise_lib.normal(keys[1], x0.shape)
        xt = objectives.add_noise(schedule, x0, noise, time)
        pred = model.predict(params, states, xt.reshape(tokens.shape), time.reshape(where.shape))
        alpha, sigma = (f(time)[:, None] for f in (schedule.alpha, schedule.sigma))
        target = objectives.target(head, x0, noise, alpha, sigma)
        error = pred - target.reshape(tokens.shape)
    values = jnp.square(error).mean(-1)
    return jnp.where(where, values, 0).sum() / jnp.maximum(where.sum(), 1).astype(values.dtype)


def draw(
    model: functional.Model,
    params: functional.Params,
    states: Float[Array, "*b e"],
    key: Array,
    *,
    choice: Choice = "draw",
    var_scale: float = 0.1,
) -> Float[Array, "*b d"]:
    """Returns clip tokens for the states of their queries.

    Args:
        model: The `agent.Agent`.
        params: Its parameters.
        states: States that predict the tokens.
        key: Draws components, noise or both.
        choice: Of a mixture: a draw, or the mean weighted by component.
        var_scale: Factor of the variances of a draw (D-U6).
    """
    head = model.config.head
    if head == "regression":
        return model.predict(params, states)
    if head == "mixture":
        predicted = model.predict(params, states)
        return mixture.mean(predicted) if choice == "mean" else mixture.draw(
            predicted, key, var_scale
        )  # fmt: skip
    schedule = make_schedule(head)
    settings = SamplerConfig(
        name="ddim", steps=DENOISING_STEPS, guidance_scale=1.0, dynamic_guidance="off"
    )
    flat = rearrange(states, "... e -> (...) e")

    def predict(xt, time, condition, aux):
        pred = model.predict(params, condition, xt, time)
        weights = (f(time)[:, None] for f in (schedule.alpha, schedule.sigma))
        return objectives.convert(pred, xt, *weights, source=head, to="velocity"), aux

    shape = (len(flat), model.config.token_width)
    sampler = samplers.make_sampler(settings, schedule)
    tokens = samplers.sample(predict, sampler, shape, flat, key=key)
    return tokens.reshape(*states.shape[:-1], shape[-1])


@functools.cache
def make_schedule(head: Literal["noise", "velocity"]) -> schedules.DiscreteSchedule:
    """Returns the noise of clip tokens: pure at the end for `velocity`, nearly so for `noise`."""
    return schedules.DiscreteSchedule(DiffusionConfig(zero_terminal_snr=head == "velocity"))
