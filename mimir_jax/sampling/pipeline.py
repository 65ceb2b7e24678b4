# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From captions to videos with a diffusion system: condition once, denoise, decode."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import UInt8

from mimir_jax.config import DataConfig
from mimir_jax.diffusion import guidance, samplers, schedules
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.systems import base


@dataclasses.dataclass(frozen=True)
class _Request:
    prompt: str
    negative_prompt: str | None = None


class Pipeline:
    """Samples videos with a diffusion system.

    Args:
        system: Network, codec and sampler settings.
        encoder: Frozen networks.
        mesh: Spreads the videos of a batch over its `data` and `fsdp` axes, each over `context` and
            `tensor`, and the rows of each over all its devices when it is decoded; None stands for
            one device, or for the mesh of the training run around it. A batch that does not split
            is padded with copies of its last row.
    """

    def __init__(
        self,
        system: base.DiffusionSystem,
        encoder: base.DiffusionEncoder,
        *,
        mesh: Mesh | None = None,
    ):
        self._system, self._encoder, self._mesh = system, encoder, mesh
        self._decode = latents_lib.Decoder(system.codec, encoder.codec_params, mesh)

    def generate(
        self,
        params: functional.Params,
        captions: Sequence[str],
        data: DataConfig,
        *,
        seeds: Sequence[int],
        batch_size: int = 1,
        tiled: bool = False,
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        """Returns one video per caption, each from the noise of its own seed.

        Where the parameters lie on many processes, all must call it, and all get all videos.

        Args:
            params: Parameters of the network.
            captions: What to show.
            data: Frames, height and width.
            seeds: One per caption.
            batch_size: Fewer captions are padded to as many by copies that are not decoded, so that
                a video does not depend on how many there are.
            tiled: Whether to decode and blend overlapping tiles, which saves memory.
        """
        count = len(captions)
        captions, seeds = (
            latents_lib.pad_batch(rows, self.batch_multiple, batch_size)
            for rows in (captions, seeds)
        )
        requests = [_Request(caption) for caption in captions]
        features = self._encoder.features(requests)
        null, drop = self._encoder.null_features(requests)
        shape = self._system.codec.latent_shape(data.frames, data.height, data.width)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        if self._mesh is not None:
            replicated = NamedSharding(self._mesh, P())
            features, null, drop, keys = jax.device_put((features, null, drop, keys), replicated)
        with context.use_mesh(self._mesh):
            latents = self._denoise(params, features, null, drop, (len(captions), *shape), keys)
        if latents.is_fully_addressable:
            return np.stack([self.decode(row[None], tiled=tiled) for row in latents[:count]])
        rows = distributed.to_host(latents)[distributed.split_rows(count)]
        return distributed.join_rows(
            np.stack([self.decode(row[None], tiled=tiled) for row in rows]), count
        )

    @property
    def batch_multiple(self) -> int:
        """Fewest videos that give every device work."""
        with context.use_mesh(self._mesh):
            guided = guidance.guides(self._system.config.sampler)
            return latents_lib.batch_multiple(guided=guided)

    @context.no_mesh()
    def decode(
        self, latents: jax.Array | np.ndarray, *, tiled: bool = False
    ) -> UInt8[np.ndarray, "f h w 3"]:
        """Decodes the scaled latents of one clip."""
        return video_lib.to_uint8(self._decode(latents, tiled=tiled)[0])

    @functools.cached_property
    def _denoise(self):
        return make_denoise(self._system)


def make_denoise(system: base.DiffusionSystem) -> Callable[..., jax.Array]:
    """Returns the jitted loop from noise to scaled latents, both guidance branches in one batch.

    It is called as `(params, features, null, drop, shape, keys)`: parameters of the network;
    features of the captions and of the unconditional branch; rows of the latter that follow the
    network's own null rule; shape of the latents (b, t, h, w, c), static; one key per row.
    """
    cfg, schedule = system.config.sampler, schedules.DiscreteSchedule(system.config.diffusion)
    sampler = samplers.make_sampler(cfg.name, schedule, cfg.steps, cfg.previous)

    @functools.partial(jax.jit, static_argnames=("shape",))
    def denoise(params, features, null, drop, shape, keys):
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), null, features)
        drop = jnp.concatenate([drop, jnp.zeros_like(drop)])  # unconditional rows first
        condition = system.condition(params, both, drop)
        return latents_lib.denoise(
            guidance.guided(functools.partial(system.denoise, params), cfg, schedule),
            sampler,
            system.padded_frames(shape[1]),
            shape,
            condition,
            key=keys,
        )

    return denoise
