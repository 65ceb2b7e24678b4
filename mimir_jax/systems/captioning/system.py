# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captioning: a LLaVA answers questions about an image; the loss is on the answers alone."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax import weights
from mimir_jax.config import ImageConfig, TrainConfig
from mimir_jax.encoders import images, interleaved, tokenizers
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.llava import model as model_lib
from mimir_jax.systems import base
from mimir_jax.systems.token_loss import cross_entropy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Rows of an image, a question and its answer.

    Attributes:
        pixels: Images as the tower reads them (b, h, w, 3).
        ids: Tokens (b, l), padded on the right, with those of the image.
        labels: The next token where it belongs to the answer, -1 elsewhere (b, l).
    """

    pixels: Any
    ids: Any
    labels: Any


class CaptioningSystem(base.Defaults):
    """A LLaVA; reads its tokenizer and the rules of images, no weights.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config = config.system
        self.model = functional.build(model_lib.Llava, self.config.model)
        size = self.config.model.vit.image_size
        # Batches are of rows; images have the size of the tower.
        self.buckets = (base.Bucket(1, size, size, config.batch_size),)

    @functools.cached_property
    def tokenization(self) -> interleaved.Tokenization:
        """How prompts with images become tokens.

        Raises:
            InputError: if the run names no tokenizer, or one without the image token.
        """
        model, path = self.config.model, self._folder
        tokenizer = tokenizers.load(weights.resolve(path))
        tokenizers.require(tokenizer, "pad", "eos")
        tokenizers.check_ids(tokenizer, model.vocab_size)
        return interleaved.Tokenization(tokenizer, model.image_token, model.tokens_per_image)

    @functools.cached_property
    def images(self) -> ImageConfig:
        """The rules of images."""
        return images.read_config(weights.resolve(self._folder), self.config.model.vit.image_size)

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of `bucket.batch` rows."""
        ids = jax.ShapeDtypeStruct((bucket.batch, self.config.length), jnp.int32)
        shape = (bucket.batch, bucket.height, bucket.width, 3)
        return Batch(pixels=jax.ShapeDtypeStruct(shape, jnp.float32), ids=ids, labels=ids)

    def counts(self, batch: Batch) -> Array:
        """Returns the number of answer tokens."""
        return jnp.maximum((batch.labels >= 0).sum(), 1)

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the mean cross-entropy of answer tokens, and how many are predicted."""
        del key
        logits = self.model.apply(params, batch.ids, None, batch.pixels).logits
        means = cross_entropy(logits, batch.labels)
        return jax.tree.map(lambda x: factor * x, means)

    @property
    def _folder(self) -> str:
        if self.config.tokenizer_path is None:
            raise InputError(
                "system.tokenizer_path must name the folder of a tokenizer with the image token, "
                "got None; set it with --config.system.tokenizer_path=FOLDER"
            )
        return self.config.tokenizer_path


def make_system(config: TrainConfig) -> CaptioningSystem:
    """Returns the pure half of a run of captioning."""
    return CaptioningSystem(config)
