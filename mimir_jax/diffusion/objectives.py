# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noising, what a network may predict, and the training loss.

Every kind of prediction is a linear map of `(x0, noise)`; `xt` supplies the other equation, so each
kind yields both. Weights must satisfy `alpha^2 + sigma^2 = 1`, except for `flow`.

| kind       | value                    | x0                            |
|------------|--------------------------|-------------------------------|
| `velocity` | alpha noise - sigma x0   | alpha xt - sigma v            |
| `noise`    | noise                    | (xt - sigma noise) / alpha    |
| `x0`       | x0                       | x0                            |
| `flow`     | noise - x0               | (xt - sigma u) / (alpha + sigma) |
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mimir_jax.diffusion import schedules

Kind = Literal["velocity", "noise", "x0", "flow"]


def broadcast_rows(weight: Float[Array, " b"], x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Shapes one weight a row to broadcast over the other axes of `x`."""
    return jax.lax.expand_dims(weight, range(1, x.ndim))


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the dtype to compute in: float32, or float64 for float64."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def add_noise(
    schedule: schedules.DiscreteSchedule,
    x0: Float[Array, "b *d"],
    noise: Float[Array, "b *d"],
    timestep: Int[Array, " b"],
) -> Float[Array, "b *d"]:
    """Returns `alpha x0 + sigma noise`, at least in float32."""
    alpha, sigma = _weights(schedule, timestep, x0)
    return alpha * x0.astype(alpha.dtype) + sigma * noise.astype(alpha.dtype)


def to_x0(
    kind: Kind, pred: Float[Array, "*d"], xt: Float[Array, "*d"], alpha: Array, sigma: Array
) -> Float[Array, "*d"]:
    """Returns the clean sample that `pred` implies; `noise` has none where alpha is zero."""
    match kind:
        case "velocity":
            return alpha * xt - sigma * pred
        case "noise":
            return (xt - sigma * pred) / alpha
        case "x0":
            return pred
        case "flow":
            return (xt - sigma * pred) / (alpha + sigma)


def to_noise(
    kind: Kind, pred: Float[Array, "*d"], xt: Float[Array, "*d"], alpha: Array, sigma: Array
) -> Float[Array, "*d"]:
    """Returns the noise that `pred` implies; `x0` has none where sigma is zero."""
    match kind:
        case "velocity":
            return sigma * xt + alpha * pred
        case "noise":
            return pred
        case "x0":
            return (xt - alpha * pred) / sigma
        case "flow":
            return (xt + alpha * pred) / (alpha + sigma)


def target(
    kind: Kind, x0: Float[Array, "*d"], noise: Float[Array, "*d"], alpha: Array, sigma: Array
) -> Float[Array, "*d"]:
    """Returns what a perfect network of `kind` predicts."""
    match kind:
        case "velocity":
            return alpha * noise - sigma * x0
        case "noise":
            return noise
        case "x0":
            return x0
        case "flow":
            return noise - x0


def convert(
    pred: Float[Array, "*d"],
    xt: Float[Array, "*d"],
    alpha: Array,
    sigma: Array,
    *,
    source: Kind,
    to: Kind,
) -> Float[Array, "*d"]:
    """Turns a prediction of kind `source` into one of kind `to`."""
    if source == to:
        return pred
    x0 = to_x0(source, pred, xt, alpha, sigma)
    return target(to, x0, to_noise(source, pred, xt, alpha, sigma), alpha, sigma)


def v_loss(
    schedule: schedules.DiscreteSchedule,
    pred: Float[Array, "b *d"],
    x0: Float[Array, "b *d"],
    noise: Float[Array, "b *d"],
    timestep: Int[Array, " b"],
) -> Float[Array, " b"]:
    """Returns the mean squared velocity error of each row, at least in float32.

    It equals the x0 error weighted by `1 / sigma^2`, the form of the public CogVideoX trainers.
    """
    alpha, sigma = _weights(schedule, timestep, x0)
    x0, noise, pred = (x.astype(alpha.dtype) for x in (x0, noise, pred))
    error = pred - target("velocity", x0, noise, alpha, sigma)
    return jnp.mean(error * error, axis=range(1, error.ndim))


def sample_timesteps(
    key: Array, batch: int, num_steps: int = 1000, stratified: bool = True
) -> Int[Array, "{batch}"]:
    """Draws a timestep in `0..num_steps-1` for each row of the global batch.

    Args:
        key: A typed key; the draw depends on it and `batch` alone, not on devices.
        batch: Rows of the global batch.
        num_steps: Number of noise levels.
        stratified: Row i draws from the i-th of `batch` equal intervals, so that every batch covers
            all noise levels (explicit uniform sampling, arXiv 2408.06072); False draws freely.
    """
    place = jax.random.uniform(key, (batch,))
    if stratified:
        place = (place + jnp.arange(batch, dtype=place.dtype)) / batch
    return jnp.minimum((place * num_steps).astype(jnp.int32), num_steps - 1)


def _weights(
    schedule: schedules.DiscreteSchedule, timestep: Array, x: Array
) -> tuple[Array, Array]:
    dtype = at_least_float32(x.dtype)
    return tuple(
        broadcast_rows(weight(timestep).astype(dtype), x)
        for weight in (schedule.alpha, schedule.sigma)
    )
