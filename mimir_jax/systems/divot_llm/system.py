# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of Divot's LLM: rows of text and clips to one loss (arXiv 2412.04432).

row -> Agent.read -> states -> logits -> cross-entropy of labelled tokens --+-> weighted sum
                  -> queries -> head -> loss of clip tokens ----------------+
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import clip_tokens
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.models import functional, lora
from mimir_jax.models.divot import agent, sequences, vocabulary
from mimir_jax.systems import base, clip_text, token_loss
from mimir_jax.systems.divot_llm import objective


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of text and clips; the fields are those of `sequences.Row`."""

    ids: Any
    roles: Any
    labels: Any
    inputs: Any
    input_positions: Any
    targets: Any
    query_positions: Any


class DivotLLMSystem(base.Defaults):
    """The pure half of a run of Divot's LLM.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self.model = lora.adapt(
            functional.build(agent.Agent, self.config.model), self.config.lora, base="llm"
        )
        data = config.data
        self._pages = data.toyworld.pages if data.source == "toyworld" else 1
        self.rows = self.config.sequence(config.data.frames)
        # Batches are of rows; the size of clips is that of the data.
        self.buckets = (base.Bucket(1, 1, 1, config.batch_size),)

    @property
    def tells_stories(self) -> bool:
        """Whether each video is a story."""
        return self._pages > 1

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """The tokenizer of clips."""
        path = self.config.clip_tokenizer_path
        return {"clip_tokenizer": clip_tokens.ClipTokenizer(path)}

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of text.

        Raises:
            InputError: if the run names none, or it is missing.
        """
        return clip_text.load_tokenizer(self.config.tokenizer_path)

    @functools.cached_property
    def vocab(self) -> vocabulary.Vocabulary:
        """Ids of the tokens around text.

        Raises:
            InputError: if tokenizer and LLM have none for delimiters and index tokens.
        """
        model = self.config.model
        return clip_text.find_vocabulary(self.tokenizer, model.num_queries, model.llm.vocab_size)

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of `bucket.batch` rows."""
        cfg, rows = self.rows, bucket.batch
        ids = jax.ShapeDtypeStruct((rows, cfg.max_length), jnp.int32)

        def clips(count: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
            shape = (rows, count, cfg.num_queries)
            tokens = jax.ShapeDtypeStruct((*shape, cfg.token_width), jnp.float32)
            return tokens, jax.ShapeDtypeStruct(shape, jnp.int32)

        return Batch(ids, ids, ids, *clips(cfg.max_inputs), *clips(cfg.max_outputs))

    def counts(self, batch: Batch) -> tuple[Array, Array]:
        """Returns the numbers of labelled tokens and of clip tokens to predict."""
        clips = jnp.maximum((batch.query_positions != sequences.NOWHERE).sum(), 1)
        return token_loss.count_labels(batch.labels[:, 1:]), clips

    def loss(
        self,
        params: functional.Params,
        batch: Batch,
        key: jax.Array,
        factors: tuple[Any, Any] = (1.0, 1.0),
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the weighted sum of both losses, each a mean over its tokens in the batch."""
        reading = self.model.read(
            params, batch.ids, batch.roles, batch.inputs, batch.input_positions, batch.targets,
            batch.query_positions,
        )  # fmt: skip
        logits = self.model.logits(params, reading.states[:, :-1])
        told, means = token_loss.cross_entropy(logits, batch.labels[:, 1:])
        where = batch.query_positions != sequences.NOWHERE
        clip = objective.loss(self.model, params, reading.queries, batch.targets, where, key)
        told, clip = factors[0] * told, factors[1] * clip
        accuracy = factors[0] * means["accuracy"]
        total = self.config.text_weight * told + self.config.clip_weight * clip
        return total, {"text_loss": told, "clip_loss": clip, "accuracy": accuracy}


def make_system(config: TrainConfig) -> DivotLLMSystem:
    """Returns the pure half of a run of Divot's LLM."""
    return DivotLLMSystem(config)
