# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's LLM: one network that reads and writes text and clip tokens (arXiv 2412.04432).

    clip tokens -> projector --+
    token ids  -> embeddings --+-> LLM -> states -> logits of the next token
                                             +----> head: a mixture per query

A clip that the LLM reads replaces the embeddings of its index tokens. Where the LLM writes one, the
index tokens are learned queries, marked by -1 in the attention mask; they attend to each other in
both directions, and the state of each predicts its own token of the clip.

Two ablations of the paper are configurations. `causal` queries do not see the later ones.
`autoregressive` has no queries: the tokens of a clip replace the embeddings at their places, as
those of a clip that is read do, and the state before each predicts it (D-U7).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import AgentConfig
from mimir_jax.models import llm
from mimir_jax.models.divot import heads, mixture, projector
from mimir_jax.models.divot import mask as mask_lib
from mimir_jax.models.divot.sequences import NOWHERE
from mimir_jax.models.rngs import Rngs


class Reading(NamedTuple):
    """What a row of text and clips gives in training.

    Attributes:
        states: States of all tokens after the final norm; `Agent.logits` takes these.
        queries: States that predict the tokens of each clip that the LLM writes; those of a clip
            that fills the row have no meaning.
    """

    states: Float[Array, "b t e"]
    queries: Float[Array, "b g q e"]


class Agent(nnx.Module):
    """LLM, projector of clip tokens and head of clip tokens."""

    def __init__(self, cfg: AgentConfig, *, rngs: Rngs):
        self.llm = llm.LLM(cfg.llm, rngs=rngs)
        self.projector = projector.Projector(cfg.projector, rngs=rngs)
        self.head = _make_head(cfg, rngs)
        self.cfg = cfg

    def __call__(
        self,
        input_ids: llm.Ids = None,
        attention_mask: llm.Mask = None,
        *,
        embeddings: llm.Embeddings = None,
    ) -> llm.Output:
        """Reads a sequence at positions 0, 1, ...

        Args:
            input_ids: Token ids.
            attention_mask: 1 at ordinary tokens, -1 at the queries of a clip, 0 at padding; None
                when all are ordinary tokens.
            embeddings: Inputs of the first block, in place of `input_ids`; from `embed`.

        Returns:
            States after the final norm, and logits of the next token.

        Raises:
            InputError: unless exactly one of `input_ids` and `embeddings` is given.
        """
        states = self.encode(input_ids, attention_mask, embeddings=embeddings)
        return llm.Output(last_hidden_state=states, logits=self.llm.logits(states))

    def encode(
        self,
        input_ids: llm.Ids = None,
        attention_mask: llm.Mask = None,
        *,
        embeddings: llm.Embeddings = None,
    ) -> Float[Array, "b t e"]:
        """Returns the states of `__call__` alone, without the cost of the logits."""
        if attention_mask is not None and self.cfg.queries != "bidirectional":
            attention_mask = attention_mask != mask_lib.PAD
        return self.llm.encode(input_ids, attention_mask, embeddings=embeddings)

    def embed(
        self,
        input_ids: Int[Array, "b t"],
        clips: Float[Array, "b m q d"] | None = None,
        positions: Int[Array, "b m q"] | None = None,
    ) -> Float[Array, "b t e"]:
        """Returns the embeddings of a row with the clips that the LLM reads in their places.

        Args:
            input_ids: Token ids.
            clips: Tokens of the clips; None for a row of text.
            positions: Where they go, `NOWHERE` for clips that fill the row.
        """
        embeddings = self.llm.embed_tokens(input_ids)
        if clips is None or positions is None:
            return embeddings
        return projector.place(embeddings, self.projector(clips), positions)

    def read(
        self,
        input_ids: Int[Array, "b t"],
        roles: Int[Array, "b t"],
        inputs: Float[Array, "b m q d"],
        input_positions: Int[Array, "b m q"],
        targets: Float[Array, "b g q d"],
        query_positions: Int[Array, "b g q"],
    ) -> Reading:
        """Reads a batch of `sequences.Row`; the fields of one are the arguments.

        Targets enter the autoregressive variant alone, which reads each after predicting it.
        """
        embeddings = self.embed(input_ids, inputs, input_positions)
        at = query_positions
        if self.cfg.queries == "autoregressive":
            embeddings = projector.place(embeddings, self.projector(targets), query_positions)
            at = jnp.where(query_positions == NOWHERE, NOWHERE, query_positions - 1)
        states = self.encode(None, roles, embeddings=embeddings)
        return Reading(states, projector.take(states, at))

    def logits(self, states: Float[Array, "*b e"]) -> Float[Array, "*b vocab"]:
        """Scores the next token from states after the final norm."""
        return self.llm.logits(states)

    def project(self, clips: Float[Array, "*b d"]) -> Float[Array, "*b e"]:
        """Returns clip tokens as the LLM reads them."""
        return self.projector(clips)

    def predict(self, states: Float[Array, "*b e"], *noisy: Array) -> Any:
        """Returns what the head makes of the states of queries.

        That is a `mixture.Mixture`, clip tokens for `regression`, and for the heads that denoise,
        whose further arguments are noisy tokens and their timesteps, noise or velocity.
        """
        return self.head(states, *noisy)

    def mixtures(
        self,
        input_ids: llm.Ids,
        attention_mask: Int[Array, "b t"],
        query_positions: Int[Array, "b g q"],
        *,
        embeddings: llm.Embeddings = None,
    ) -> mixture.Mixture:
        """Returns the mixture of each query in one pass; arguments as in `__call__` and `Row`."""
        states = self.encode(input_ids, attention_mask, embeddings=embeddings)
        return self.head(projector.take(states, query_positions))


def _make_head(cfg: AgentConfig, rngs: Rngs) -> nnx.Module:
    if cfg.head == "mixture":
        return mixture.MixtureHead(cfg.mixture, rngs=rngs)
    if cfg.head == "regression":
        return heads.Regression(cfg.projector, rngs=rngs)
    return heads.Denoiser(cfg.denoiser, rngs=rngs)
