# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the first phase of VIMI's aligner."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.encoders.config import MultimodalConfig, TextConfig
from mimir_jax.models.vimi.config import AlignerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignerSystemConfig(SystemConfig):
    """Train an aligner to turn the states of a multimodal LLM into those of T5 (V-U11).

    Attributes:
        model: The aligner.
        multimodal: Captions to states of the frozen LLM, in prompts without images.
        text: The frozen text encoder to match; the fields of T5 count.
        heldout_texts: Captions of the held-out measures.
    """

    kind: Literal["aligner"] = "aligner"
    model: AlignerConfig = AlignerConfig()
    multimodal: MultimodalConfig = MultimodalConfig()
    text: TextConfig = TextConfig()
    heldout_texts: int = 128

    def __post_init__(self):
        checks.within(self, "heldout_texts", 1)
        checks.check(
            self,
            self.model.text_length == self.text.length,
            "{model.text_length} must equal {text.length}",
        )

    @property
    def network(self) -> AlignerConfig:
        """The aligner."""
        return self.model

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` for stored features, which an aligner does not read."""
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for an aligner, which trains on captions",
            remedy="leave it out",
        )
