# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run: `from mimir_jax import config as c`.

Every config class lives in a `config.py` beside what it configures; this package holds what they
share and gives access to all of them. None of it imports JAX, whose environment variables must be
set first.

    checks       checks of fields, which do not know where their dataclass is mounted
    bridge       dataclasses to flags and JSON, and back
    registry     the systems that exist, and their presets
    upgrade      names of older versions
"""

import importlib
from typing import TYPE_CHECKING, Any

from mimir_jax.config.bridge import Presets, from_config_dict, pick_preset, to_config_dict
from mimir_jax.config.checks import flag
from mimir_jax.config.registry import SystemConfig, find_config

if TYPE_CHECKING:
    from mimir_jax.data.bucket_config import *  # noqa: F403
    from mimir_jax.data.config import *  # noqa: F403
    from mimir_jax.diffusion.config import *  # noqa: F403
    from mimir_jax.encoders.config import *  # noqa: F403
    from mimir_jax.models.config import *  # noqa: F403
    from mimir_jax.models.contrast.config import *  # noqa: F403
    from mimir_jax.models.divot.config import *  # noqa: F403
    from mimir_jax.models.kinds import *  # noqa: F403
    from mimir_jax.models.llava.config import *  # noqa: F403
    from mimir_jax.models.mimir.config import *  # noqa: F403
    from mimir_jax.models.unet.config import *  # noqa: F403
    from mimir_jax.models.vae.config import *  # noqa: F403
    from mimir_jax.models.vimi.config import *  # noqa: F403
    from mimir_jax.parallel.config import *  # noqa: F403
    from mimir_jax.retrieval.config import *  # noqa: F403
    from mimir_jax.systems.aligner.config import *  # noqa: F403
    from mimir_jax.systems.captioning.config import *  # noqa: F403
    from mimir_jax.systems.clip_captioning.config import *  # noqa: F403
    from mimir_jax.systems.cogvideox.config import *  # noqa: F403
    from mimir_jax.systems.contrast.config import *  # noqa: F403
    from mimir_jax.systems.diffusion_config import *  # noqa: F403
    from mimir_jax.systems.divot.config import *  # noqa: F403
    from mimir_jax.systems.divot_llm.config import *  # noqa: F403
    from mimir_jax.systems.language.config import *  # noqa: F403
    from mimir_jax.systems.mimir.config import *  # noqa: F403
    from mimir_jax.systems.tiny import *  # noqa: F403
    from mimir_jax.systems.vae.config import *  # noqa: F403
    from mimir_jax.systems.vimi.config import *  # noqa: F403
    from mimir_jax.training.config import *  # noqa: F403

_NAMES = {
    "models.config": (
        "COGVIDEOX DiTConfig DType Kernel LLMConfig LoraConfig Quantization Remat ResamplerConfig "
        "RopeConfig T5Config ViTConfig"
    ),
    "models.divot.config": (
        "MISTRAL_7B AgentConfig ClipCaptionerConfig ClipSequenceConfig DenoiserConfig "
        "DiTDetokenizerConfig DivotConfig DivotTokenizerConfig MixtureConfig ProjectorConfig "
        "PublishedDetokenizerConfig SpaceTimeConfig TemporalConfig UNetDetokenizerConfig"
    ),
    "models.clip.config": "ClipConfig ClipTextConfig",
    "models.contrast.config": "ContrastConfig",
    "models.kinds": "KINDS",
    "models.llava.config": "LlavaConfig",
    "models.mimir.config": "ABLATIONS FuserConfig MimirConfig StabilizerConfig",
    "models.unet.config": "UNetConfig",
    "models.vae.config": "ImageVAEConfig VAEConfig",
    "models.vimi.config": "AlignerConfig VimiConfig",
    "diffusion.config": "DIVOT_REFERENCE DiffusionConfig EDMConfig SamplerConfig Shortcuts",
    "data.bucket_config": "BucketsConfig",
    "data.config": (
        "ClipWindowConfig DataConfig FolderConfig ShardsConfig TfdsConfig ToyworldConfig"
    ),
    "encoders.config": "INSTRUCTIONS FirstFrameConfig ImageConfig MultimodalConfig TextConfig",
    "parallel.config": "MeshConfig",
    "retrieval.config": "BM25Config RetrievalConfig",
    "training.config": "DivergenceConfig JudgeConfig OptimizerConfig TrainConfig",
    "systems.diffusion_config": "DiffusionSystemConfig TextToVideoSystemConfig",
    "systems.mimir.config": "MimirSystemConfig",
    "systems.cogvideox.config": "CogVideoXSystemConfig",
    "systems.aligner.config": "AlignerSystemConfig",
    "systems.captioning.config": "CaptioningSystemConfig",
    "systems.clip_captioning.config": "ClipCaptioningSystemConfig",
    "systems.contrast.config": "ContrastSystemConfig",
    "systems.divot.config": "DivotSystemConfig",
    "systems.vae.config": "VAESystemConfig",
    "systems.vimi.config": "TasksConfig VimiSystemConfig",
    "systems.divot_llm.config": "DivotLLMSystemConfig",
    "systems.language.config": "LanguageSystemConfig",
    "systems.tiny": "TINY_DIFFUSION TINY_DIT TINY_LLM TINY_T5 TINY_VAE TINY_VIT",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Imports a config class when it is used: the modules of the classes import this package."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mimir_jax.config' has no attribute {name!r}")
    return getattr(importlib.import_module(f"mimir_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
