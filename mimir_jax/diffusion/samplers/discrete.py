# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""DDIM and a stochastic second-order DPM solver for discrete schedules.

A sampler is a frozen dataclass of pure methods. The host computes the coefficients of every step in
float64, limits included, so nothing infinite ever reaches the device. Steps run in at least float32
and return to the dtype of the latents.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.diffusion import objectives, schedules
from mimir_jax.diffusion.samplers import base
from mimir_jax.errors import require

End = Literal["clean", "first"]
"""Where the last step leads: to the clean sample, or to the noise level of timestep 0."""


@dataclasses.dataclass(frozen=True)
class _Discrete:
    """What the samplers of a discrete schedule share."""

    schedule: schedules.DiscreteSchedule
    num_steps: int = 50
    previous: schedules.Previous = "reference"
    prediction: schedules.Kind = "velocity"
    spacing: schedules.Spacing = "trailing"
    steps_offset: int = 0
    end: End = "clean"
    skip: int = 0

    def times(self) -> Int[np.ndarray, " n"]:
        """Returns the timestep of every step, noisiest first, without the skipped ones."""
        steps = self.schedule.timesteps(self.num_steps, self.spacing, self.steps_offset)
        return steps[self.skip :]

    def draws(self) -> Int[np.ndarray, " n"]:
        """Returns the number of each step's noise: its timestep, counted from 1."""
        return 1 + self.times()

    def finalize(self, state: base.State) -> Float[Array, "*d"]:
        """Returns the sample."""
        return state.xt

    def _levels(
        self,
    ) -> tuple[
        Float[np.ndarray, " n"], Float[np.ndarray, " n"], Bool[np.ndarray, " n"], base.Coefficients
    ]:
        """Returns `alpha ** 2` at each step and where it leads, which steps lead to the end, and
        the coefficients that estimate the clean sample.

        Raises:
            InputError: for predicted noise at a step of pure noise.
        """
        now = self.schedule.signal(self.times())
        after = self.schedule.previous(
            self.num_steps, self.previous, self.spacing, self.steps_offset
        )[self.skip :]
        ends = after < 0
        require(
            self.prediction != "noise" or bool((now > 0.0).all()),
            "sampling from predicted noise must start above alpha 0, where it has no clean sample, "
            f"got alpha 0 at timestep {self.times()[np.argmin(now)]}; train the model to "
            "predict velocity, or leave the schedule without zero terminal SNR",
        )
        level = self.schedule.signal(after if self.end == "clean" else np.maximum(after, 0))
        return now, level, ends, {"alpha": np.sqrt(now), "sigma": np.sqrt(1.0 - now)}

    def _estimate(
        self, state: base.State, pred: Array, step: base.Coefficients
    ) -> tuple[Array, Array, base.Coefficients]:
        """Returns `xt`, the clean sample and the step's coefficients, at least in float32."""
        dtype = objectives.at_least_float32(state.xt.dtype)
        xt, pred = state.xt.astype(dtype), pred.astype(dtype)
        step = {name: value.astype(dtype) for name, value in step.items()}
        x0 = objectives.to_x0(self.prediction, pred, xt, step["alpha"], step["sigma"])
        return xt, x0, step


