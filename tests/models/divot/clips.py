# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of tests: one of odd sizes, and that of the miniature."""

from mimir_jax.config import (
    DivotTokenizerConfig,
    ResamplerConfig,
    SpaceTimeConfig,
    TemporalConfig,
    ViTConfig,
)

ODD = DivotTokenizerConfig(
    frames=3,
    frame_size=27,
    pool=3,
    vit=ViTConfig(
        image_size=22, patch=4, width=30, num_layers=2, num_heads=3, mlp_dim=44,
        activation="gelu", post_norm=False,
    ),
    temporal=TemporalConfig(width=28, num_layers=2, num_heads=2, mlp_dim=36),
    space_time=SpaceTimeConfig(width=18, num_layers=2, num_heads=3, mlp_dim=40),
    resampler=ResamplerConfig(
        in_width=18, out_width=7, num_queries=4, width=20, num_layers=2, num_heads=2, head_dim=6,
        mlp_dim=24,
    ),
)  # fmt: skip

MINIATURE = DivotTokenizerConfig(
    frame_size=64,
    pool=4,
    vit=ViTConfig(
        image_size=64, patch=8, width=128, num_layers=4, num_heads=4, mlp_dim=512,
        activation="gelu", post_norm=False,
    ),
    temporal=TemporalConfig(width=128, num_layers=2, num_heads=4, mlp_dim=512),
    space_time=SpaceTimeConfig(width=128, num_layers=2, num_heads=4, mlp_dim=512),
    resampler=ResamplerConfig(
        in_width=128, out_width=32, num_queries=16, width=128, num_layers=2, num_heads=4,
        head_dim=32, mlp_dim=512,
    ),
)  # fmt: skip
