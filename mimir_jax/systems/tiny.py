# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the embedded default: small networks of the same structure as the full ones."""

from mimir_jax.diffusion.config import DiffusionConfig
from mimir_jax.models.config import DiTConfig, LLMConfig, T5Config, ViTConfig
from mimir_jax.models.vae.config import VAEConfig

TINY_VAE = VAEConfig(
    block_channels=(16, 32, 64),
    layers_per_block=1,
    latent_channels=8,
    norm_groups=4,
    scaling_factor=0.62,  # one over the deviation of its latents
    sample_height=64,
    sample_width=64,
)
TINY_T5 = T5Config(vocab_size=1024, width=128, num_layers=3, num_heads=4, head_dim=32, mlp_dim=256)
TINY_LLM = LLMConfig(
    vocab_size=2432,
    width=160,
    num_layers=4,
    num_heads=5,
    num_kv_heads=1,
    head_dim=32,
    mlp_dim=384,
)
TINY_VIT = ViTConfig(
    image_size=64,
    patch=8,
    width=128,
    num_layers=4,
    num_heads=4,
    mlp_dim=512,
    activation="gelu",
    post_norm=False,
)
TINY_DIT = DiTConfig(
    num_layers=6,
    num_heads=6,
    head_dim=32,
    in_channels=8,
    out_channels=8,
    patch=2,
    text_width=128,
    text_length=64,
    time_width=64,
    sample_frames=5,
    sample_height=16,
    sample_width=16,
    remat="none",
)
TINY_DIFFUSION = DiffusionConfig(snr_shift=3.0)  # as 2B: what is where is decided at high noise
