# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The interface of samplers, and the scan that runs one.

latents -> initialize -> [ predict -> update ] x evaluations -> finalize -> sample
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mimir_jax import noise as noise_lib
from mimir_jax.diffusion import objectives, schedules
from mimir_jax.errors import require

Coefficients = dict[str, Any]
"""Host arrays with one row per step; inside the scan, the scalars of one step."""


class State(NamedTuple):
    """The noisy sample and, for multistep solvers, the last estimate of the clean one."""

    xt: Float[Array, "*d"]
    x0: Float[Array, "*d"] | None = None


class Known(NamedTuple):
    """Clean samples that sampling starts from or keeps.

    Attributes:
        clean: The samples (b, ...).
        keep: True where they are kept, of a shape that broadcasts to theirs; None keeps nothing.
    """

    clean: Float[Array, "b *d"]
    keep: Bool[Array, "..."] | None = None


@runtime_checkable
class Sampler(Protocol):
    """What `sample` needs: one `update` per evaluation of the network, in the order of `times`.

    The state is any named tuple with a field `xt`, the noisy sample that the network sees next.
    `skip` of the `num_steps` are left out at the start.
    """

    schedule: schedules.Schedule
    num_steps: int
    skip: int

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


def sample(
    predict: schedules.Predict,
    sampler: Sampler,
    shape: tuple[int, ...],
    condition: Any = None,
    *,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    latents: Float[Array | np.ndarray, "b *d"] | None = None,
    noise: Float[Array | np.ndarray, "n b *d"] | None = None,
    aux: Any = None,
    known: Known | None = None,
    trace: bool = False,
) -> Float[Array, "b *d"] | tuple[Float[Array, "b *d"], Bool[Array, "n b"]]:
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
        known: Clean samples, which sampling starts from, with noise of the first time. Where they
            are to be kept, the noisy sample is replaced by them with the noise of `latents` before
            every evaluation, and by them alone at the end; without skipped steps, the rest starts
            from noise alone.
        aux: What `predict` gets as `aux` at the first step; later steps get what it returned.
        trace: Also return, for every evaluation and row, whether all values were finite after it.

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
    times = sampler.times()
    times = jnp.asarray(times, jnp.int32 if times.dtype.kind == "i" else None)
    start_noise, latents = latents, _start(sampler, latents, known, times[:1])
    steps = {name: jnp.asarray(column) for name, column in sampler.coefficients().items()}
    draw = sampler.stochastic and noise is None
    draws = jnp.asarray(sampler.draws(), jnp.int32) if draw else None

    def body(carry: tuple, inputs: tuple) -> tuple[tuple, Array | None]:
        state, aux = carry
        time, step, number, fresh = inputs
        if draw:
            fresh = _draw(key, number, shape)
        rows = jnp.full(shape[:1], time)
        state = state._replace(xt=_keep(sampler, state.xt, known, start_noise, rows))
        pred, aux = predict(state.xt, rows, condition, aux)
        state = sampler.update(state, pred, step, fresh)
        if not trace:
            return (state, aux), None
        return (state, aux), jnp.isfinite(state.xt).all(axis=range(1, state.xt.ndim))

    start = (sampler.initialize(latents), aux)
    (state, _), finite = jax.lax.scan(body, start, (times, steps, draws, noise))
    result = sampler.finalize(state)
    if known is not None and known.keep is not None:
        result = jnp.where(known.keep, known.clean.astype(result.dtype), result)
    return (result, finite) if trace else result


def _start(
    sampler: Sampler, noise: Float[Array, "b *d"], known: Known | None, first: Array
) -> Float[Array, "b *d"]:
    """Returns what the first evaluation sees: noise, or known samples with it."""
    if known is None or (known.keep is not None and not sampler.skip):
        return noise
    time = jnp.broadcast_to(first, noise.shape[:1])
    return objectives.add_noise(sampler.schedule, known.clean, noise, time).astype(noise.dtype)


def _keep(
    sampler: Sampler,
    xt: Float[Array, "b *d"],
    known: Known | None,
    noise: Float[Array, "b *d"],
    time: Array,
) -> Float[Array, "b *d"]:
    """Returns `xt` with known samples at the noise of `time` where they are kept."""
    if known is None or known.keep is None:
        return xt
    noisy = objectives.add_noise(sampler.schedule, known.clean, noise, time)
    return jnp.where(known.keep, noisy.astype(xt.dtype), xt)


def _draw(key: Array, index: int | Array, shape: tuple[int, ...]) -> Float[Array, "b *d"]:
    """Returns standard normal noise number `index` of a key, or of one key per row."""
    if key.ndim == 0:
        return noise_lib.normal(jax.random.fold_in(key, index), shape)
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, index)
    return jax.vmap(lambda one: noise_lib.normal(one, shape[1:]))(keys)
