# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of VAE training: clips as they are, and reconstruction of held-out ones."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from mimir_jax.config import TrainConfig
from mimir_jax.data import sources, transforms
from mimir_jax.models import functional
from mimir_jax.parallel import distributed
from mimir_jax.systems import base
from mimir_jax.systems.vae import system as system_lib


class ClipReader:
    """`base.Encoder` that keeps pixels.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self._config = config

    def source(self, split: sources.Split) -> sources.Source:
        """Returns the clips of a split."""
        return sources.make_source(self._config.data, split, seed=self._config.seed)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the pixels of a batch of records."""
        return system_lib.Batch(video=records["video"])


class Reconstruction:
    """Reconstructs held-out clips from the posterior mean.

    Args:
        config: The run.
        model: The VAE.
    """

    def __init__(self, config: TrainConfig, model: functional.Model):
        self._config = config

        def reconstruct(params, clip):
            moments = model.encode(params, transforms.to_float(clip))
            return model.decode(params, moments.mean)

        self._reconstruct = jax.jit(reconstruct)
        self._encode = jax.jit(lambda p, clip: model.encode(p, transforms.to_float(clip)).mean)

    def read(self) -> None:
        """Reads the held-out clips."""
        _ = self._heldout

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss`, the L1 in [-1, 1], the PSNR and the standard deviation of latents."""
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

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out clips, each followed by its reconstruction."""
        videos: list[np.ndarray] = []
        captions: list[str] = []
        clips, texts = self._heldout
        for clip, caption in zip(clips[:4], texts[:4], strict=True):
            output = distributed.to_host(self._reconstruct(params, clip[None]))[0]
            videos += [clip, transforms.to_uint8(output)]
            captions += [f"clip: {caption}", "reconstruction"]
        return base.Examples(videos=videos, captions=captions)

    @functools.cached_property
    def _heldout(self) -> tuple[UInt8[np.ndarray, "b f h w 3"], list[str]]:
        config = self._config
        return sources.read_heldout(config.data, config.system.heldout_clips, seed=config.seed)


def make_encoder(
    config: TrainConfig, system: system_lib.VAESystem, mesh: Mesh | None = None
) -> ClipReader:
    """Returns the reader of clips; there are no frozen networks."""
    del system, mesh
    return ClipReader(config)


def make_evaluators(
    config: TrainConfig, system: system_lib.VAESystem, encoder: ClipReader
) -> list[base.Evaluator]:
    """Returns the evaluator of reconstructions."""
    del encoder
    return [Reconstruction(config, system.model)]


@jax.jit
def _errors(
    output: Float[Array, "b f h w 3"], video: Float[Array, "b f h w 3"]
) -> Float[Array, " 2"]:
    difference = output - video
    return jnp.stack([jnp.abs(difference).mean(), (difference**2).mean()])
