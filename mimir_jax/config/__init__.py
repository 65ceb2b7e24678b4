# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen configuration dataclasses, their validation, and the bridge to command-line flags."""

from mimir_jax.config.bridge import from_config_dict, pick_preset, to_config_dict
from mimir_jax.config.models import (
    ABLATIONS,
    COGVIDEOX,
    DiffusionConfig,
    DiTConfig,
    DType,
    FuserConfig,
    Kernel,
    LLMConfig,
    LoraConfig,
    MimirConfig,
    Remat,
    RopeConfig,
    StabilizerConfig,
    T5Config,
    VAEConfig,
    require,
)
from mimir_jax.config.presets import TINY_DIFFUSION, TINY_DIT, TINY_LLM, TINY_T5, TINY_VAE
from mimir_jax.config.run import (
    INSTRUCTIONS,
    DataConfig,
    LanguageTaskConfig,
    MeshConfig,
    OptimizerConfig,
    SamplerConfig,
    TaskConfig,
    TextConfig,
    TextToVideoConfig,
    TrainConfig,
    VAETaskConfig,
)

KINDS = {
    "vae": VAEConfig,
    "t5": T5Config,
    "llm": LLMConfig,
    "dit": DiTConfig,
    "mimir": MimirConfig,
}
"""Config class of every kind of native weights folder."""
