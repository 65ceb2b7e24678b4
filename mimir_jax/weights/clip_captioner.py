# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of clips with the LLM that taught them; our own forms alone hold them."""

import dataclasses

from mimir_jax.config import ClipCaptionerConfig
from mimir_jax.models.divot import captioner
from mimir_jax.weights import divot_tokenizer, family


class ClipCaptioner(family.Family):
    """Tokenizer, projector and LLM."""

    kind = "clip_captioner"
    module = captioner.ClipCaptioner

    def with_dtype(self, config: ClipCaptionerConfig, dtype: str) -> ClipCaptionerConfig:
        """Returns the config with both parts in another compute dtype."""
        tokenizer = divot_tokenizer.Tokenizer().with_dtype(config.tokenizer, dtype)
        llm = dataclasses.replace(config.llm, dtype=dtype)
        return dataclasses.replace(config, tokenizer=tokenizer, llm=llm)
