# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Euler and Heun steps along the probability flow of EDM (arXiv 2206.00364, algorithm 1).

    dx / dsigma = (x - x0(x, sigma)) / sigma

Both are deterministic. Heun's method evaluates the network at both ends of each step but the last,
2 N - 1 times, and is of second order.
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mimir_jax.diffusion import objectives, schedules
from mimir_jax.diffusion.samplers import base


@dataclasses.dataclass(frozen=True)
class _Continuous:
    """What the samplers of a continuous schedule share."""

    schedule: schedules.EDMSchedule
    num_steps: int = 18
    prediction: schedules.Kind = "x0"
    stochastic: ClassVar[bool] = False
    skip: ClassVar[int] = 0

    def draws(self) -> Int[np.ndarray, " n"]:
        """Returns the number of each evaluation, from 1."""
        return 1 + np.arange(len(self.times()))

    def _slope(
        self, xt: Float[Array, "*d"], pred: Float[Array, "*d"], step: base.Coefficients
    ) -> tuple[Float[Array, "*d"], Float[Array, "*d"]]:
        """Returns `xt` and `dx / dsigma`, at least in float32."""
        dtype = objectives.at_least_float32(xt.dtype)
        xt, pred, sigma = xt.astype(dtype), pred.astype(dtype), step["sigma"].astype(dtype)
        x0 = objectives.to_x0(self.prediction, pred, xt, jnp.ones_like(sigma), sigma)
        return xt, (xt - x0) / sigma


@dataclasses.dataclass(frozen=True)
class Euler(_Continuous):
    """First-order steps from one noise level of the grid to the next.

    Attributes:
        schedule: The noise schedule.
        num_steps: Sampling steps, one evaluation of the network each.
        prediction: What the network predicts.
    """

    def times(self) -> Float[np.ndarray, " n"]:
        """Returns the noise level of every step."""
        return self.schedule.grid(self.num_steps)

    def coefficients(self) -> base.Coefficients:
        """Returns the noise level and the length of every step."""
        sigma = self.times()
        return {"sigma": sigma, "length": np.append(sigma[1:], 0.0) - sigma}

    def initialize(self, latents: Float[Array, "*d"]) -> base.State:
        """Starts at noise of the largest level."""
        return base.State(latents * float(self.times()[0]))

    def update(
        self,
        state: base.State,
        pred: Float[Array, "*d"],
        step: base.Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> base.State:
        """Takes one step; `noise` is not used."""
        xt, slope = self._slope(state.xt, pred, step)
        return base.State((xt + step["length"].astype(xt.dtype) * slope).astype(state.xt.dtype))

    def finalize(self, state: base.State) -> Float[Array, "*d"]:
        """Returns the sample."""
        return state.xt


class HeunState(NamedTuple):
    """Where the network is evaluated next, and the beginning of the current step.

    Attributes:
        xt: The noisy sample.
        start: The sample at the beginning of the step.
        slope: `dx / dsigma` there.
    """

    xt: Float[Array, "*d"]
    start: Float[Array, "*d"]
    slope: Float[Array, "*d"]


@dataclasses.dataclass(frozen=True)
class Heun(_Continuous):
    """Second-order steps: an Euler step, then the mean of the slopes at both of its ends.

    Attributes:
        schedule: The noise schedule.
        num_steps: Sampling steps, two evaluations of the network each and one for the last.
        prediction: What the network predicts.
    """

    def times(self) -> Float[np.ndarray, " n"]:
        """Returns the noise level of every evaluation."""
        return np.repeat(self.schedule.grid(self.num_steps), 2)[1:]

    def coefficients(self) -> base.Coefficients:
        """Returns level, step length and whether it is the second one, of every evaluation."""
        grid = self.schedule.grid(self.num_steps)
        length = np.append(grid[1:], 0.0) - grid
        second = np.arange(2 * self.num_steps - 1) % 2
        return {
            "sigma": self.times(),
            "length": np.repeat(length, 2)[:-1],
            "second": second.astype(np.float64),
        }

    def initialize(self, latents: Float[Array, "*d"]) -> HeunState:
        """Starts at noise of the largest level."""
        xt = latents * float(self.times()[0])
        wide = xt.astype(objectives.at_least_float32(xt.dtype))
        return HeunState(xt, wide, jnp.zeros_like(wide))

    def update(
        self,
        state: HeunState,
        pred: Float[Array, "*d"],
        step: base.Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> HeunState:
        """Takes the first or the second half of a step; `noise` is not used."""
        xt, slope = self._slope(state.xt, pred, step)
        second = step["second"] > 0.0
        start = jnp.where(second, state.start, xt)
        mean = jnp.where(second, (state.slope + slope) / 2.0, slope)
        new = start + step["length"].astype(xt.dtype) * mean
        return HeunState(new.astype(state.xt.dtype), start, slope)

    def finalize(self, state: HeunState) -> Float[Array, "*d"]:
        """Returns the sample."""
        return state.xt
