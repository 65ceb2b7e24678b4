# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noising, conversions between the kinds of prediction, and the training loss.

Every kind of prediction is a linear map of `(x0, noise)`; `xt` supplies the other equation, so each
kind yields both. `velocity` needs a schedule with `alpha^2 + sigma^2 = 1`.

| kind       | value                    | x0                            |
|------------|--------------------------|-------------------------------|
| `velocity` | alpha noise - sigma x0   | alpha xt - sigma v            |
| `noise`    | noise                    | (xt - sigma noise) / alpha    |
| `x0`       | x0                       | x0                            |
| `flow`     | noise - x0               | (xt - sigma u) / (alpha + sigma) |
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.diffusion import schedules
from mimir_jax.diffusion.schedules import Kind, Times


def broadcast_rows(weight: Float[Array, " b"], x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Shapes one weight per row to broadcast over the other axes of `x`."""
    return jax.lax.expand_dims(weight, range(1, x.ndim))


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """Returns the dtype to compute in: float32, or float64 for float64."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def add_noise(
    schedule: schedules.Schedule,
    x0: Float[Array, "b *d"],
    noise: Float[Array, "b *d"],
    time: Times,
) -> Float[Array, "b *d"]:
    """Returns `alpha x0 + sigma noise`, at least in float32."""
    alpha, sigma = _weights(schedule, time, x0)
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


def loss(
    schedule: schedules.Schedule,
    pred: Float[Array, "b *d"],
    x0: Float[Array, "b *d"],
    noise: Float[Array, "b *d"],
    time: Times,
) -> Float[Array, " b"]:
    """Returns the weighted mean squared error of each row, at least in float32.

    For a discrete schedule it is the error of the velocity. That equals the x0 error weighted by
    `1 / sigma^2`, the form of the public CogVideoX trainers.

    Args:
        schedule: Defines the kind of `pred` and the weight.
        pred: Prediction of the preconditioned network.
        x0: Clean samples.
        noise: Standard normal noise.
        time: Times at which they were mixed.
    """
    alpha, sigma = _weights(schedule, time, x0)
    x0, noise, pred = (x.astype(alpha.dtype) for x in (x0, noise, pred))
    error = pred - target(schedule.prediction, x0, noise, alpha, sigma)
    mean = jnp.mean(error * error, axis=range(1, error.ndim))
    weight = schedule.loss_weight(time)
    return mean if weight is None else mean * weight.astype(mean.dtype)


def _weights(schedule: schedules.Schedule, time: Times, x: Array) -> tuple[Array, Array]:
    dtype = at_least_float32(x.dtype)
    return tuple(
        broadcast_rows(weight(time).astype(dtype), x) for weight in (schedule.alpha, schedule.sigma)
    )
