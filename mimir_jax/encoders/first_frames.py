# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""First frames to latent moments, one image at a time, cached by content.

Noise is added to pixels, so noisy copies pass through the VAE too (I-U2). It is drawn from the
content of the frame, the seed of the run and the number of the copy: moments are a function of the
record alone, and what was stored is what would be encoded again.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from mimir_jax import hashing
from mimir_jax.config import FirstFrameConfig
from mimir_jax.data import transforms
from mimir_jax.encoders import cache, latents
from mimir_jax.models import functional
from mimir_jax.parallel import context

Frame = UInt8[np.ndarray, "h w 3"]
Moments = tuple[Float[np.ndarray, "b copies 1 h2 w2 c"], Float[np.ndarray, "b copies 1 h2 w2 c"]]


class FirstFrameEncoder:
    """A codec on single frames, clean and with noise.

    Args:
        config: Noise of the copies.
        codec: The codec.
        params: Its parameters.
        seed: Seeds the noise.
    """

    def __init__(
        self,
        config: FirstFrameConfig,
        codec: latents.LatentCodec,
        params: functional.Params,
        seed: int,
    ):
        self._config, self._params, self._seed = config, params, seed
        self._cache = cache.ContentCache()
        self._apply = jax.jit(codec.encode)

    def identity(self) -> dict[str, Any]:
        """Returns JSON values that the moments of a frame depend on, besides codec and seed."""
        names = ("noise_draws", "noise_log_mean", "noise_log_std")
        return {name: value for name, value in dataclasses.asdict(self._config).items()
                if name in names}  # fmt: skip

    def encode(self, frames: Sequence[Frame] | UInt8[np.ndarray, "b h w 3"]) -> Moments:
        """Returns mean and log variance of each frame and then of its noisy copies."""
        copies = range(1 + self._config.noise_draws)
        rows = [[self._one(frame, copy) for copy in copies] for frame in frames]

        def join(part: int) -> np.ndarray:
            return np.stack([np.concatenate([one[part] for one in row]) for row in rows])

        return join(0), join(1)

    def encode_clean(self, frames: Sequence[Frame]) -> Float[np.ndarray, "b 1 h2 w2 c"]:
        """Returns the mean latents of frames without noise."""
        return np.concatenate([self._one(frame, 0)[0] for frame in frames])

    def noisy(self, frame: Frame, copy: int) -> Float32[np.ndarray, "h w 3"]:
        """Returns pixels about [-1, 1], with noise in all copies but number 0."""
        pixels = transforms.to_float(frame)
        if copy == 0:
            return pixels
        content = int.from_bytes(hashing.content_key(frame), "little")
        rng = np.random.default_rng([self._seed, copy, content])
        sigma = np.exp(rng.normal(self._config.noise_log_mean, self._config.noise_log_std))
        return pixels + np.float32(sigma) * rng.standard_normal(frame.shape, np.float32)

    def _one(self, frame: Frame, copy: int) -> tuple[np.ndarray, np.ndarray]:
        key = hashing.content_key(np.asarray(frame), str(copy))
        return self._cache.get(key, functools.partial(self._encode, frame, copy))

    @context.no_mesh()
    def _encode(self, frame: Frame, copy: int) -> tuple[Array, Array]:
        moments = self._apply(self._params, self.noisy(frame, copy)[None, None])
        return moments.mean, moments.logvar
