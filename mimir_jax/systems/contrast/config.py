# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the training of a vision transformer by contrast with captions."""

import dataclasses
from typing import Any, Literal

from mimir_jax.config import checks
from mimir_jax.config.registry import SystemConfig
from mimir_jax.encoders.config import TextConfig
from mimir_jax.models.contrast.config import ContrastConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastSystemConfig(SystemConfig):
    """Train a vision transformer to tell which caption of a batch belongs to a frame.

    Attributes:
        model: Vision transformer and projections.
        text: The frozen text encoder; the fields of T5 count.
        heldout_clips: Clips of the held-out measures, among which the right caption is found.
    """

    kind: Literal["contrast"] = "contrast"
    model: ContrastConfig = ContrastConfig()
    text: TextConfig = TextConfig()
    heldout_clips: int = 128

    def __post_init__(self):
        checks.within(self, "heldout_clips", 2)

    @property
    def network(self) -> ContrastConfig:
        """Vision transformer and projections."""
        return self.model

    def check_run(self, run: Any) -> None:
        """Raises `FieldError` unless the run reads single frames with captions."""
        checks.check(
            run,
            run.data.features is None,
            "{data.features} must be None for contrast, which trains on pixels",
            remedy="leave it out",
        )
        checks.check(
            run,
            run.data.frames == 1,
            "{data.frames} must be 1 for contrast, which compares single frames with captions",
        )
