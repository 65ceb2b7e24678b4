# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot (arXiv 2412.04432): a tokenizer of clips that trains by denoising.

    frames -> DivotTokenizer -> tokens (b, n, d) -> Detokenizer -> velocity

Parameters have one top-level name per part: `tokenizer` and `detokenizer`. The condition of the
unconditional branch is the tokens of a mid-grey clip, as in the published sampling code.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import DivotConfig
from mimir_jax.models import condition as conditioning
from mimir_jax.models.divot import detokenizer
from mimir_jax.models.divot import tokenizer as tokenizer_lib
from mimir_jax.models.rngs import Rngs


class Divot(nnx.Module):
    """Frames and noisy latents in, velocity out."""

    def __init__(self, cfg: DivotConfig, *, rngs: Rngs):
        streams = [Rngs(params=rngs.params()) for _ in range(2)]
        self.tokenizer = tokenizer_lib.DivotTokenizer(cfg.tokenizer, rngs=streams[0])
        self.detokenizer = detokenizer.make_detokenizer(cfg, rngs=streams[1])
        self.cfg = cfg

    def tokenize(
        self, frames: Float[Array, "b f h w 3"], drop: Bool[Array, " b"] | None = None
    ) -> Float[Array, "b n d"]:
        """Returns the tokens of clips.

        Args:
            frames: Frames of each clip in [-1, 1].
            drop: Rows that are read as a mid-grey clip instead; None drops no row.
        """
        if drop is not None:
            frames = jnp.where(drop[:, None, None, None, None], jnp.zeros_like(frames), frames)
        return self.tokenizer(frames)

    def null_tokens(self) -> Float[Array, "1 n d"]:
        """Returns the tokens of a mid-grey clip."""
        cfg = self.cfg.tokenizer
        shape = (1, cfg.frames, cfg.vit.image_size, cfg.vit.image_size, 3)
        return self.tokenizer(jnp.zeros(shape, jnp.float32))

    def condition(self, tokens: Float[Array, "b n d"]) -> conditioning.Condition:
        """Returns the context rows of clip tokens."""
        return self.detokenizer.condition(tokens)

    def denoise(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        condition: conditioning.Condition,
    ) -> Float[Array, "b t h w c_out"]:
        """Predicts the velocity of noisy latents `xt`."""
        return self.detokenizer.denoise(xt, timestep, condition)

    def __call__(
        self,
        xt: Float[Array, "b t h w c"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        frames: Float[Array, "b f h2 w2 3"],
        drop: Bool[Array, " b"] | None = None,
    ) -> Float[Array, "b t h w c_out"]:
        """Tokenizes, conditions and predicts in one call, as the training step does."""
        return self.denoise(xt, timestep, self.condition(self.tokenize(frames, drop)))
