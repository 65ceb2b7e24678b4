# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a tokenizer of clips by captions."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.models.divot.config import ClipCaptionerConfig, ClipSequenceConfig

_AROUND_CLIP = 6  # BOS, the delimiters of a video and of a clip, EOS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipCaptioningSystemConfig(SystemConfig):
    """Train a clip tokenizer with the captioning loss of an LLM, an ablation of Divot (D-U15).

    `optimizer.freeze` selects frozen parts: `^tokenizer/vit/` for a pretrained ViT, `^llm/` for the
    LLM. The run can replace a run of `divot` as a tokenizer.

    Attributes:
        model: Tokenizer, projector and LLM.
        tokenizer_path: Folder of the tokenizer of text; `package:NAME` ships with mimir_jax. Where
            it lacks the delimiters and index tokens of clips, they take the last ids.
        max_length: Tokens of a row; longer captions are cut.
        heldout_clips: Clips of the held-out loss.
        examples: Held-out clips that the examples describe.
        answer_length: Largest number of tokens of a description.
    """

    kind: Literal["clip_captioning"] = "clip_captioning"
    model: ClipCaptionerConfig = ClipCaptionerConfig()
    tokenizer_path: str | None = None
    max_length: int = 180
    heldout_clips: int = 32
    examples: int = 6
    answer_length: int = 64

    def __post_init__(self):
        for name in ("heldout_clips", "answer_length"):
            checks.within(self, name, 1)
        checks.within(self, "examples", 0)
        least = self.model.tokenizer.num_tokens + _AROUND_CLIP
        checks.check(
            self,
            self.max_length > least,
            f"{{max_length}} must be above {least}, the tokens of a clip",
        )

    @property
    def network_kind(self) -> str:
        """Tokenizer and LLM."""
        return "clip_captioner"

    @property
    def network(self) -> ClipCaptionerConfig:
        """Tokenizer and LLM."""
        return self.model

    @property
    def sequence(self) -> ClipSequenceConfig:
        """The shape of a row, which reads one clip."""
        tokenizer = self.model.tokenizer
        return ClipSequenceConfig(
            max_length=self.max_length,
            num_queries=tokenizer.num_tokens,
            token_width=tokenizer.token_width,
            max_inputs=1,
        )

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the run reads frames, which the tokenizer learns from."""
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for clip_captioning, which trains on pixels",
            remedy="leave it out",
        )
