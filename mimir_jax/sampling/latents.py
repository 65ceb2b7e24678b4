# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise to latents and latents to frames, the two steps that every pipeline takes."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Key

from mimir_jax.diffusion import guidance, samplers
from mimir_jax.encoders import latents as codecs
from mimir_jax.models import functional
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib

T = TypeVar("T")


def denoise(
    predict: guidance.Predict,
    sampler: samplers.Sampler,
    padded: int,
    shape: tuple[int, ...],
    condition: Any,
    *,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    latents: Float[Array, "b t_padded h w c"] | None = None,
    noise: Float[Array, "n b t_padded h w c"] | None = None,
) -> Float[Array, "b t h w c"]:
    """Samples scaled latents of `shape` (b, t, h, w, c).

    1.5 models sample `dit.padded_frames`; the extra leading frames are dropped at the end.

    Args:
        predict: The network, guided or not.
        sampler: Takes the steps.
        padded: Latent frames that the network sees, at least those of `shape`.
        shape: Shape of the result.
        condition: Passed to `predict`.
        key: Draws what of `latents` and `noise` is not given; one, or one a row.
        latents: Noise to start from, of the padded size.
        noise: Noise of every step of a stochastic sampler, of the padded size.
    """
    rows, frames, *rest = shape
    drawn = samplers.sample(
        predict, sampler, (rows, padded, *rest), condition, key=key, latents=latents, noise=noise
    )
    return drawn[:, padded - frames :]


def pad_batch(rows: Sequence[T], multiple: int, least: int = 1) -> list[T]:
    """Repeats the last of `rows` until there are `least` and `multiple` divides their number."""
    length = max(len(rows), least)
    return [*rows, *[rows[-1]] * (length + -length % multiple - len(rows))]


def batch_multiple(*, guided: bool) -> int:
    """Returns what the number of videos must be a multiple of for the mesh to split their rows.

    A guided video takes two rows.
    """
    rows = context.num_shards("act_batch")
    return math.lcm(2, rows) // 2 if guided else rows


def height_mesh(height: int, devices: Sequence[Any]) -> Mesh:
    """Returns a mesh of as many of `devices` as divide the `height` of latents.

    Every device would hold all rows otherwise, until a layer doubles them often enough to divide.
    """
    shards = max(n for n in range(1, len(devices) + 1) if height % n == 0)
    return mesh_lib.line("context", devices[:shards])


class Decoder:
    """A codec's `decode`, compiled, with pixel rows split over the devices of this process.

    The split is exact: convolutions fetch missing rows from their neighbours and norms sum over the
    whole `height_mesh`, so memory per device falls with the number of devices.

    Args:
        codec: The codec.
        params: Its parameters.
        mesh: Names the devices; None decodes where the parameters are.
    """

    def __init__(self, codec: codecs.LatentCodec, params: functional.Params, mesh: Mesh | None):
        self._params = params
        self._devices = None if mesh is None else list(mesh.local_devices)
        self._decode = jax.jit(codec.decode, static_argnames="tiled")

    def __call__(
        self, latents: Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"], *, tiled: bool
    ) -> Float[np.ndarray, "b f h2 w2 c2"]:
        """Returns the video of scaled latents, about [-1, 1]."""
        if self._devices is None:
            return np.asarray(self._decode(self._params, latents, tiled=tiled))
        mesh = height_mesh(latents.shape[2], self._devices)
        replicated = NamedSharding(mesh, P())
        self._params, latents = jax.device_put((self._params, latents), replicated)
        with context.use_mesh(mesh):
            return np.asarray(self._decode(self._params, latents, tiled=tiled))
