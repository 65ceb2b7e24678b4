# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of Divot's tokenizer and de-tokenizer."""

import dataclasses
from typing import Any, ClassVar, Literal

from mimir_jax.models.config import DiTConfig
from mimir_jax.models.divot.config import DivotConfig
from mimir_jax.systems.diffusion_config import DiffusionSystemConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DivotSystemConfig(DiffusionSystemConfig):
    """Train a tokenizer of clips with the de-tokenizer that draws them from their tokens.

    What stays fixed is named by `optimizer.freeze`: a pretrained ViT by `^tokenizer/vit/`, the
    whole tokenizer of the last phase by `^tokenizer/`. `caption_dropout` drops the tokens: such a
    row is conditioned on the tokens of a mid-grey clip.

    Attributes:
        model: Tokenizer and de-tokenizer.
        agent_path: Run of `divot_llm` that writes the tokens of each clip from its caption, in
            place of the tokenizer: the de-tokenizer adapts to what the LLM draws. None takes the
            tokens of the clip itself.
    """

    dit_field: ClassVar[str] = "model.detokenizer.dit"

    kind: Literal["divot"] = "divot"
    model: DivotConfig = DivotConfig()
    agent_path: str | None = None

    @property
    def dit(self) -> DiTConfig:
        """The video transformer."""
        return self.model.detokenizer.dit

    @property
    def network(self) -> DivotConfig:
        """Tokenizer and de-tokenizer."""
        return self.model

    def with_dit(self, **fields: Any) -> "DivotSystemConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, model=self.model.with_dit(**fields))
