# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CogVideoX (arXiv 2408.06072): a DiT conditioned on T5 states, pads included."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import text
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import dit, functional, lora
from mimir_jax.parallel.context import constrain
from mimir_jax.systems import base, text_to_video


class CogVideoXSystem(text_to_video.TextToVideo):
    """The video transformer alone; its parameters are those of the DiT."""

    @functools.cached_property
    def model(self) -> functional.Model:
        """The DiT, with the adapters of `lora`."""
        return lora.adapt(functional.build(dit.DiT, self.config.dit), self.config.lora, base="")

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """VAE and T5."""
        encoders = text.frozen_networks(
            self.config.text, use_llm=False, split=self._run.mesh.shard_frozen
        )
        return {**super().frozen, **encoders}

    def text_batch_spec(self, rows: int) -> text.CaptionFeatures:
        """Returns shape and dtype of the features of `rows` captions."""
        shape = (rows, self.config.text.length)
        return text.CaptionFeatures(
            t5=jax.ShapeDtypeStruct((*shape, self.config.dit.text_width), jnp.float32),
            t5_mask=jax.ShapeDtypeStruct(shape, jnp.bool_),
        )

    def draw_text(
        self, features: text.CaptionFeatures, key: jax.Array | None = None
    ) -> base.Features:
        """Returns the T5 states (b, l, d); there is nothing to draw."""
        del key
        return features.t5

    def condition_on_text(
        self,
        params: functional.Params,
        features: Float[Array, "b l d"],
        drop: Bool[Array, " b"] | None = None,
    ) -> condition_lib.Condition:
        """Returns the T5 states; those of dropped rows are zeros."""
        del params
        tokens = condition_lib.zero_rows(features.astype(self.config.dit.dtype), drop)
        return condition_lib.Condition(tokens=constrain(tokens, "act_batch", None, "act_embed"))


def make_system(config: TrainConfig) -> CogVideoXSystem:
    """Returns the pure half of a run of CogVideoX."""
    return CogVideoXSystem(config)
