# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a noise schedule is, whether its time is a timestep or a noise level."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

Times = Shaped[Array, " b"]
"""One time per row: an int32 timestep or a float32 noise level, as the schedule counts."""

Predict = Callable[[Array, Array, Any, Any], tuple[Array, Any]]
"""A network as `predict(xt, time, condition, aux) -> (prediction, aux)`.

`time` has one entry per row (`Times`). `aux` is the state that a network carries from one sampling
step to the next, a pytree of fixed structure; None for a network that carries none.
"""

Kind = Literal["velocity", "noise", "x0", "flow"]
"""What a network may predict; `objectives` has the formulas."""


@runtime_checkable
class Schedule(Protocol):
    """Noise levels over time: `xt = alpha(time) x0 + sigma(time) noise`.

    Attributes:
        prediction: What `precondition` turns the network's output into, and the loss measures.
    """

    prediction: Kind

    def alpha(self, time: Times) -> Float[Array, " b"]:
        """Returns the weight of the clean sample."""
        ...

    def sigma(self, time: Times) -> Float[Array, " b"]:
        """Returns the weight of the noise."""
        ...

    def precondition(self, network: Predict) -> Predict:
        """Returns `network` with its input, time and output scaled as the schedule defines."""
        ...

    def loss_weight(self, time: Times) -> Float[Array, " b"] | None:
        """Returns the weight of the squared error of each row; None stands for 1."""
        ...

    def sample_times(self, key: Array, batch: int) -> Times:
        """Draws the times of a training batch; they depend on `key` and `batch` alone."""
        ...

    def band_times(self, band: Array | int, bands: int, batch: int) -> Times:
        """Returns times spread evenly over one of `bands` equal shares of the training draws."""
        ...

    def band_names(self, bands: int) -> list[str]:
        """Returns a name for each of `bands`, such as the range of its times."""
        ...


def fractions(key: Array, batch: int, stratified: bool) -> Float[Array, "{batch}"]:
    """Draws from [0, 1) for each row of the global batch.

    Args:
        key: A typed key; the draw depends on it and `batch` alone, not on devices.
        batch: Rows of the global batch.
        stratified: Row i draws from the i-th of `batch` equal intervals, so that every batch covers
            all noise levels (explicit uniform sampling, arXiv 2408.06072); False draws freely.
    """
    place = jax.random.uniform(key, (batch,))
    if stratified:
        place = (place + jnp.arange(batch, dtype=place.dtype)) / batch
    return place
