# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Mimir (arXiv 2412.03085): a DiT conditioned on T5 and an LLM, fused and stabilised."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from mimir_jax.config import TrainConfig
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders import text
from mimir_jax.models import condition as condition_lib
from mimir_jax.models import functional, lora
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.systems import base, text_to_video


class MimirSystem(text_to_video.TextToVideo):
    """The rows of Mimir's Table 3, from the T5 baseline to the whole method."""

    @functools.cached_property
    def model(self) -> functional.Model:
        """The network, with the adapters of `lora` on its DiT."""
        network = functional.build(model_lib.Mimir, self.config.network)
        return lora.adapt(network, self.config.lora, base="dit")

    @property
    def uses_llm(self) -> bool:
        """Whether the network reads anything from the LLM."""
        network = self.config.network
        return network.fuser.use_llm or network.stabilizer.enabled

    @property
    def frozen(self) -> Mapping[str, frozen_lib.FrozenNetwork]:
        """VAE, T5 and, where the network reads it, the LLM."""
        encoders = text.frozen_networks(
            self.config.text, use_llm=self.uses_llm, split=self._run.mesh.shard_frozen
        )
        return {**super().frozen, **encoders}

    def sampling_options(self) -> Mapping[str, Any]:
        """Returns the row of the ablation, and the LLM's instructions and decoding where read."""
        network, text = self.config.network, self.config.text
        options = {**super().sampling_options(), "ablation": self.config.ablation}
        if network.stabilizer.enabled and network.stabilizer.use_instructions:
            options["instructions"] = list(text.instructions)
        if network.fuser.use_llm and text.llm_tokens != "query":
            options["answer_temperature"] = text.answer_temperature
            options["answer_seed"] = self._run.seed
        return options

    def num_tokens(self, bucket: base.Bucket) -> int:
        """Returns the number of caption, stabilizer and video tokens."""
        extra = self.config.network.stabilizer.enabled * len(self.config.text.instructions)
        return super().num_tokens(bucket) + extra

    def text_batch_spec(self, rows: int) -> text.CaptionFeatures:
        """Returns shape and dtype of the features of `rows` captions, all answers included."""
        config, fuser = self.config.text, self.config.network.fuser
        spec = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
        mask = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.bool_)
        t5 = (rows, config.length)
        if not self.uses_llm:
            return text.CaptionFeatures(t5=spec((*t5, fuser.t5_width)), t5_mask=mask(t5))
        llm = (rows, 1 if config.llm_tokens == "query" else config.num_answers, config.length)
        return text.CaptionFeatures(
            t5=spec((*t5, fuser.t5_width)),
            t5_mask=mask(t5),
            llm=spec((*llm, fuser.llm_width)),
            llm_mask=mask(llm),
            instructions=spec((rows, len(config.instructions), fuser.llm_width)),
        )

    def draw_text(
        self, features: text.CaptionFeatures, key: jax.Array | None = None
    ) -> condition_lib.TextFeatures:
        """Picks an answer of the LLM per row: a random one with `key`, else the first (M-U3)."""
        if key is None or not self.uses_llm:
            return features.pick()
        rows, answers = features.llm.shape[:2]
        return features.pick(jax.random.randint(key, (rows,), 0, answers))

    def condition_on_text(
        self,
        params: functional.Params,
        features: condition_lib.TextFeatures,
        drop: Bool[Array, " b"] | None = None,
    ) -> condition_lib.Condition:
        """Returns fused caption tokens and the stabilizer's tokens."""
        return self.model.condition(params, features, drop)


def make_system(config: TrainConfig) -> MimirSystem:
    """Returns the pure half of a run of Mimir."""
    return MimirSystem(config)
