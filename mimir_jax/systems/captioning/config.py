# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the captioning of images by a LLaVA."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.models.llava.config import LlavaConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptioningSystemConfig(SystemConfig):
    """Train a LLaVA to describe the first frames of clips.

    `optimizer.freeze` selects frozen parts: `^vit/` for the image tower; with `^(vit|llm)/` only
    the projector trains, as in the first phase of LLaVA.

    Attributes:
        model: Image tower, projector and text decoder.
        tokenizer_path: Folder of the tokenizer, with the image token, and of the image processor;
            `package:NAME` ships with mimir_jax.
        length: Tokens of a row, including its image; longer answers are cut.
        heldout_texts: Images of the held-out loss.
        examples: Held-out images that the examples describe.
    """

    kind: Literal["captioning"] = "captioning"
    model: LlavaConfig = LlavaConfig()
    tokenizer_path: str | None = None
    length: int = 1024
    heldout_texts: int = 64
    examples: int = 6

    def __post_init__(self):
        checks.within(self, "heldout_texts", 1)
        checks.within(self, "examples", 0)
        checks.check(
            self,
            self.length > self.model.tokens_per_image,
            f"{{length}} must be above {self.model.tokens_per_image}, the tokens of an image",
        )
        checks.check(
            self,
            self.length <= self.model.llm.rope.max_length,
            "{length} must be at most {model.llm.rope.max_length}, the positions of the decoder",
        )

    @property
    def network_kind(self) -> str:
        """A LLaVA."""
        return "llava"

    @property
    def network(self) -> LlavaConfig:
        """The LLaVA."""
        return self.model

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the run reads single frames."""
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for captioning, which trains on pixels",
            remedy="leave it out",
        )
        checks.check(
            run,
            run.data.frames == 1,
            "{data.frames} must be 1 for captioning, which describes single frames",
        )
