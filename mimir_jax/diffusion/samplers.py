# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""DDIM and a stochastic second-order DPM solver, under one scan.

    latents -> initialize -> [ predict -> update ] x evaluations -> finalize -> sample

A sampler is a frozen dataclass of pure methods. The host computes the coefficients of every step in
float64, limits included, so nothing infinite ever reaches the device. Steps run in at least float32
and return to the dtype of the latents.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mimir_jax import noise as noise_lib
from mimir_jax.diffusion import guidance, objectives, schedules
from mimir_jax.errors import require

End = Literal["clean", "first"]
"""Where the last step leads: to the clean sample, or to the noise level of timestep 0."""

Coefficients = dict[str, Any]
"""Host arrays with one row per step; inside the scan, the scalars of one step."""


class State(NamedTuple):
    """The noisy sample and, for multistep solvers, the last estimate of the clean one."""

    xt: Float[Array, "*d"]
    x0: Float[Array, "*d"] | None = None


@runtime_checkable
class Sampler(Protocol):
    """What `sample` needs: one `update` per evaluation of the network, in the order of `times`.

    The state is any pytree with a field `xt`, the noisy sample that the network sees next.
    """

    num_steps: int

    @property
    def stochastic(self) -> bool:
        """Whether `update` takes fresh standard normal noise."""
        ...

    def times(self) -> np.ndarray:
        """Returns the time of every evaluation, noisiest first: timesteps or noise levels."""
        ...

    def draws(self) -> Int[np.ndarray, " n"]:
        """Returns a number of at least 1 per evaluation, from which its noise is drawn."""
        ...

    def coefficients(self) -> Coefficients:
        """Returns the float64 coefficients of every evaluation."""
        ...

    def initialize(self, latents: Array) -> Any:
        """Returns the first state, from standard normal latents."""
        ...

    def update(
        self, state: Any, pred: Array, step: Coefficients, noise: Array | None = None
    ) -> Any:
        """Returns the next state, from a prediction at `state.xt`."""
        ...

    def finalize(self, state: Any) -> Array:
        """Returns the sample."""
        ...


@dataclasses.dataclass(frozen=True)
class _Discrete:
    """What the samplers of a discrete schedule share."""

    schedule: schedules.DiscreteSchedule
    num_steps: int = 50
    previous: schedules.Previous = "reference"
    prediction: objectives.Kind = "velocity"
    spacing: schedules.Spacing = "trailing"
    steps_offset: int = 0
    end: End = "clean"

    def times(self) -> Int[np.ndarray, " n"]:
        """Returns the timestep of every step, noisiest first."""
        return self.schedule.timesteps(self.num_steps, self.spacing, self.steps_offset)

    def draws(self) -> Int[np.ndarray, " n"]:
        """Returns the number of each step's noise: its timestep, counted from 1."""
        return 1 + self.times()

    def finalize(self, state: State) -> Float[Array, "*d"]:
        """Returns the sample."""
        return state.xt

    def _levels(
        self,
    ) -> tuple[
        Float[np.ndarray, " n"], Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Coefficients
    ]:
        """Returns `alpha ** 2` at each step and where it leads, which steps lead to the end, and
        the coefficients that estimate the clean sample.

        Raises:
            InputError: for predicted noise at a step of pure noise.
        """
        now = self.schedule.signal(self.times())
        after = self.schedule.previous(
            self.num_steps, self.previous, self.spacing, self.steps_offset
        )
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
        self, state: State, pred: Array, step: Coefficients
    ) -> tuple[Array, Array, Coefficients]:
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
        eta: Share of fresh noise in every step: 0 is deterministic, 1 has the variance of DDPM.
    """

    eta: float = 0.0

    @property
    def stochastic(self) -> bool:
        """Whether steps add noise."""
        return self.eta > 0.0

    def coefficients(self) -> Coefficients:
        """Returns the float64 coefficients of every step.

        Raises:
            InputError: for predicted noise at a step of pure noise.
        """
        now, after, _, estimate = self._levels()
        variance = self.eta**2 * (1.0 - after) / (1.0 - now) * (1.0 - now / after)
        a = np.sqrt(np.maximum(1.0 - after - variance, 0.0) / (1.0 - now))
        b = np.sqrt(after) - a * np.sqrt(now)
        fresh = {"s": np.sqrt(variance)} if self.stochastic else {}
        return {**estimate, "a": a, "b": b, **fresh}

    def initialize(self, latents: Float[Array, "*d"]) -> State:
        """Starts at noise."""
        return State(latents)

    def update(
        self,
        state: State,
        pred: Float[Array, "*d"],
        step: Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> State:
        """Takes one step, with standard normal `noise` if it is stochastic."""
        xt, x0, c = self._estimate(state, pred, step)
        new = c["a"] * xt + c["b"] * x0
        if self.stochastic:
            new = new + c["s"] * noise.astype(xt.dtype)
        return State(new.astype(state.xt.dtype))


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
    """

    stochastic: ClassVar[bool] = True

    def coefficients(self) -> Coefficients:
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

    def initialize(self, latents: Float[Array, "*d"]) -> State:
        """Starts at noise."""
        return State(latents, jnp.zeros(latents.shape, objectives.at_least_float32(latents.dtype)))

    def update(
        self,
        state: State,
        pred: Float[Array, "*d"],
        step: Coefficients,
        noise: Float[Array, "*d"] | None = None,
    ) -> State:
        """Takes one step with standard normal `noise`."""
        xt, x0, c = self._estimate(state, pred, step)
        data = c["c"] * x0 - c["d"] * state.x0
        new = c["m1"] * xt - c["m2"] * data + c["mn"] * noise.astype(xt.dtype)
        return State(new.astype(state.xt.dtype), x0)


