# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From captions to videos with the networks of a task: condition once, denoise, decode."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import UInt8

from mimir_jax.config import DataConfig, DiffusionSystemConfig
from mimir_jax.diffusion import guidance, samplers, schedules
from mimir_jax.encoders import text as features_lib
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import video as video_lib


class Pipeline:
    """Samples videos with the networks of a text-to-video task.

    Args:
        task: Sizes, sampler and null rule.
        model: The Mimir network.
        text: Frozen text encoders.
        vae, vae_params: Frozen VAE.
        mesh: Spreads the videos of a batch over its `data` and `fsdp` axes, each over `context` and
            `tensor`, and the rows of each over all its devices when it is decoded; None stands for
            one device, or for the mesh of the training run around it. A batch that does not split
            is filled up with copies of its last.
    """

    def __init__(
        self,
        task: DiffusionSystemConfig,
        model: functional.Model,
        text: features_lib.TextEncoder,
        vae: functional.Model,
        vae_params: functional.Params,
        *,
        mesh: Mesh | None = None,
    ):
        self._task, self._model, self._text = task, model, text
        self._decode = latents_lib.Decoder(vae, vae_params, mesh)
        self._mesh = mesh

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
        """Returns one video a caption, each from the noise of its own seed.

        Where the parameters lie on many processes, all must call it, and all get all videos.

        Args:
            params: Parameters of the model.
            captions: What to show.
            data: Frames, height and width.
            seeds: One a caption.
            batch_size: Fewer captions are filled up to as many by copies that are not decoded, so
                that a video does not depend on how many there are.
            tiled: Whether to decode overlapping tiles and blend them, which saves memory.
        """
        count = len(captions)
        captions, seeds = (
            latents_lib.fill(rows, self.ways, batch_size) for rows in (captions, seeds)
        )
        text = self._text.encode(captions)
        null = self._text.encode([""] * len(captions)) if self._task.text.null == "empty" else None
        vae = self._task.vae
        scale = vae.spatial_compression
        frames = vae.latent_frames(data.frames)
        shape = (len(captions), frames, data.height // scale, data.width // scale)
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
        if self._mesh is not None:
            everywhere = NamedSharding(self._mesh, P())
            text, null, keys = jax.device_put((text, null, keys), everywhere)
        with context.use_mesh(self._mesh):
            latents = self._denoise(params, text, null, (*shape, vae.latent_channels), keys)
        if latents.is_fully_addressable:
            return np.stack([self.decode(row[None], tiled=tiled) for row in latents[:count]])
        rows = distributed.to_host(latents)[distributed.split_rows(count)]
        return distributed.join_rows(
            np.stack([self.decode(row[None], tiled=tiled) for row in rows]), count
        )

    @property
    def ways(self) -> int:
        """Fewest videos that give every device work."""
        with context.use_mesh(self._mesh):
            return latents_lib.ways(guided=guidance.guides(self._task.sampler))

    @context.no_mesh()
    def decode(
        self, latents: jax.Array | np.ndarray, *, tiled: bool = False
    ) -> UInt8[np.ndarray, "f h w 3"]:
        """Decodes the scaled latents of one clip."""
        return video_lib.to_uint8(self._decode(latents, tiled=tiled)[0])

    @functools.cached_property
    def _denoise(self):
        return make_denoise(self._task, self._model)


def make_denoise(task: DiffusionSystemConfig, model: functional.Model) -> Callable[..., jax.Array]:
    """Returns the jitted loop from noise to scaled latents, both guidance branches in one batch.

    It is called as `(params, text, null, shape, keys)`: parameters of the model; features of the
    captions, and of empty ones where the null condition is encoded; shape of the latents
    (b, t, h, w, c), static; one key a row.
    """
    cfg, schedule = task.sampler, schedules.DiscreteSchedule(task.diffusion)
    sampler = samplers.make_sampler(cfg.name, schedule, cfg.steps, cfg.previous)

    @functools.partial(jax.jit, static_argnames=("shape",))
    def denoise(params, text, null, shape, keys):
        rows = shape[0]
        drop = jnp.arange(2 * rows) < rows if null is None else None  # unconditional first
        first = text if null is None else null
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, text)
        condition = model.condition(params, features_lib.to_condition(both), drop)

        def predict(xt, timestep, condition, aux):
            return model.denoise(params, xt, timestep, condition), aux

        return latents_lib.denoise(
            guidance.guided(predict, cfg, schedule),
            sampler,
            model.config.dit,
            shape,
            condition,
            key=keys,
        )

    return denoise
