# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""De-tokenizers of Divot (arXiv 2412.04432): clip tokens -> context rows -> video.

A resampler turns the tokens of a clip into context rows; a network that denoises latents reads the
rows where it read a text before. The published one has the U-Net of DynamiCrafter and brings its
VAE. Ours has a video transformer of the CogVideoX kind, whose text rows they replace.
"""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import (
    DiTDetokenizerConfig,
    DivotConfig,
    PublishedDetokenizerConfig,
    UNetDetokenizerConfig,
)
from mimir_jax.models import condition as conditioning
from mimir_jax.models import dit, resampler
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.unet import unet
from mimir_jax.models.vae import autoencoder, image
from mimir_jax.parallel.context import constrain


@runtime_checkable
class Detokenizer(Protocol):
    """A network that denoises the latents of a clip, conditioned on the tokens of the clip.

    A sampler calls `condition` once and `denoise` at every step.
    """

    def condition(self, tokens: Float[Array, "b n d"]) -> conditioning.Condition:
        """Returns the context rows of clip tokens, as the condition of every step."""
        ...

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Returns the prediction at noisy latents."""
        ...


class DiTDetokenizer(nnx.Module):
    """`Detokenizer` whose network is a video transformer; one context row takes one text row.

    Parameters have one top-level name per part: `resampler` and `dit`.
    """

    def __init__(self, cfg: DiTDetokenizerConfig, *, rngs: Rngs):
        self.resampler = resampler.Resampler(cfg.resampler, rngs=rngs)
        self.dit = dit.DiT(cfg.dit, rngs=rngs)
        self.cfg = cfg

    def condition(self, tokens: Float[Array, "b n d"]) -> conditioning.Condition:
        """Returns the context rows (b, rows, text_width) of clip tokens."""
        rows = self.resampler(tokens).astype(self.cfg.dit.dtype)
        return conditioning.Condition(tokens=constrain(rows, "act_batch", None, "act_embed"))

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of noisy latents `xt`."""
        return self.dit.denoise(xt, timestep, condition)

    def __call__(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        tokens: Float[Array, "b n d"],
    ) -> Float[Array, "b t h w c_out"]:
        """Conditions and predicts in one call."""
        return self.denoise(xt, timestep, self.condition(tokens))


class UNetDetokenizer(nnx.Module):
    """`Detokenizer` whose network is the video U-Net of DynamiCrafter.

    Parameters have one top-level name per part: `resampler` and `unet`.
    """

    def __init__(self, cfg: UNetDetokenizerConfig, *, rngs: Rngs):
        self.resampler = resampler.Resampler(cfg.resampler, rngs=rngs)
        self.unet = unet.UNet(cfg.unet, rngs=rngs)
        self.cfg = cfg

    def condition(self, tokens: Float[Array, "b n d"]) -> conditioning.Condition:
        """Returns the context rows (b, rows, context_width) of clip tokens."""
        rows = self.resampler(tokens).astype(self.cfg.unet.dtype)
        return conditioning.Condition(tokens=constrain(rows, "act_batch", None, "act_embed"))

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of noisy latents `xt`."""
        stride = jnp.full(timestep.shape, self.cfg.fs, jnp.int32)
        return self.unet(xt, condition.tokens, timestep, stride)

    def __call__(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        tokens: Float[Array, "b n d"],
    ) -> Float[Array, "b t h w c_out"]:
        """Conditions and predicts in one call."""
        return self.denoise(xt, timestep, self.condition(tokens))


class PublishedDetokenizer(UNetDetokenizer):
    """`UNetDetokenizer` of the published weights, with the VAE of its latents as `vae`."""

    def __init__(self, cfg: PublishedDetokenizerConfig, *, rngs: Rngs):
        super().__init__(cfg, rngs=rngs)
        self.vae = image.ImageVAE(cfg.vae, rngs=rngs)

    def encode(self, video: Float[Array, "b f h w c"]) -> autoencoder.Moments:
        """Returns the moments of the unscaled latents of frames in [-1, 1]."""
        return self.vae.encode(video)

    def decode(self, latents: Float[Array, "b t h w z"]) -> Float[Array, "b t h2 w2 c"]:
        """Returns the frames of scaled latents, those that `denoise` reads."""
        return self.vae.decode(autoencoder.unscale_latents(self.cfg.vae, latents))


def make_detokenizer(cfg: DivotConfig, *, rngs: Rngs) -> DiTDetokenizer | UNetDetokenizer:
    """Returns the de-tokenizer that a config describes."""
    if isinstance(cfg.detokenizer, UNetDetokenizerConfig):
        return UNetDetokenizer(cfg.detokenizer, rngs=rngs)
    return DiTDetokenizer(cfg.detokenizer, rngs=rngs)
