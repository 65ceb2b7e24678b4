# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Classifier-free guidance (arXiv 2207.12598), constant or dynamic over the steps.

`guided = uncond + scale * (cond - uncond)`; scale 1 is unguided.

Prompts with images may have two scales, one for the text and one for the images, as in
InstructPix2Pix (arXiv 2211.09800), which has an image and takes its branches in the other order:
`guided = uncond + scale * (text - uncond) + image_scale * (cond - text)`, where `text` sees the
prompt without its images. Equal scales give the guidance of one scale.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from mimir_jax.config import SamplerConfig
from mimir_jax.diffusion import objectives, schedules
from mimir_jax.diffusion.schedules import Predict, Times
from mimir_jax.errors import require


def scales(
    cfg: SamplerConfig,
    schedule: schedules.Schedule,
    listed: Shaped[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " steps"] | Float[np.ndarray, ""]:
    """Returns the guidance scale at every timestep in float64, or the one of all noise levels.

    With `curve(u) = 1 + guidance_scale * (1 - cos(pi u^5)) / 2`:

    - `off`: `guidance_scale`, at every timestep.
    - `smooth`: `curve(i / N)` at step i of N, the curve its authors intended: near 1 for most of
      the run, then up to `1 + guidance_scale`; linear between the listed timesteps.
    - `reference`: `curve((N - timestep) / N)`, as both public implementations compute it. Its
      argument is large, which makes the value erratic, and wrong by up to 3.45 in float32.

    Args:
        cfg: Scale, dynamics and the number of steps.
        schedule: Defines the timesteps.
        listed: The N timesteps that the sampler visits, noisiest first; None stands for the
            trailing grid of `cfg.steps`.

    Raises:
        InputError: for dynamic guidance over noise levels.
    """
    if not isinstance(schedule, schedules.DiscreteSchedule):
        require(
            cfg.dynamic_guidance == "off",
            "dynamic_guidance must be off with noise levels in place of timesteps, got "
            f"{cfg.dynamic_guidance!r}; turn it off",
        )
        return np.array(cfg.guidance_scale)
    timestep = np.arange(schedule.num_train_steps)
    if cfg.dynamic_guidance == "off":
        return np.full(timestep.shape, cfg.guidance_scale)

    def curve(u: np.ndarray) -> np.ndarray:
        return 1.0 + cfg.guidance_scale * (1.0 - np.cos(np.pi * u**5.0)) / 2.0

    if cfg.dynamic_guidance == "reference":
        return curve((cfg.steps - timestep) / cfg.steps)
    listed = schedule.timesteps(cfg.steps) if listed is None else listed
    steps = len(listed)  # a strided grid may have more than `cfg.steps`
    return np.interp(timestep, listed[::-1], curve(np.arange(steps) / steps)[::-1])


def image_scales(
    cfg: SamplerConfig,
    schedule: schedules.Schedule,
    listed: Shaped[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " steps"] | Float[np.ndarray, ""]:
    """Returns `scales` for `image_guidance_scale`, with the same dynamics."""
    own = dataclasses.replace(cfg, guidance_scale=cfg.image_guidance_scale)
    return scales(own, schedule, listed)


def guides(cfg: SamplerConfig) -> bool:
    """Returns whether guidance changes anything, and so takes more than one row per video."""
    given = {cfg.guidance_scale, cfg.image_guidance_scale} - {None}
    return cfg.dynamic_guidance != "off" or given != {1.0}


def branches(cfg: SamplerConfig) -> int:
    """Returns the rows per video: 1 without guidance, 3 with a scale for images, else 2."""
    if not guides(cfg):
        return 1
    return 2 if cfg.image_guidance_scale is None else 3


class Gap(NamedTuple):
    """What guidance carries where it does not compute both branches at every evaluation.

    Attributes:
        number: Evaluations so far.
        gap: The last difference of the conditional prediction from the unconditional one.
        aux: State of the network.
    """

    number: Int[Array, ""]
    gap: Float[Array, "b *d"]
    aux: Any


def start(shape: tuple[int, ...], aux: Any = None) -> Gap:
    """Returns the `aux` of the first evaluation with `every` above 1, for `xt` of `shape`."""
    return Gap(jnp.int32(0), jnp.zeros(shape, jnp.float32), aux)


def guided_by(
    predict: Predict,
    table: Float[Array, " steps"] | Float[Array, ""],
    rescale_factor: float = 0.0,
    every: int = 1,
    image_table: Float[Array, " steps"] | Float[Array, ""] | None = None,
) -> Predict:
    """Wraps `predict` in guidance, all branches in one batch.

    Args:
        predict: The network.
        table: The scale at every timestep, or one for all times. It may be an argument of a
            compiled function, which then serves every scale.
        rescale_factor: Share of the rescaled prediction, phi of `rescale`.
        every: Compute the unconditional branch at every n-th evaluation alone, and keep its
            difference from the conditional one in between. Above 1, `aux` is that of `start`.
        image_table: The scale of images like `table`, which is then that of the text alone; needs
            `every` 1. None has one scale.

    Returns:
        A function of b rows of `xt` and `time` and of a condition with 2b rows, a pytree: first
        all unconditional rows, then the conditional ones. With `image_table` it has 3b, those of
        the text without images in between. `aux` belongs to the rows that the network sees. The
        prediction is at least float32.
    """
    tables = [table] if image_table is None else [table, image_table]
    count = len(tables) + 1

    def all_branches(
        xt: Array, time: Array, condition: Any, aux: Any
    ) -> tuple[tuple[Array, ...], Any]:
        """Returns the prediction of each branch, the conditional one last."""
        rows = jnp.concatenate([xt] * count), jnp.concatenate([time] * count)
        pred, aux = predict(*rows, condition, aux)
        pred = pred.astype(objectives.at_least_float32(pred.dtype))
        return tuple(jnp.split(pred, count)), aux

    def sometimes(
        xt: Array, time: Array, condition: Any, state: Gap
    ) -> tuple[tuple[Array, Array], Gap]:
        def both() -> tuple[tuple[Array, Array], Gap]:
            (uncond, cond), aux = all_branches(xt, time, condition, state.aux)
            return (uncond, cond), Gap(state.number + 1, cond - uncond, aux)

        def alone() -> tuple[tuple[Array, Array], Gap]:
            own = jax.tree.map(lambda x: x[len(xt) :], condition)
            cond, aux = predict(xt, time, own, state.aux)
            cond = cond.astype(objectives.at_least_float32(cond.dtype))
            return (cond - state.gap, cond), Gap(state.number + 1, state.gap, aux)

        return jax.lax.cond(state.number % every == 0, both, alone)

    def wrapped(
        xt: Float[Array, "b *d"], time: Times, condition: Any, aux: Any
    ) -> tuple[Float[Array, "b *d"], Any]:
        _check_rows(condition, xt.shape[0], count)
        compute = all_branches if every == 1 else sometimes
        preds, aux = compute(xt, time, condition, aux)
        pred, cond = preds[0], preds[-1]
        for scales, low, high in zip(tables, preds[:-1], preds[1:], strict=True):
            scale = scales[time] if scales.ndim else jnp.full(time.shape, scales)
            scale = objectives.broadcast_rows(scale.astype(cond.dtype), cond)
            pred = pred + scale * (high - low)
        return (rescale(pred, cond, rescale_factor) if rescale_factor else pred), aux

    return wrapped


def rescale(
    guided: Float[Array, "b *d"], cond: Float[Array, "b *d"], factor: float
) -> Float[Array, "b *d"]:
    """Moves the standard deviation of a guided prediction towards that of the conditional one.

    Large scales over-expose samples; this undoes it (arXiv 2305.08891, section 3.4).

    Args:
        guided: The guided prediction.
        cond: The conditional prediction.
        factor: phi, from 0 (`guided` itself) to 1 (the standard deviation of `cond`, per row).
    """
    axes = tuple(range(1, cond.ndim))
    have, want = (jnp.std(x, axes, keepdims=True) for x in (guided, cond))
    ratio = jnp.where(have > 0.0, want / jnp.where(have > 0.0, have, 1.0), 1.0)
    return guided * (factor * ratio + (1.0 - factor))


def _check_rows(condition: Any, rows: int, count: int) -> None:
    for leaf in jax.tree.leaves(condition):
        require(
            leaf.shape[0] == count * rows,
            f"condition must have {count * rows} rows, unconditional then conditional, for {rows} "
            f"samples, got {leaf.shape[0]}; concatenate the {count} branches",
        )
