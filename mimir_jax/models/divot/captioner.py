# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer of clips with an LLM that tells them, the paper's other way to train a tokenizer.

    frames -> DivotTokenizer -> tokens -> projector --+
    token ids ----------------------> embeddings -----+-> LLM -> logits of the next token

In an ablation of Divot (arXiv 2412.04432, Table 6) the tokenizer learns from captions in place of
denoising. Parameters have one top-level name per part: `tokenizer`, `projector` and `llm`.
"""

from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import ClipCaptionerConfig
from mimir_jax.models import llm
from mimir_jax.models.divot import mask, projector, tokenizer
from mimir_jax.models.rngs import Rngs


class ClipCaptioner(nnx.Module):
    """Frames of one clip and a row of text in, logits out."""

    def __init__(self, cfg: ClipCaptionerConfig, *, rngs: Rngs):
        self.tokenizer = tokenizer.DivotTokenizer(cfg.tokenizer, rngs=rngs)
        self.projector = projector.Projector(cfg.projector, rngs=rngs)
        self.llm = llm.LLM(cfg.llm, rngs=rngs)

    def embed(
        self,
        frames: Float[Array, "b f h w 3"],
        input_ids: Int[Array, "b t"],
        positions: Int[Array, "b q"],
    ) -> Float[Array, "b t e"]:
        """Returns the embeddings of rows with the tokens of their clips in place.

        Args:
            frames: Frames of the clip of each row in [-1, 1].
            input_ids: Token ids.
            positions: Where the tokens of the clip go.
        """
        clips = self.projector(self.tokenizer(frames))[:, None]
        return projector.place(self.llm.embed_tokens(input_ids), clips, positions[:, None])

    def __call__(
        self,
        frames: Float[Array, "b f h w 3"],
        input_ids: Int[Array, "b t"],
        roles: Int[Array, "b t"],
        positions: Int[Array, "b q"],
    ) -> Float[Array, "b t vocab"]:
        """Scores the next token at every place; `roles` are those of `mask`, without queries."""
        embeddings = self.embed(frames, input_ids, positions)
        states = self.llm.encode(None, roles != mask.PAD, embeddings=embeddings)
        return self.llm.logits(states)
