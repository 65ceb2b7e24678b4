# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast of frames and captions: each must find the other in its batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from mimir_jax.config import TrainConfig
from mimir_jax.data import transforms
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import text
from mimir_jax.models import functional
from mimir_jax.models.contrast import model as model_lib
from mimir_jax.systems import base


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """Frames with captions.

    Attributes:
        images: Frames (b, h, w, 3) in uint8.
        states: States of their captions (b, l, t), pads included.
        mask: True at the tokens of the captions (b, l).
    """

    images: Any
    states: Any
    mask: Any


class ContrastSystem(base.Defaults):
    """Vision transformer beside a frozen T5.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config, self._run = config.system, config
        self.model = functional.build(model_lib.Contrast, self.config.model)
        data = config.data
        self.buckets = (base.Bucket(1, data.height, data.width, config.batch_size),)

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """T5."""
        split = self._run.mesh.shard_frozen
        return text.frozen_networks(self.config.text, use_llm=False, split=split)

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of a batch."""
        rows, length = bucket.batch, self.config.text.length
        shape = (rows, length, self.config.model.text_width)
        return Batch(
            images=jax.ShapeDtypeStruct((rows, bucket.height, bucket.width, 3), jnp.uint8),
            states=jax.ShapeDtypeStruct(shape, jnp.float32),
            mask=jax.ShapeDtypeStruct((rows, length), jnp.bool_),
        )

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the mean cross-entropy of both directions, and how often each finds the other."""
        del key
        images = transforms.to_float(batch.images)
        scores = self.model.apply(params, images, batch.states, batch.mask)
        own = jnp.arange(len(scores))
        losses = [
            optax.softmax_cross_entropy_with_integer_labels(x, own) for x in (scores, scores.T)
        ]
        names = ("image_accuracy", "caption_accuracy")
        found = [(x.argmax(axis=1) == own).mean() for x in (scores, scores.T)]
        return (losses[0].mean() + losses[1].mean()) / 2, dict(zip(names, found, strict=True))


def make_system(config: TrainConfig) -> ContrastSystem:
    """Returns the pure half of a run of contrast."""
    return ContrastSystem(config)
