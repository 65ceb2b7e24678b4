# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the first phase of VIMI's aligner."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.encoders.config import TextConfig
from mimir_jax.models.vimi.config import AlignerConfig
from mimir_jax.systems.vimi.config import PromptsConfig, TasksConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlignerSystemConfig(SystemConfig, PromptsConfig):
    """Train an aligner to turn the states of a multimodal LLM into those of T5 (V-U11).

    The states of a prompt become those of T5 for its caption in words. With `tasks` other than
    captions, the aligner learns from text alone what images and documents tell, before a video
    transformer reads it (V-U23).

    Attributes:
        model: The aligner.
        text: The frozen text encoder to match; the fields of T5 count.
        tasks: Mixture of prompts in the stage `instruct`; captions alone by default.
        heldout_texts: Prompts of the held-out measures.
    """

    kind: Literal["aligner"] = "aligner"
    model: AlignerConfig = AlignerConfig()
    text: TextConfig = TextConfig()
    stage: Literal["pretrain", "instruct"] = "instruct"
    tasks: TasksConfig = TasksConfig(caption=1.0, subject=0.0, prediction=0.0, retrieval=0.0)
    prompts_per_clip: int = 1
    heldout_texts: int = 128

    def __post_init__(self):
        self.check_prompts()
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
        """Raises `FieldError` for stored features, which an aligner does not read.

        Also for data without what the tasks need.
        """
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for an aligner, which trains on prompts",
            remedy="leave it out",
        )
        self.check_prompts_of_run(run)
