# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Aligner: states of a multimodal LLM to the text states that a base was trained with (V-U11).

    states of all positions (b, l, d) -> norm -> resampler -> tokens (b, n, text_width)

A base that knows T5 does not read other states at once. So the aligner has as many tokens of the
same width as the base has text. It learns to give T5's states of captions in words, which needs no
video, and then may train on with the base. The architecture of the base stays as it is.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import AlignerConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import layers, resampler
from mimir_jax.models.rngs import Rngs


class Match(NamedTuple):
    """How well tokens match the states of T5.

    Attributes:
        loss: `error + 1 - cosine`.
        error: Mean squared error.
        cosine: Mean cosine of tokens and states.
    """

    loss: Float[Array, ""]
    error: Float[Array, ""]
    cosine: Float[Array, ""]


class Aligner(nnx.Module):
    """Conditioner of a T5-conditioned video transformer on a prompt with images."""

    def __init__(self, cfg: AlignerConfig, *, rngs: Rngs):
        options = dict(affine=False, eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.norm = layers.LayerNorm(cfg.llm_width, **options)
        self.resampler = resampler.Resampler(cfg.resampler, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self, features: conditioning.PromptFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Returns as many tokens as the base has text; those of rows with `drop` are zeros (V-U16).

        The base attends to all of them, as it does to T5's pads, so there is no mask.
        """
        tokens = self.resampler(self.norm(features.states), features.mask)
        return conditioning.Condition(tokens=conditioning.zero_rows(tokens, drop))

    def match(
        self,
        features: conditioning.PromptFeatures,
        t5: Float[Array, "b n d_t5"],
        t5_mask: Bool[Array, "b n"],
    ) -> Match:
        """Compares the tokens of prompts with T5's states of captions, for the first phase.

        Args:
            features: States of the prompts: captions, or images and documents that tell the same.
            t5: States of T5, pads included.
            t5_mask: True at tokens of the captions, False at pads.
        """
        mask = jnp.ones_like(t5_mask) if self.cfg.pads == "match" else t5_mask
        return compare(self(features).tokens, t5, mask)


def compare(
    tokens: Float[Array, "b n d"], target: Float[Array, "b n d"], mask: Bool[Array, "b n"]
) -> Match:
    """Returns mean squared error and cosine of tokens, in float32, over positions in `mask`."""
    tokens, target = tokens.astype(jnp.float32), target.astype(jnp.float32)
    error = _mean(jnp.mean((tokens - target) ** 2, -1), mask)
    norms = jnp.linalg.norm(tokens, axis=-1) * jnp.linalg.norm(target, axis=-1)
    cosine = _mean(jnp.sum(tokens * target, -1) / jnp.maximum(norms, 1e-12), mask)
    return Match(error + 1 - cosine, error, cosine)


def _mean(values: Float[Array, "b n"], mask: Any) -> Float[Array, ""]:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
