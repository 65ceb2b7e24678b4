# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Direct route: the state of every position of a prompt is a token of the base (VIMI, V-U11).

    states (b, l, d) -> norm -> learned scale -> linear -> tokens (b, l, text_width)

A base that knows T5 does not read these tokens at once; it must train for long.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from mimir_jax.config import AlignerConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models import layers
from mimir_jax.models.rngs import Rngs


class Direct(nnx.Module):
    """Conditioner of a video transformer on all positions of a prompt with images."""

    def __init__(self, cfg: AlignerConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.norm = layers.LayerNorm(cfg.llm_width, affine=False, eps=cfg.norm_eps, **options)
        self.scale = layers.param((), (), nnx.initializers.ones, rngs=rngs)
        self.out = layers.Linear(cfg.llm_width, cfg.text_width, axes=("embed", "mlp"), **options)
        zeros = nnx.initializers.zeros
        self.null = layers.param((cfg.text_width,), ("norm",), zeros, rngs=rngs)

    def __call__(
        self, features: conditioning.PromptFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Returns a token for each position; the base does not attend to pads.

        Rows with `drop` have the learned null token at their first position, which alone is
        attended to (V-U16).
        """
        tokens = self.out(self.norm(features.states) * self.scale[...].astype(self.out.dtype))
        mask = features.mask.astype(bool)
        if drop is not None:
            first = (jnp.arange(mask.shape[1]) == 0)[None]
            tokens = conditioning.zero_rows(tokens, drop)
            null = (drop[:, None] & first)[..., None]
            learned = layers.along_last(self.null[...], tokens)
            tokens = jnp.where(null, learned, tokens)
            mask = jnp.where(drop[:, None], first, mask)
        return conditioning.Condition(tokens=tokens, mask=mask)
