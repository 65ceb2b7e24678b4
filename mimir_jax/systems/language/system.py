# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the small text models that stand in for T5 and Phi-3.5 in the embedded default."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax import weights
from mimir_jax.config import TrainConfig
from mimir_jax.encoders import tokenizers
from mimir_jax.errors import InputError
from mimir_jax.models import functional, llm, t5
from mimir_jax.systems import base
from mimir_jax.systems.token_loss import cross_entropy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Padded token rows.

    Attributes:
        ids: Tokens (b, l) in int32.
        mask: True at real tokens (b, l).
    """

    ids: Any
    mask: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ChatBatch:
    """Rows that hold several chats about one caption, as `BranchedLLM` reads them; all int32.

    Attributes:
        ids: Tokens (b, l): the common beginning of the chats, then the rest of each.
        branch: 0 at the beginning, then 1, 2, ...; -1 at pads (b, l).
        positions: Position of each token in its own chat (b, l).
        labels: The next token where it belongs to a reply, -1 elsewhere (b, l).
    """

    ids: Any
    branch: Any
    positions: Any
    labels: Any


class LanguageSystem(base.Defaults, abc.ABC):
    """A text model on padded token rows; reads its tokenizer, no weights.

    Args:
        config: The run.

    Attributes:
        tokenizer: Of the text model.
    """

    module: ClassVar[type[nnx.Module]]
    special_tokens: ClassVar[tuple[str, ...]] = ("pad", "eos")

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self.model = functional.build(self.module, self.config.model)
        self.tokenizer = tokenizers.load(weights.resolve(self.config.tokenizer_path))
        if len(self.tokenizer) > self.config.model.vocab_size:
            raise InputError(
                f"system.model.vocab_size must hold the {len(self.tokenizer)} tokens of "
                f"{self.config.tokenizer_path}, got {self.config.model.vocab_size}"
            )
        tokenizers.require(self.tokenizer, *self.special_tokens)
        self.buckets = (base.Bucket(1, 1, 1, config.batch_size),)

    @abc.abstractmethod
    def batch_spec(self, bucket: base.Bucket) -> Any:
        """Returns shape and dtype of `bucket.batch` rows of `length` tokens."""

    @abc.abstractmethod
    def counts(self, batch: Any) -> Array:
        """Returns the number of tokens of the loss."""

    @abc.abstractmethod
    def loss(
        self, params: functional.Params, batch: Any, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the mean loss and the accuracy."""


class MaskedLM(LanguageSystem):
    """Fills masked caption tokens with a T5 encoder and its own embedding as output layer."""

    module = t5.T5Encoder
    special_tokens = ("pad", "mask")

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of `bucket.batch` rows of `length` tokens."""
        shape = (bucket.batch, self.config.length)
        return Batch(
            ids=jax.ShapeDtypeStruct(shape, jnp.int32), mask=jax.ShapeDtypeStruct(shape, jnp.bool_)
        )

    def counts(self, batch: Batch) -> Array:
        """Returns the number of tokens."""
        return jnp.maximum(batch.mask.sum(), 1)

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the cross-entropy at all tokens, and the accuracy at masked ones.

        A loss at masked tokens alone lets the state of a visible token forget which token it is:
        "red" and "blue" come out almost equal, and a video model learns colours slowly from them.
        """
        hidden = self.draw_masked(batch, key)
        logits = self.logits(params, jnp.where(hidden, self.tokenizer.mask_token_id, batch.ids))
        loss, _ = cross_entropy(logits, batch.ids, batch.mask)
        return factor * loss, cross_entropy(logits, batch.ids, hidden)[1]

    def draw_masked(self, batch: Batch, key: jax.Array) -> Bool[Array, "b l"]:
        """Returns which tokens to mask."""
        return jax.random.bernoulli(key, self.config.mask_rate, batch.ids.shape) & batch.mask

    def logits(self, params: functional.Params, ids: Int[Array, "b l"]) -> Float[Array, "b l v"]:
        """Returns the scores of every token at every position.

        Pads are read like any token, as they are when the encoder conditions a video model.
        """
        states = self.model.apply(params, ids, None)
        return states @ params["embed"]["table"].T * states.shape[-1] ** -0.5


class BranchedLLM(llm.LLM):
    """Reads several chats with a common beginning as one row: the beginning once, then each rest.

    A token sees the beginning and its own branch, at the positions that it has in its chat.
    """

    def read_branches(
        self, ids: Int[Array, "b t"], branch: Int[Array, "b t"], positions: Int[Array, "b t"]
    ) -> Float[Array, "b t vocab"]:
        """Scores the next token of every branch; arguments as in `ChatBatch`."""
        length = ids.shape[1]
        shared, own = branch[:, None, :] == 0, branch[:, None, :] == branch[:, :, None]
        mask = jnp.tril(jnp.ones((length, length), bool))[None] & (shared | own)
        final = self._run(self.embed(ids), positions, length, mask[:, None], -1, None)[0]
        return self.logits(final)


class CausalLM(LanguageSystem):
    """Answers a caption with its elaboration, and a caption and an instruction with their answer.

    The five chats about a caption begin with it, so they are read as branches of one row.
    """

    module = BranchedLLM

    def batch_spec(self, bucket: base.Bucket) -> ChatBatch:
        """Returns shape and dtype of `bucket.batch` rows of `length` tokens."""
        spec = jax.ShapeDtypeStruct((bucket.batch, self.config.length), jnp.int32)
        return ChatBatch(ids=spec, branch=spec, positions=spec, labels=spec)

    def counts(self, batch: ChatBatch) -> Array:
        """Returns the number of tokens of replies."""
        return jnp.maximum((batch.labels >= 0).sum(), 1)

    def loss(
        self, params: functional.Params, batch: ChatBatch, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the next-token cross-entropy over replies; prompts cannot be predicted."""
        del key
        logits = self.model.read_branches(params, batch.ids, batch.branch, batch.positions)
        means = cross_entropy(logits, batch.labels)
        return jax.tree.map(lambda x: factor * x, means)


def make_system(config: TrainConfig) -> LanguageSystem:
    """Returns the pure half of a run of a text model."""
    return {"t5": MaskedLM, "llm": CausalLM}[config.system.kind](config)
