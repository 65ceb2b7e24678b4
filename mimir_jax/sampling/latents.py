# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise to latents and latents to frames, the two steps that every pipeline takes; traceable."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mimir_jax.config import DiTConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.models import dit, functional
from mimir_jax.models.vae import autoencoder


def denoise(
    predict: guidance.Predict,
    sampler: samplers.Sampler,
    cfg: DiTConfig,
    shape: tuple[int, ...],
    condition: Any,
    *,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    latents: Float[Array, "b t_padded h w c"] | None = None,
    noise: Float[Array, "n b t_padded h w c"] | None = None,
) -> Float[Array, "b t h w c"]:
    """Samples scaled latents of `shape` (b, t, h, w, c).

    1.5 models sample `dit.padded_frames` and lose the leading ones that are too many.

    Args:
        predict: The network, guided or not.
        sampler: Takes the steps.
        cfg: Sizes of the network's patches.
        shape: Shape of the result.
        condition: Passed to `predict`.
        key: Draws what of `latents` and `noise` is not given; one, or one a row.
        latents: Noise to start from, of the padded size.
        noise: Noise of every step of a stochastic sampler, of the padded size.
    """
    rows, frames, *rest = shape
    padded = dit.padded_frames(frames, cfg)
    drawn = samplers.sample(
        predict, sampler, (rows, padded, *rest), condition, key=key, latents=latents, noise=noise
    )
    return drawn[:, padded - frames :]


def decode(
    model: functional.Model,
    params: functional.Params,
    latents: Float[Array, "b t h w c"],
    *,
    tiled: bool = False,
) -> Float[Array, "b f h2 w2 c2"]:
    """Returns the video of scaled latents, about [-1, 1], in float32.

    Args:
        model: The VAE.
        params: Its parameters.
        latents: What `denoise` returns.
        tiled: Whether to run and blend overlapping tiles, for large frames.
    """
    latents = autoencoder.unscale_latents(model.config, latents)
    return model.decode(params, latents, tiled=tiled).astype(jnp.float32)
