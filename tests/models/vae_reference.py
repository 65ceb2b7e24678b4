# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random diffusers VAE for parity tests, and its weights as our parameters."""

import numpy as np

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


def params_from_torch(state: dict) -> dict:
    """Maps a diffusers state dict onto our nested parameters."""
    tree: dict = {}
    for name, tensor in state.items():
        path, value = convert(name, tensor.detach().float().numpy())
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return tree


def convert(name: str, value: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Maps one diffusers tensor: drop the inner `.conv`, channels last, norms get `scale`."""
    name = name.replace("downsamplers.0.conv.", "downsampler.")
    name = name.replace("upsamplers.0.conv.", "upsampler.").replace(".conv.", ".")
    *path, leaf = name.split(".")
    if leaf == "weight":
        leaf = "scale" if value.ndim == 1 else "kernel"
    if value.ndim > 2:
        value = np.moveaxis(value, (0, 1), (-1, -2))
    return [*path, leaf], value
