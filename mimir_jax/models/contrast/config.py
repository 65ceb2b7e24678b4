# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the contrast of frames and captions."""

import dataclasses

from mimir_jax.config import checks
from mimir_jax.models.config import ViTConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """Vision transformer with projections to the space that it shares with captions.

    Attributes:
        vit: The vision transformer.
        text_width: Width of the states of the frozen text encoder.
        width: Width of the shared space.
        temperature: Temperature of the softmax over a batch at the start; it is learned.
    """

    vit: ViTConfig = ViTConfig()
    text_width: int = 768
    width: int = 512
    temperature: float = 0.07

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.within(self, "temperature", 0, above=True)
