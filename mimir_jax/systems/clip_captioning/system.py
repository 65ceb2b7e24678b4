# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A clip tokenizer trained with the captioning loss of an LLM (D-U15).

    five frames -> tokenizer -> tokens -> LLM -> cross-entropy of the caption

The other tokenizer of the ablation in Divot (arXiv 2412.04432, Table 6).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.config import TrainConfig
from mimir_jax.data import transforms
from mimir_jax.encoders import clip_tokens
from mimir_jax.models import functional
from mimir_jax.models.divot import captioner, vocabulary
from mimir_jax.systems import base, clip_text, token_loss


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Clips and their captions.

    Attributes:
        frames: Frames that the tokenizer reads (b, n, h, w, 3), uint8.
        ids: Tokens of a row (b, t); see `sequences.Row` for these and the next.
        roles: Padding or token (b, t).
        labels: What the LLM learns to write (b, t).
        positions: Places of the tokens of the clip (b, q).
    """

    frames: Any
    ids: Any
    roles: Any
    labels: Any
    positions: Any


class ClipCaptioningSystem(base.Defaults):
    """A tokenizer of clips and the LLM that it learns from.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self.model = functional.build(captioner.ClipCaptioner, self.config.model)
        self.rows, data = self.config.sequence, config.data
        self.buckets = (base.Bucket(data.frames, data.height, data.width, config.batch_size),)

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
        size = model.llm.vocab_size
        return clip_text.find_vocabulary(self.tokenizer, model.tokenizer.num_tokens, size)

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of the clips of `bucket` and of their rows."""
        wanted = self.config.model.tokenizer.frames
        picked = len(clip_tokens.frame_positions(bucket.frames, wanted))
        shape = (bucket.batch, picked, bucket.height, bucket.width, 3)
        ids = jax.ShapeDtypeStruct((bucket.batch, self.rows.max_length), jnp.int32)
        places = jax.ShapeDtypeStruct((bucket.batch, self.rows.num_queries), jnp.int32)
        return Batch(jax.ShapeDtypeStruct(shape, jnp.uint8), ids, ids, ids, places)

    def counts(self, batch: Batch) -> Array:
        """Returns the number of labelled tokens."""
        return token_loss.count_labels(batch.labels[:, 1:])

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the mean cross-entropy of captions, and how many of their tokens are right."""
        del key
        frames = transforms.to_float(batch.frames)
        logits = self.model.apply(params, frames, batch.ids, batch.roles, batch.positions)
        loss, means = token_loss.cross_entropy(logits[:, :-1], batch.labels[:, 1:])
        return factor * loss, {"accuracy": factor * means["accuracy"]}


def make_system(config: TrainConfig) -> ClipCaptioningSystem:
    """Returns the pure half of a run."""
    return ClipCaptioningSystem(config)
