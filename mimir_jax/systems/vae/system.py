# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the causal VAE (section 2.2 of the CogVideoX paper, arXiv 2408.06072)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from mimir_jax.config import TrainConfig
from mimir_jax.data import transforms
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.systems import base


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips.

    Attributes:
        video: Pixels (b, f, h, w, 3) in uint8, so that only bytes cross to the device.
    """

    video: Any


class VAESystem(base.Defaults):
    """Reconstructs clips through the sampled posterior.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self.model = functional.build(autoencoder.VAE, config.system.model)
        data = config.data
        self.buckets = (base.Bucket(data.frames, data.height, data.width, config.batch_size),)

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of the clips of a bucket."""
        shape = (bucket.batch, bucket.frames, bucket.height, bucket.width, 3)
        return Batch(video=jax.ShapeDtypeStruct(shape, jnp.uint8))

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns L1 + squared error + gradient L1 + KL, each a mean over pixels or latents."""
        crop_key, posterior_key = jax.random.split(key)
        video = transforms.to_float(self._crop(batch.video, crop_key))  # (b, f, h, w, 3)
        moments = self.model.encode(params, video)
        output = self.model.decode(params, moments.sample(posterior_key))
        error = self._weigh_colours(output - video)
        l1, mse = jnp.abs(error).mean(), (error**2).mean()
        gradient = sum(jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (2, 3))
        kl = moments.kl().mean() / moments.mean[0].size
        weights = self.config
        loss = l1 + weights.mse_weight * mse + weights.gradient_weight * gradient
        loss += weights.kl_weight * kl
        return loss, {"l1": l1, "mse": mse, "gradient": gradient, "kl": kl}

    def _weigh_colours(self, error: Float[Array, "b f h w 3"]) -> Float[Array, "b f h w 3"]:
        luma = error.mean(-1, keepdims=True)
        return luma + self.config.chroma_weight * (error - luma)

    def _crop(
        self, video: UInt8[Array, "b f h w 3"], key: jax.Array
    ) -> UInt8[Array, "b f2 h2 w2 3"]:
        """Cuts one random window out of all clips, on the grid of latents in space."""
        _, frames, height, width, _ = video.shape
        size, step = self.config.crop_size, self.config.model.spatial_compression
        shape = (self.config.crop_frames or frames, size or height, size or width)
        room = [
            (whole - part) // unit
            for whole, part, unit in zip(
                (frames, height, width), shape, (1, step, step), strict=True
            )
        ]
        if not any(room):
            return video
        draws = [
            jax.random.randint(k, (), 0, r + 1)
            for k, r in zip(jax.random.split(key, 3), room, strict=True)
        ]
        start = (0, draws[0], draws[1] * step, draws[2] * step, 0)
        return jax.lax.dynamic_slice(video, start, (video.shape[0], *shape, 3))


def make_system(config: TrainConfig) -> VAESystem:
    """Returns the pure half of a run of the VAE."""
    return VAESystem(config)
