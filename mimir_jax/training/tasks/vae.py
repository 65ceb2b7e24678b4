# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the causal VAE (section 2.2 of the CogVideoX paper, arXiv 2408.06072)."""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from mimir_jax.config import TrainConfig
from mimir_jax.data import sources, transforms
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import distributed
from mimir_jax.sampling import video as video_lib


class VAETask:
    """Reconstruct clips through the sampled posterior."""

    def __init__(self, config: TrainConfig):
        self._config = config
        self._task = config.system
        self.model = functional.build(autoencoder.VAE, config.system.model)

    def source(self) -> sources.Source:
        """Returns the training clips."""
        return sources.make_source(self._config.data, "train", seed=self._config.seed)

    def prepare(self, records: Mapping[str, Any]) -> dict[str, UInt8[np.ndarray, "b f h w 3"]]:
        """Keeps the pixels; they stay bytes until they are on the device."""
        return {"video": records["video"]}

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        data = self._config.data
        shape = (self._config.batch_size, data.frames, data.height, data.width, 3)
        return {"video": jax.ShapeDtypeStruct(shape, jnp.uint8)}

    def loss(
        self, params: functional.Params, batch: Mapping[str, Array], key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns L1 + squared error + gradient L1 + KL, each a mean over pixels or latents."""
        crop_key, posterior_key = jax.random.split(key)
        video = transforms.to_float(self._crop(batch["video"], crop_key))  # (b, f, h, w, 3)
        moments = self.model.encode(params, video)
        output = self.model.decode(params, moments.sample(posterior_key))
        error = self._weigh_colours(output - video)
        l1, mse = jnp.abs(error).mean(), (error**2).mean()
        gradient = sum(jnp.abs(jnp.diff(error, axis=axis)).mean() for axis in (2, 3))
        kl = moments.kl().mean() / moments.mean[0].size
        weights = self._task
        loss = l1 + weights.mse_weight * mse + weights.gradient_weight * gradient
        loss += weights.kl_weight * kl
        return loss, {"l1": l1, "mse": mse, "gradient": gradient, "kl": kl}

    def read_heldout(self) -> None:
        """Reads the held-out clips."""
        _ = self._heldout

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Reconstructs held-out clips from the posterior mean; `loss` is their L1 in [-1, 1]."""
        clips, _ = self._heldout
        errors = [
            distributed.to_host(_errors(self._reconstruct(params, clip), transforms.to_float(clip)))
            for clip in clips[:, None]
        ]
        l1, mse = np.mean(np.asarray(errors), axis=0)
        latents = np.stack([distributed.to_host(self._encode(params, c)) for c in clips[:, None]])
        return {
            "loss": float(l1),
            "psnr": float(10 * np.log10(4 / mse)),
            "latent_std": float(latents.std()),
        }

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes held-out clips above their reconstructions."""
        clips, captions = self._heldout
        rows, texts = [], []
        for clip, caption in zip(clips[:4], captions[:4], strict=True):
            output = distributed.to_host(self._reconstruct(params, clip[None]))[0]
            rows += [clip, video_lib.to_uint8(output)]
            texts += [f"clip: {caption}", "reconstruction"]
        if not distributed.is_first():
            return []
        return video_lib.write_samples(folder, rows, texts, fps=self._config.data.fps)

    def _weigh_colours(self, error: Float[Array, "b f h w 3"]) -> Float[Array, "b f h w 3"]:
        luma = error.mean(-1, keepdims=True)
        return luma + self._task.chroma_weight * (error - luma)

    def _crop(
        self, video: UInt8[Array, "b f h w 3"], key: jax.Array
    ) -> UInt8[Array, "b f2 h2 w2 3"]:
        """Cuts one random window of the batch, on the grid of latents in space."""
        _, frames, height, width, _ = video.shape
        size, step = self._task.crop_size, self._task.model.spatial_compression
        shape = (self._task.crop_frames or frames, size or height, size or width)
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

    @functools.cached_property
    def _heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        config = self._config
        return sources.read_heldout(config.data, self._task.heldout_clips, seed=config.seed)

    @functools.cached_property
    def _encode(self):
        encode = lambda p, clip: self.model.encode(p, transforms.to_float(clip)).mean  # noqa: E731
        return jax.jit(encode)

    @functools.cached_property
    def _reconstruct(self):
        def reconstruct(params, clip):
            moments = self.model.encode(params, transforms.to_float(clip))
            return self.model.decode(params, moments.mean)

        return jax.jit(reconstruct)


@jax.jit
def _errors(
    output: Float[Array, "b f h w 3"], video: Float[Array, "b f h w 3"]
) -> Float[Array, " 2"]:
    difference = output - video
    return jnp.stack([jnp.abs(difference).mean(), (difference**2).mean()])