@dataclasses.dataclass(frozen=True)
class DDIM(_Discrete):
    """First-order sampler (arXiv 2010.02502), `x = a x + b x0 + s noise`.

    Attributes:
        schedule: The noise schedule.
        num_steps: Sampling steps.
        previous: Where steps lead; see `DiscreteSchedule.previous`.
        prediction: What the network predicts.
        spacing, steps_offset: Which timesteps are visited; see `DiscreteSchedule.timesteps`.
        end: Where the last step leads.
        skip: First steps that are left out, because sampling starts from a noisy sample.
        eta: Share of fresh noise in every step: 0 is deterministic, 1 has the variance of DDPM.
        rounded: Whether steps go by a table of `alpha ** 2` in float16; the clean sample is
            estimated by the exact one. The published code of Divot has this (divot.md 4.4).
    """

    eta: float = 0.0
    rounded: bool = False

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.eta > 0.0

    def coefficients(self) -> base.Coefficients:
        """Returns the float64 coefficients of every step.

        Raises:
            InputError: for predicted noise at a step of pure noise.
        """
        now, after, _, estimate = self._levels()
        start, inverse = now, 1.0 / (1.0 - now)
        if self.rounded:
            start, after = _half(now), _half(after)
            inverse = _half(1.0 / _half(1.0 - start))
        variance = self.eta**2 * inverse * (1.0 - after) * (1.0 - start / after)
        a = np.sqrt(np.maximum(1.0 - after - variance, 0.0) / (1.0 - now))
        b = np.sqrt(after) - a * np.sqrt(now)
        fresh = {"s": np.sqrt(variance)} if self.stochastic else {}
        return {**estimate, "a": a, "b": b, **fresh}

    def initialize(self, latents: Float[Array, "*d"]) -> base.State:
        """Starts at noise."""
        return base.State(latents)

    def update(
        self,
        state: base.State,
        pred: Float[Array, "*d"],
        step: base.Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> base.State:
        """Takes one step, with standard normal `noise` if it is stochastic."""
        xt, x0, c = self._estimate(state, pred, step)
        new = c["a"] * xt + c["b"] * x0
        if self.stochastic:
            new = new + c["s"] * noise.astype(xt.dtype)
        return base.State(new.astype(state.xt.dtype))


@dataclasses.dataclass(frozen=True)
class DPM(_Discrete):
    """Stochastic second-order multistep solver in data prediction (SDE-DPM-Solver++(2M)).

    `x = m1 x - m2 (c x0 - d x0_last) + mn noise` (arXiv 2211.01095). The first step, the one after
    pure noise and the one to the end are of first order: `c = 1`, `d = 0`.

    Attributes:
        schedule: The noise schedule.
        num_steps: Sampling steps.
        previous: Where steps lead; see `DiscreteSchedule.previous`.
        prediction: What the network predicts.
        spacing, steps_offset: Which timesteps are visited; see `DiscreteSchedule.timesteps`.
        end: Where the last step leads.
        skip: First steps that are left out, because sampling starts from a noisy sample.
    """

    stochastic: ClassVar[bool] = True

    def coefficients(self) -> base.Coefficients:
        """Returns the float64 coefficients of every step.

        Raises:
            InputError: for predicted noise at a step of pure noise.
        """
        now, after, ends, estimate = self._levels()
        last = np.append(0.0, now[:-1])  # pure noise before the first step: first order there
        last[ends] = 0.0
        rows = [_dpm_step(*signals) for signals in zip(last, now, after, strict=True)]
        names = ("m1", "m2", "mn", "c", "d")
        return {**estimate, **dict(zip(names, np.array(rows, np.float64).T, strict=True))}

    def initialize(self, latents: Float[Array, "*d"]) -> base.State:
        """Starts at noise."""
        return base.State(
            latents, jnp.zeros(latents.shape, objectives.at_least_float32(latents.dtype))
        )

    def update(
        self,
        state: base.State,
        pred: Float[Array, "*d"],
        step: base.Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> base.State:
        """Takes one step with standard normal `noise`."""
        xt, x0, c = self._estimate(state, pred, step)
        data = c["c"] * x0 - c["d"] * state.x0
        new = c["m1"] * xt - c["m2"] * data + c["mn"] * noise.astype(xt.dtype)
        return base.State(new.astype(state.xt.dtype), x0)


def _dpm_step(last: float, now: float, after: float) -> tuple[float, float, float, float, float]:
    """Returns `m1, m2, mn, c, d` from the signals of three successive noise levels."""
    if after == 1.0:  # the clean sample is its estimate
        return 0.0, -1.0, 0.0, 1.0, 0.0
    if now == 0.0:  # pure noise carries nothing over
        return 0.0, -math.sqrt(after), math.sqrt(1.0 - after), 1.0, 0.0
    h = _half_logsnr(after) - _half_logsnr(now)
    m1 = math.sqrt((1.0 - after) / (1.0 - now)) * math.exp(-h)
    m2 = math.expm1(-2.0 * h) * math.sqrt(after)
    mn = math.sqrt(1.0 - after) * math.sqrt(-math.expm1(-2.0 * h))
    if last == 0.0:
        return m1, m2, mn, 1.0, 0.0
    d = h / (2.0 * (_half_logsnr(now) - _half_logsnr(last)))
    return m1, m2, mn, 1.0 + d, d


def _half_logsnr(signal: float) -> float:
    return 0.5 * math.log(signal / (1.0 - signal))


def _half(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Rounds to float16."""
    return x.astype(np.float16).astype(np.float64)
