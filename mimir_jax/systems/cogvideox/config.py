# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of CogVideoX."""

import dataclasses
from typing import Any, Literal

from mimir_jax.models.config import DiTConfig
from mimir_jax.systems.diffusion_config import TextToVideoSystemConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class CogVideoXSystemConfig(TextToVideoSystemConfig):
    """Train the video transformer of CogVideoX on T5 alone.

    Attributes:
        dit: The video transformer. Of `text` it reads the fields of T5.
    """

    kind: Literal["cogvideox"] = "cogvideox"
    dit: DiTConfig = DiTConfig()

    @property
    def network_kind(self) -> str:
        """A bare video transformer."""
        return "dit"

    @property
    def network(self) -> DiTConfig:
        """The video transformer."""
        return self.dit

    def with_dit(self, **fields: Any) -> "CogVideoXSystemConfig":
        """Returns this config with other `fields` of its video transformer."""
        return dataclasses.replace(self, dit=dataclasses.replace(self.dit, **fields))
