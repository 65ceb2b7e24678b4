# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""VIMI (arXiv 2407.06304): the states of a multimodal LLM condition a video transformer.

    states of a prompt -> Aligner or Direct -> tokens -> DiT -> velocity
    T5 states of a caption, with route `beside` --+

Parameters have one top-level name per part: `aligner`, with `beside` or without, or `direct`; and
`dit`.
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import VimiConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import dit
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.vimi import aligner, beside, direct


class Vimi(nnx.Module):
    """States of prompts with images in, velocity out."""

    def __init__(self, cfg: VimiConfig, *, rngs: Rngs):
        self.dit = dit.DiT(cfg.dit, rngs=rngs)
        if cfg.route == "direct":
            self.direct = direct.Direct(cfg.aligner, rngs=rngs)
        else:
            self.aligner = aligner.Aligner(cfg.aligner, rngs=rngs)
        if cfg.route == "beside":
            self.beside = beside.Beside(cfg.aligner, rngs=rngs)
        self.cfg = cfg

    def condition(
        self, features: conditioning.PromptFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Returns the tokens of prompts; rows with `drop` True get the null condition.

        Latents of reference images, if there are any, stand before the clip in the sequence;
        dropped rows and those with fewer images do not attend to the rest. Those of a first frame
        follow the noisy ones along the channels, and dropped rows keep them (V-U19).
        """
        condition = self._tokens(features, drop)
        condition = dataclasses.replace(condition, image_latents=features.first_frame)
        if features.reference_latents is None:
            return condition
        mask = features.reference_mask
        mask = mask if drop is None else mask & ~drop[:, None]
        latents = jnp.where(mask[..., None, None, None], features.reference_latents, 0.0)
        return dataclasses.replace(condition, reference_latents=latents, reference_mask=mask)

    def _tokens(
        self, features: conditioning.PromptFeatures, drop: Bool[Array, " b"] | None
    ) -> conditioning.Condition:
        if self.cfg.route == "direct":
            return self.direct(features, drop)
        if self.cfg.route == "aligner":
            return self.aligner(features, drop)
        return self.beside(self.aligner(features).tokens, features, drop)

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
        features: conditioning.PromptFeatures,
        drop: Bool[Array, " b"] | None = None,
    ) -> Float[Array, "b t h w c_out"]:
        """Conditions and predicts in one call."""
        return self.denoise(xt, timestep, self.condition(features, drop))
