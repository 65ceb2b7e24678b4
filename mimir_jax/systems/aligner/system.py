# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""First phase of VIMI's aligner: mean squared error and one minus the cosine to T5's states."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import multimodal, text
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import functional
from mimir_jax.models.vimi import aligner
from mimir_jax.systems import base


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Batch:
    """States of captions by both networks.

    Attributes:
        states: Of the multimodal LLM (b, l, d), zero at pads.
        mask: True at its tokens (b, l).
        t5: Of T5 (b, n, d_t5), pads included.
        t5_mask: True at its tokens (b, n).
    """

    states: Any
    mask: Any
    t5: Any
    t5_mask: Any


class AlignerSystem(base.Defaults):
    """An aligner between two frozen networks.

    Args:
        config: The run.
    """

    def __init__(self, config: TrainConfig):
        self.config, self._run = config.system, config
        self.model = functional.build(aligner.Aligner, self.config.model)
        # Batches are of captions; clips have no size.
        self.buckets = (base.Bucket(1, 1, 1, config.batch_size),)

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """Multimodal LLM and T5."""
        split = self._run.mesh.shard_frozen
        llava = multimodal.frozen_network(self.config.multimodal, field="multimodal", split=split)
        t5 = text.frozen_networks(self.config.text, use_llm=False, split=split)
        return {"llava": llava, **t5}

    def batch_spec(self, bucket: base.Bucket) -> Batch:
        """Returns shape and dtype of a batch."""
        cfg, rows = self.config, bucket.batch
        ours, theirs = (rows, cfg.multimodal.length), (rows, cfg.text.length)
        return Batch(
            states=jax.ShapeDtypeStruct((*ours, cfg.model.llm_width), jnp.float32),
            mask=jax.ShapeDtypeStruct(ours, jnp.bool_),
            t5=jax.ShapeDtypeStruct((*theirs, cfg.model.text_width), jnp.float32),
            t5_mask=jax.ShapeDtypeStruct(theirs, jnp.bool_),
        )

    def counts(self, batch: Batch) -> Array | None:
        """Returns the number of T5's tokens, None if its pads are matched too."""
        ignores_pads = self.config.model.pads == "ignore"
        return jnp.maximum(batch.t5_mask.sum(), 1) if ignores_pads else None

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array, factor: Any = 1.0
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the mean of both measures over the batch, and each of them."""
        del key
        features = condition_lib.PromptFeatures(states=batch.states, mask=batch.mask)
        match = self.model.match(params, features, batch.t5, batch.t5_mask)
        loss, error, cosine = (factor * x for x in (match.loss, match.error, match.cosine))
        return loss, {"error": error, "cosine": cosine}


def make_system(config: TrainConfig) -> AlignerSystem:
    """Returns the pure half of a run of an aligner."""
    return AlignerSystem(config)
