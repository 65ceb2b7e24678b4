# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random diffusers VAE for parity tests."""

from mimir_jax.config import VAEConfig


def make_reference(cfg: VAEConfig, seed: int = 0):
    """Returns a diffusers `AutoencoderKLCogVideoX` with every weight random, norms too."""
    import torch
    from diffusers import AutoencoderKLCogVideoX

    torch.manual_seed(seed)
    stages = len(cfg.block_channels)
    model = AutoencoderKLCogVideoX(
        in_channels=cfg.in_channels,
        out_channels=cfg.out_channels,
        down_block_types=("CogVideoXDownBlock3D",) * stages,
        up_block_types=("CogVideoXUpBlock3D",) * stages,
        block_out_channels=cfg.block_channels,
        latent_channels=cfg.latent_channels,
        layers_per_block=cfg.layers_per_block,
        norm_eps=cfg.norm_eps,
        norm_num_groups=cfg.norm_groups,
        temporal_compression_ratio=cfg.temporal_compression,
        sample_height=cfg.sample_height,
        sample_width=cfg.sample_width,
        scaling_factor=cfg.scaling_factor,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()
