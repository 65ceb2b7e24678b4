# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir (arXiv 2412.03085): T5 and an LLM, fused and stabilised, condition a video transformer.

    features -> TokenFuser          e   (b, n, d) --+
    features -> SemanticStabilizer  e_s (b, 4, d) --+-> [e; e_s] -> DiT -> velocity

Parameters have one top-level name per part: `fuser`, `stabilizer` and `dit`. A part without
parameters has no name, so those of the baseline are exactly `{"dit": ...}`.
"""

from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import MimirConfig
from mimir_jax.models import block_cache, dit
from mimir_jax.models import condition as conditioning
from mimir_jax.models.mimir import fuser, stabilizer
from mimir_jax.models.rngs import Rngs


class Mimir(nnx.Module):
    """Text features in, velocity out; the conditioner of the paper in front of CogVideoX."""

    def __init__(self, cfg: MimirConfig, *, rngs: Rngs):
        # One stream per part, so that rows of Table 3 start from equal values where they share one.
        streams = [Rngs(params=rngs.params()) for _ in range(3)]
        self.dit = dit.DiT(cfg.dit, rngs=streams[0])
        self.fuser = fuser.TokenFuser(cfg.fuser, rngs=streams[1])
        self.stabilizer = (
            stabilizer.SemanticStabilizer(cfg.stabilizer, rngs=streams[2])
            if cfg.stabilizer.enabled
            else None
        )
        self.cfg = cfg

    def condition(
        self, features: conditioning.TextFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Returns the fused caption tokens and, after or before them, the stabilizer's (M-U16).

        Rows with `drop` True get the null condition of both parts, for caption dropout in training
        and for the unconditional branch of guidance. A sampler calls this once for all steps.
        """
        fused = self.fuser(features, drop)
        if self.stabilizer is None:
            return fused
        stable = self.stabilizer(features, drop)
        parts = (fused, stable) if self.cfg.stabilizer.place == "after" else (stable, fused)
        return conditioning.concatenate(*parts)

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of noisy latents `xt`."""
        return self.dit.denoise(xt, timestep, condition)

    def denoise_cached(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
        cache: block_cache.BlockCache,
    ) -> tuple[Float[Array, "b t h w c_out"], block_cache.BlockCache]:
        """Predicts as `denoise` does, but for blocks that the cache replaces."""
        return self.dit.denoise_cached(xt, timestep, condition, cache)

    def __call__(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        features: conditioning.TextFeatures,
        drop: Bool[Array, " b"] | None = None,
        *,
        image_latents: Float[Array, "b t h w c_image"] | None = None,
        ofs: Float[Array, " b"] | None = None,
    ) -> Float[Array, "b t h w c_out"]:
        """Conditions and predicts in one call.

        `image_latents` and `ofs` are inputs of image-to-video bases; see `Condition`.
        """
        text = self.condition(features, drop)
        condition = conditioning.Condition(
            tokens=text.tokens, mask=text.mask, image_latents=image_latents, ofs=ofs
        )
        return self.denoise(xt, timestep, condition)
