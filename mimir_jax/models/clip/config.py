# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of CLIP with both towers."""

import dataclasses
from typing import Literal

from mimir_jax.config import checks
from mimir_jax.models.config import DType, ViTConfig

OLD_EOS_TOKEN = 2
"""End-of-text id of old configs, which stands for the largest id of a row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """Text tower of CLIP. The defaults are those of ViT-B/32.

    Attributes:
        vocab_size: Tokens.
        length: Most tokens of a text, with those of its begin and end.
        width, num_layers, num_heads, mlp_dim, activation, norm_eps, dtype: As in a ViT.
        eos_token: Token whose state is the text: its first one in a row. With 2, which published
            configs state by mistake, it is the largest id of a row, as transformers has it.
    """

    vocab_size: int = 49408
    length: int = 77
    width: int = 512
    num_layers: int = 12
    num_heads: int = 8
    mlp_dim: int = 2048
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    norm_eps: float = 1e-5
    eos_token: int = 49407
    dtype: DType = "float32"

    def __post_init__(self):
        checks.positive_sizes(self)
        whole = self.width % self.num_heads == 0
        checks.check(self, whole, "{width} must be a multiple of {num_heads}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Image and text towers with projections to one space. The defaults are ViT-B/32.

    Attributes:
        vit: The image tower.
        text: The text tower.
        width: Width of the shared space.
    """

    vit: ViTConfig = ViTConfig(
        image_size=224, patch=32, width=768, num_layers=12, num_heads=12, mlp_dim=3072
    )
    text: ClipTextConfig = ClipTextConfig()
    width: int = 512

    def __post_init__(self):
        checks.positive_sizes(self)
        checks.check(self, self.vit.post_norm, "{vit.post_norm} must be true, it is projected")
