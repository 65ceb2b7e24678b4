# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The networks whose weights are stored, by the kind that a native folder names."""

from mimir_jax.models.clip.config import ClipConfig
from mimir_jax.models.config import DiTConfig, LLMConfig, T5Config, ViTConfig
from mimir_jax.models.contrast.config import ContrastConfig
from mimir_jax.models.divot.config import (
    AgentConfig,
    ClipCaptionerConfig,
    DivotConfig,
    DivotTokenizerConfig,
    PublishedDetokenizerConfig,
)
from mimir_jax.models.llava.config import LlavaConfig
from mimir_jax.models.mimir.config import MimirConfig
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.vae.config import ImageVAEConfig, VAEConfig
from mimir_jax.models.vimi.config import AlignerConfig, VimiConfig

KINDS = {
    "vae": VAEConfig,
    "image_vae": ImageVAEConfig,
    "t5": T5Config,
    "llm": LLMConfig,
    "vit": ViTConfig,
    "clip": ClipConfig,
    "contrast": ContrastConfig,
    "llava": LlavaConfig,
    "aligner": AlignerConfig,
    "dit": DiTConfig,
    "unet": UNetConfig,
    "mimir": MimirConfig,
    "vimi": VimiConfig,
    "divot": DivotConfig,
    "divot_llm": AgentConfig,
    "divot_tokenizer": DivotTokenizerConfig,
    "clip_captioner": ClipCaptionerConfig,
    "divot_detokenizer": PublishedDetokenizerConfig,
}
"""Config class of every kind of native weights folder."""
