# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen configuration dataclasses, their validation, and the bridge to command-line flags."""

from mimir_jax.config.models import (
    ABLATIONS,
    DiTConfig,
    DType,
    FuserConfig,
    LLMConfig,
    MimirConfig,
    Remat,
    RopeConfig,
    StabilizerConfig,
    T5Config,
    VAEConfig,
    require,
)
