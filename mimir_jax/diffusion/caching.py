# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps that forecast the network's prediction instead of computing it.

The forecast is linear in time through the last two computed predictions, the first-order case of
TaylorSeer (arXiv 2503.06923). Where to forecast is decided as MagCache does (arXiv 2506.09045), by
an error that adds up over forecast steps and must stay below a threshold. It needs no calibration:
every computed prediction shows how far its own forecast would have been off.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mimir_jax.diffusion import objectives
from mimir_jax.diffusion.schedules import Predict, Times


class Forecast(NamedTuple):
    """What one step leaves to the next.

    Attributes:
        newest, older: The last two computed predictions.
        times: Their times.
        known: How many there are, at most 2.
        rate: Relative error of a forecast per step, measured at the newest; infinite until then.
        debt: Estimated error of the forecasts since the newest.
        gap: Steps since the newest.
        aux: State of the network.
    """

    newest: Float[Array, "b *d"]
    older: Float[Array, "b *d"]
    times: Float[Array, "2"]
    known: Int[Array, ""]
    rate: Float[Array, ""]
    debt: Float[Array, ""]
    gap: Int[Array, ""]
    aux: Any


def start(shape: tuple[int, ...], aux: Any = None) -> Forecast:
    """Returns the state before the first step, for predictions of `shape`."""
    zeros = jnp.zeros(shape, jnp.float32)
    return Forecast(
        newest=zeros,
        older=zeros,
        times=jnp.zeros(2, jnp.float32),
        known=jnp.int32(0),
        rate=jnp.float32(jnp.inf),
        debt=jnp.float32(0),
        gap=jnp.int32(1),
        aux=aux,
    )


def forecasting(predict: Predict, threshold: float) -> Predict:
    """Wraps `predict` so that steps whose forecast is good enough do not call it.

    All rows of a batch decide together, by the row whose forecast was worst. The state is that of
    `start`; the prediction is float32.

    Args:
        predict: The network, with or without guidance.
        threshold: Relative error that forecasts in a row may add up to; 0 never forecasts.
    """

    def wrapped(
        xt: Float[Array, "b *d"], time: Times, condition: Any, state: Forecast
    ) -> tuple[Float[Array, "b *d"], Forecast]:
        now, debt = time[0].astype(jnp.float32), state.debt + state.rate
        guess = _extrapolate(state, now)

        def forecast() -> tuple[Array, Forecast]:
            return guess, state._replace(debt=debt, gap=state.gap + 1)

        def compute() -> tuple[Array, Forecast]:
            pred, aux = predict(xt, time, condition, state.aux)
            pred = pred.astype(objectives.at_least_float32(pred.dtype))
            error = _error(guess, pred) / state.gap
            return pred, Forecast(
                newest=pred,
                older=state.newest,
                times=jnp.stack([now, state.times[0]]),
                known=jnp.minimum(state.known + 1, 2),
                rate=jnp.where(state.known == 2, error, jnp.inf),
                debt=jnp.float32(0),
                gap=jnp.int32(1),
                aux=aux,
            )

        return jax.lax.cond(debt < threshold, forecast, compute)

    return wrapped


def _extrapolate(state: Forecast, now: Float[Array, ""]) -> Float[Array, "b *d"]:
    """Returns the line through the last two predictions, at the time `now`."""
    newest, older = state.times
    step = jnp.where(state.known == 2, newest - older, 1.0)
    return state.newest + (state.newest - state.older) * ((now - newest) / step)


def _error(guess: Float[Array, "b *d"], pred: Float[Array, "b *d"]) -> Float[Array, ""]:
    """Returns the mean absolute error over the mean absolute value, of the worst row."""
    axes = tuple(range(1, pred.ndim))
    size = jnp.maximum(jnp.abs(pred).mean(axes), jnp.finfo(jnp.float32).tiny)
    return (jnp.abs(guess - pred).mean(axes) / size).max()
