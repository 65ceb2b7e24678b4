# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of small text models."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.models.config import LLMConfig, T5Config

_MODELS = {"t5": T5Config, "llm": LLMConfig}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageSystemConfig(SystemConfig):
    """Train a small text model on the texts of Toyworld.

    Attributes:
        kind: `t5` learns to fill masked caption tokens; `llm` learns chat turns: caption to
            elaboration, and caption with one of `INSTRUCTIONS` to its answer.
        model: The network, of the kind.
        tokenizer_path: Folder of the tokenizer; `package:NAME` is one that ships with mimir_jax.
        length: Tokens per text, padded or truncated on the right.
        mask_rate: Share of the tokens that `t5` sees masked.
        heldout_texts: Texts of the held-out loss.
    """

    kind: Literal["t5", "llm"] = "t5"
    model: T5Config | LLMConfig = T5Config()
    tokenizer_path: str = "package:tiny/t5"
    length: int = 64
    mask_rate: float = 0.25
    heldout_texts: int = 128

    def __post_init__(self):
        checks.within(self, "heldout_texts", 1)
        checks.within(self, "length", 1)
        checks.within(self, "mask_rate", 0, 1)
        checks.check(
            self,
            isinstance(self.model, _MODELS[self.kind]),
            "{kind} must be the kind of the model",
            got=f"{self.kind!r} and a {type(self.model).__name__}",
            remedy="choose another preset",
        )

    @property
    def network(self) -> T5Config | LLMConfig:
        """The text model."""
        return self.model

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` for data without the texts of Toyworld."""
        checks.check(
            run,
            run.data.source == "toyworld",
            "{data.source} must be toyworld for a text model",
        )
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for a text model, which trains on texts",
            remedy="leave it out",
        )
