# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The causal 3D VAE of CogVideoX: diffusers, and SAT by way of their names."""

import re
from collections.abc import Mapping

from mimir_jax.config import VAEConfig
from mimir_jax.errors import InputError
from mimir_jax.models.vae import autoencoder
from mimir_jax.weights import family, sat
from mimir_jax.weights.rules import CONV, SAME, Rule
from mimir_jax.weights.tensors import Tensor, Tensors

_CAUSAL = ("conv_in", "conv_out", "conv1", "conv2", "conv_y", "conv_b")
_FIXED = {
    "act_fn": "silu",
    "pad_mode": "first",
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}


class VAE(family.Published):
    """Both halves; parameter paths follow the published names."""

    kind = "vae"
    module = autoencoder.VAE
    library = "diffusers"
    classes = ("AutoencoderKLCogVideoX",)
    stem = "diffusion_pytorch_model"
    stems = ("cogvideo", "autoencoderkl")
    anchor = r"encoder\.down_blocks\.0\.resnets\.0\.conv1\.conv\.weight"

    def read_config(self, raw: family.Raw, tensors: Mapping[str, Tensor]) -> VAEConfig:
        """Reads a config of diffusers."""
        family.demand(raw, **_FIXED)
        for name, block in (("down", "CogVideoXDownBlock3D"), ("up", "CogVideoXUpBlock3D")):
            if set(raw.get(f"{name}_block_types", [block])) != {block}:
                raise InputError(f"config.json must have {name}_block_types of {block} alone")
        return VAEConfig(
            in_channels=raw.get("in_channels", 3),
            out_channels=raw.get("out_channels", 3),
            latent_channels=raw.get("latent_channels", 16),
            block_channels=tuple(raw.get("block_out_channels", (128, 256, 256, 512))),
            layers_per_block=raw.get("layers_per_block", 3),
            norm_groups=raw.get("norm_num_groups", 32),
            norm_eps=float(raw.get("norm_eps", 1e-6)),
            temporal_compression=int(raw.get("temporal_compression_ratio", 4)),
            scaling_factor=float(raw.get("scaling_factor", 1.15258426)),
            sample_height=raw.get("sample_height", 480),
            sample_width=raw.get("sample_width", 720),
        )

    def write_config(self, config: VAEConfig, name: str) -> family.Raw:
        """Writes a config of diffusers."""
        stages = len(config.block_channels)
        return {
            "_class_name": name,
            "_diffusers_version": "0.31.0",
            "act_fn": "silu",
            "block_out_channels": list(config.block_channels),
            "down_block_types": ["CogVideoXDownBlock3D"] * stages,
            "up_block_types": ["CogVideoXUpBlock3D"] * stages,
            "force_upcast": True,
            "in_channels": config.in_channels,
            "out_channels": config.out_channels,
            "latent_channels": config.latent_channels,
            "layers_per_block": config.layers_per_block,
            "norm_eps": config.norm_eps,
            "norm_num_groups": config.norm_groups,
            "sample_height": config.sample_height,
            "sample_width": config.sample_width,
            "scaling_factor": config.scaling_factor,
            "temporal_compression_ratio": config.temporal_compression,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        }

    def rules(self, config: VAEConfig, name: str) -> list[Rule]:
        """Returns the table: names differ by the inner `conv` of causal convolutions."""
        return [_rule(path) for path in self.abstract(config)]

    def prepare(self, raw: family.Raw, tensors: Tensors) -> Tensors:
        """Gives the tensors of a SAT checkpoint the names of diffusers."""
        return sat.vae(tensors)

    def licence(self, config: VAEConfig) -> str:
        """The autoencoder comes with either model."""
        return "as the CogVideoX release it comes with: Apache-2.0 (2B) or CogVideoX licence (5B)"


def _rule(path: str) -> Rule:
    *parts, leaf = path.split("/")
    layer = parts[-1]
    if layer in _CAUSAL:
        parts.append("conv")
    elif match := re.fullmatch(r"(down|up)sampler", layer):
        parts[-1:] = [f"{match[0]}s", "0", "conv"]
    name = {"kernel": "weight", "scale": "weight", "bias": "bias"}[leaf]
    return Rule(path, (".".join([*parts, name]),), CONV if leaf == "kernel" else SAME)
