# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise to latents and latents to frames, the two steps that every pipeline takes."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from mimir_jax.config import Shortcuts
from mimir_jax.diffusion import caching, guidance, samplers, schedules
from mimir_jax.diffusion import windows as windows_lib
from mimir_jax.encoders import latents as codecs
from mimir_jax.errors import DivergenceError
from mimir_jax.models import functional
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.systems import base

T = TypeVar("T")

_NONE = Shortcuts()
_STATIC = ("sampler", "shape", "rescale", "shortcuts", "windows", "trace")


def make_sampler(config: Any) -> samplers.Sampler:
    """Returns the sampler of a system's config, by its sections `sampler` and `diffusion`."""
    return samplers.make_sampler(config.sampler, schedules.make_schedule(config.diffusion))


def make_denoise(system: base.DiffusionSystem) -> Callable[..., jax.Array]:
    """Returns the jitted loop from noise to scaled latents, all guidance branches in one batch.

    1.5 models sample `System.padded_frames`; the extra leading frames are dropped at the end.

    It is called as `(params, features, null, scales, key, latents, noise, known, text, *, sampler,
    shape, rescale, shortcuts, windows, trace)`. The keyword arguments are static.

        params      parameters of the network
        features    features of the requests
        null        features of the unconditional branch, and the rows of them that follow the
                    network's own null rule; None without guidance
        scales      scale of guidance at every timestep, or one for all times
        key         draws what of `latents` and `noise` is None; one, or one per row
        latents     noise to start from, padded
        noise       noise of every step of a stochastic sampler, padded
        known       latents to start from or to keep, padded; None for none
        text        features of the prompts without their images, and the scale of guidance of
                    these; None where one scale is for both
        windows     windows over the padded latents, each row with several conditions in a row of
                    `features`; None for clips of the network's own length
        sampler     takes the steps
        shape       shape of the result (b, t, h, w, c)
        rescale     share of rescaled guidance
        shortcuts   what steps leave out
        trace       whether to return, in place of latents, which rows were finite after each step
    """

    @functools.partial(jax.jit, static_argnames=_STATIC)
    def denoise(
        params, features, null, scales, key, latents=None, noise=None, known=None, text=None, *,
        sampler, shape, rescale, shortcuts=_NONE, windows=None, trace=False,
    ):  # fmt: skip
        predict = sampler.schedule.precondition(functools.partial(system.denoise, params))
        if windows is not None:
            predict = windows_lib.blended(predict, windows)
        drop, branches = None, 1
        if null is not None:
            unconditional, drop = null  # its rows come first
            without, image_table = (None, None) if text is None else text
            parts = [part for part in (unconditional, without, features) if part is not None]
            branches = len(parts)
            features = jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts)
            drop = jnp.concatenate([drop, *[jnp.zeros_like(drop)] * (branches - 1)])
            every = shortcuts.guidance_every
            predict = guidance.guided_by(predict, scales, rescale, every, image_table)
        condition = system.condition(params, features, drop)
        if windows is not None:
            rows = shape[0] * branches
            condition = jax.tree.map(lambda x: x.reshape(rows, -1, *x.shape[1:]), condition)
        padded = system.padded_frames(shape[1])
        whole = (shape[0], padded, *shape[2:])
        aux = None
        if shortcuts.cache == "first_block":
            aux = system.start_cache(whole, condition, shortcuts.threshold)
        if shortcuts.guidance_every > 1 and null is not None:
            aux = guidance.start(whole, aux)
        if shortcuts.cache == "forecast":
            predict = caching.forecasting(predict, shortcuts.threshold)
            aux = caching.start(whole, aux)
        drawn = samplers.sample(
            predict,
            sampler,
            whole,
            condition,
            aux=aux,
            key=key,
            latents=latents,
            noise=noise,
            known=known,
            trace=trace,
        )
        if trace:
            return drawn[1]
        return drawn[:, padded - shape[1] :]

    return denoise


def pad_batch(rows: Sequence[T], multiple: int, least: int = 1) -> list[T]:
    """Repeats the last of `rows` until there are `least` and `multiple` divides their number."""
    length = max(len(rows), least)
    return [*rows, *[rows[-1]] * (length + -length % multiple - len(rows))]


def batch_multiple(branches: int) -> int:
    """Returns what the number of videos must be a multiple of for the mesh to split their rows.

    A video takes as many rows as there are `branches` of guidance.
    """
    return math.lcm(branches, context.num_shards("act_batch")) // branches


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
        self._codec = codec
        self._decode_chunk = jax.jit(getattr(codec, "decode_chunk", None) or codec.decode)

    def stream(
        self, latents: Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"]
    ) -> Iterator[Float[np.ndarray, "b f h2 w2 c2"]]:
        """Yields the video of scaled latents chunk by chunk, so memory does not grow with it."""
        mesh, cache = None, None
        if self._devices is not None:
            mesh = height_mesh(latents.shape[2], self._devices)
            self._params = jax.device_put(self._params, NamedSharding(mesh, P()))
        for part in self._codec.chunks(latents.shape[1]):
            chunk = latents[:, part]
            if mesh is not None:
                chunk = jax.device_put(chunk, NamedSharding(mesh, P()))
            with context.use_mesh(mesh):
                frames, cache = self._decode_chunk(self._params, chunk, cache)
            yield np.asarray(frames)

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

    @context.no_mesh()
    def rows(
        self, latents: Float[Array, "b t h w c"] | Float[np.ndarray, "b t h w c"], *, tiled: bool
    ) -> list[Float[np.ndarray, "f h2 w2 c2"]]:
        """Returns the clip of each row of scaled latents, about in [-1, 1], decoded one by one.

        Raises:
            DivergenceError: for a clip that is not finite.
        """
        videos = [self(row[None], tiled=tiled)[0] for row in latents]
        for number, video in enumerate(videos, 1):
            if not np.isfinite(video).all():
                raise DivergenceError(
                    f"video {number} of {len(videos)} must be finite, decoding gave values that "
                    "are not; decode with --dtype float32"
                )
        return videos
