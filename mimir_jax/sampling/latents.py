# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise to latents and latents to frames, the two steps that every pipeline takes."""

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Key

from mimir_jax.config import DiTConfig
from mimir_jax.diffusion import guidance, samplers
from mimir_jax.models import dit, functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib

T = TypeVar("T")


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


def fill(rows: Sequence[T], ways: int, least: int = 1) -> list[T]:
    """Repeats the last of `rows` until there are `least` and `ways` divides them."""
    length = max(len(rows), least)
    return [*rows, *[rows[-1]] * (length + -length % ways - len(rows))]


def ways(*, guided: bool) -> int:
    """Returns what must divide videos for the mesh to split their rows, two of each if guided."""
    rows = context.num_shards("act_batch")
    return math.lcm(2, rows) // 2 if guided else rows


def bands(height: int, devices: Sequence[Any]) -> Mesh:
    """Returns a mesh of as many of `devices` as divide the `height` of latents.

    Rows that do not divide would lie whole on every device until a layer doubles them often enough.
    """
    ways = max(n for n in range(1, len(devices) + 1) if height % n == 0)
    return mesh_lib.line("context", devices[:ways])


class Decoder:
    """`decode`, compiled, with the pixel rows of a video split over the devices of this process.

    The split is exact: convolutions fetch the rows they lack from their neighbours, and norms sum
    over all `bands`, so the memory of a device falls with their number.

    Args:
        model: The VAE.
        params: Its parameters.
        mesh: Names the devices; None decodes where the parameters are.
    """

    def __init__(self, model: functional.Model, params: functional.Params, mesh: Mesh | None):
        self._params = params
        self._devices = None if mesh is None else list(mesh.local_devices)
        self._decode = jax.jit(functools.partial(decode, model), static_argnames="tiled")

    def __call__(
        self, latents: Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"], *, tiled: bool
    ) -> Float[np.ndarray, "b f h2 w2 c2"]:
        """Returns the video of scaled latents, about [-1, 1]."""
        if self._devices is None:
            return np.asarray(self._decode(self._params, latents, tiled=tiled))
        mesh = bands(latents.shape[2], self._devices)
        everywhere = NamedSharding(mesh, P())
        self._params, latents = jax.device_put((self._params, latents), everywhere)
        with context.use_mesh(mesh):
            return np.asarray(self._decode(self._params, latents, tiled=tiled))
