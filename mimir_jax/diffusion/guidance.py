# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Classifier-free guidance (arXiv 2207.12598), constant or dynamic over the steps.

`velocity = uncond + scale * (cond - uncond)`; scale 1 is unguided.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mimir_jax.config import SamplerConfig, require
from mimir_jax.diffusion import objectives, schedules

Predict = Callable[[Array, Array, Any], Array]
"""A network as `predict(xt, timestep, condition) -> velocity`, one timestep a row."""


def scales(cfg: SamplerConfig, schedule: schedules.DiscreteSchedule) -> Float[np.ndarray, " steps"]:
    """Returns the guidance scale at every timestep, in float64.

    With `curve(u) = 1 + guidance * (1 - cos(pi u^5)) / 2`:

    - `off`: `guidance`, at every timestep.
    - `smooth`: `curve(i / N)` at step i of N, the curve its authors intended: near 1 for most of
      the run, then up to `1 + guidance`; linear between the listed timesteps.
    - `reference`: `curve((N - timestep) / N)`, as both public implementations compute it. Its
      argument is large, which makes the value erratic, and wrong by up to 3.45 in float32.
    """
    timestep = np.arange(schedule.num_train_steps)
    if cfg.dynamic == "off":
        return np.full(timestep.shape, cfg.guidance)

    def curve(u: np.ndarray) -> np.ndarray:
        return 1.0 + cfg.guidance * (1.0 - np.cos(np.pi * u**5.0)) / 2.0

    if cfg.dynamic == "reference":
        return curve((cfg.steps - timestep) / cfg.steps)
    listed = schedule.timesteps(cfg.steps)
    return np.interp(timestep, listed[::-1], curve(np.arange(cfg.steps) / cfg.steps)[::-1])


def guided(predict: Predict, cfg: SamplerConfig, schedule: schedules.DiscreteSchedule) -> Predict:
    """Wraps `predict` in guidance, both branches in one batch.

    Args:
        predict: The network.
        cfg: Scale, dynamics and the number of steps.
        schedule: Names the timesteps.

    Returns:
        A function of b rows of `xt` and `timestep` and of a condition with 2b rows, a pytree: first
        all unconditional rows, then the conditional ones. It returns at least float32.
    """
    unguided = cfg.dynamic == "off" and cfg.guidance == 1.0
    table = jnp.asarray(scales(cfg, schedule))

    def wrapped(
        xt: Float[Array, "b *d"], timestep: Int[Array, " b"], condition: Any
    ) -> Float[Array, "b *d"]:
        rows = xt.shape[0]
        for leaf in jax.tree.leaves(condition):
            require(
                leaf.shape[0] == 2 * rows,
                f"condition must have {2 * rows} rows, unconditional then conditional, for {rows} "
                f"samples, got {leaf.shape[0]}; concatenate both branches",
            )
        if unguided:
            return predict(xt, timestep, jax.tree.map(lambda x: x[rows:], condition))
        both = predict(jnp.concatenate([xt, xt]), jnp.concatenate([timestep, timestep]), condition)
        both = both.astype(objectives.wide(both.dtype))
        uncond, cond = jnp.split(both, 2)
        scale = objectives.along_rows(table[timestep].astype(both.dtype), cond)
        return uncond + scale * (cond - uncond)

    return wrapped