SAMPLERS = {"ddim": DDIM, "dpm": DPM}


def with_name(sampler: _Discrete, name: str) -> _Discrete:
    """Returns the sampler `name` with the options of `sampler` that both have."""
    kind = SAMPLERS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    options = {field.name: getattr(sampler, field.name) for field in dataclasses.fields(sampler)}
    return kind(**{key: value for key, value in options.items() if key in known})


def make_sampler(
    name: str,
    schedule: schedules.DiscreteSchedule,
    num_steps: int = 50,
    previous: schedules.Previous = "reference",
) -> Sampler:
    """Returns the sampler `name`.

    Raises:
        ValueError: for an unknown name.
    """
    require(name in SAMPLERS, f"sampler.name must be one of {', '.join(SAMPLERS)}, got {name!r}")
    return SAMPLERS[name](schedule, num_steps, previous)


def sample(
    predict: guidance.Predict,
    sampler: Sampler,
    shape: tuple[int, ...],
    condition: Any = None,
    *,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    latents: Float[Array | np.ndarray, "b *d"] | None = None,
    noise: Float[Array | np.ndarray, "n b *d"] | None = None,
    aux: Any = None,
) -> Float[Array, "b *d"]:
    """Denoises a batch.

    Args:
        predict: The network; its prediction is of the kind that the sampler's `prediction` names.
        sampler: One of `SAMPLERS`.
        shape: Shape of the batch.
        condition: Passed to `predict` unchanged.
        key: Draws `latents` and `noise` where they are not given: one key for the batch, or one
            per row, which makes the noise of a row independent of its place.
        latents: Standard normal noise to start from; the sample gets its dtype (float32 without).
        noise: Noise of every step of a stochastic sampler.
        aux: What `predict` gets as `aux` at the first step; later steps get what it returned.

    Raises:
        InputError: without a key where noise must be drawn.
    """
    drawn = latents is None or (sampler.stochastic and noise is None)
    require(key is not None or not drawn, "key must be a random key where noise is drawn, got None")
    require(
        latents is None or latents.shape == shape,
        f"latents must have shape {shape}, got {None if latents is None else latents.shape}; "
        "pass latents.shape",
    )
    latents = _draw(key, 0, shape) if latents is None else jnp.asarray(latents)
    steps = {name: jnp.asarray(column) for name, column in sampler.coefficients().items()}
    times = sampler.times()
    times = jnp.asarray(times, jnp.int32 if times.dtype.kind == "i" else None)
    draw = sampler.stochastic and noise is None
    draws = jnp.asarray(sampler.draws(), jnp.int32) if draw else None

    def body(carry: tuple, inputs: tuple) -> tuple[tuple, None]:
        state, aux = carry
        time, step, number, fresh = inputs
        if draw:
            fresh = _draw(key, number, shape)
        pred, aux = predict(state.xt, jnp.full(shape[:1], time), condition, aux)
        return (sampler.update(state, pred, step, fresh), aux), None

    start = (sampler.initialize(latents), aux)
    (state, _), _ = jax.lax.scan(body, start, (times, steps, draws, noise))
    return sampler.finalize(state)


def _draw(key: Array, index: int | Array, shape: tuple[int, ...]) -> Float[Array, "b *d"]:
    """Returns standard normal noise number `index` of a key, or of one key per row."""
    if key.ndim == 0:
        return noise_lib.normal(jax.random.fold_in(key, index), shape)
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, index)
    return jax.vmap(lambda one: noise_lib.normal(one, shape[1:]))(keys)


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
