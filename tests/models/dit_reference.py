# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tiny random CogVideoX transformers of diffusers."""

import numpy as np

from mimir_jax.config import DiTConfig


def make_reference(cfg: DiTConfig, seed: int = 0, device: str = "cpu"):
    """Builds the diffusers model of `cfg` with every parameter (and learned table) random."""
    import torch

    torch.manual_seed(seed)
    with torch.device(device):
        model = _build(cfg)
    tensors = dict(model.named_parameters())
    if cfg.position == "rope+learned":
        tensors["patch_embed.pos_embedding"] = model.patch_embed.pos_embedding
    with torch.no_grad():
        for name, x in tensors.items():
            norm = x.ndim == 1 and name.endswith("weight")
            x.normal_(mean=float(norm), std=x.shape[-1] ** -0.5 if x.ndim > 1 else 0.2)
    return model


def _build(cfg: DiTConfig):
    from diffusers import CogVideoXTransformer3DModel

    return CogVideoXTransformer3DModel(
        num_attention_heads=cfg.num_heads,
        attention_head_dim=cfg.head_dim,
        in_channels=cfg.in_channels,
        out_channels=cfg.out_channels,
        time_embed_dim=cfg.time_width,
        ofs_embed_dim=cfg.ofs_width,
        text_embed_dim=cfg.text_width,
        num_layers=cfg.num_layers,
        sample_width=cfg.sample_width,
        sample_height=cfg.sample_height,
        sample_frames=4 * (cfg.sample_frames - 1) + 1,
        patch_size=cfg.patch,
        patch_size_t=cfg.temporal_patch,
        max_text_seq_length=cfg.text_length,
        norm_eps=cfg.norm_eps,
        spatial_interpolation_scale=cfg.spatial_interpolation,
        temporal_interpolation_scale=cfg.temporal_interpolation,
        use_rotary_positional_embeddings=cfg.position != "sincos",
        use_learned_positional_embeddings=cfg.position == "rope+learned",
    ).eval()


def rotary(cfg: DiTConfig, sizes: tuple[int, int, int]):
    """Rotary tables of the diffusers pipeline for latents of `sizes` (t, h, w)."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    if cfg.position == "sincos":
        return None
    frames, rows, columns = sizes[0], sizes[1] // cfg.patch, sizes[2] // cfg.patch
    base = cfg.sample_height // cfg.patch, cfg.sample_width // cfg.patch
    if cfg.rope_grid == "crop":
        crop = get_resize_crop_region_for_grid((rows, columns), base[1], base[0])
        kwargs = {"crops_coords": crop, "temporal_size": frames}
    else:
        time = -(-frames // (cfg.temporal_patch or 1))
        kwargs = {"crops_coords": None, "temporal_size": time}
        kwargs |= {"grid_type": "slice", "max_size": base}
    return get_3d_rotary_pos_embed(embed_dim=cfg.head_dim, grid_size=(rows, columns), **kwargs)


def run_reference(model, cfg: DiTConfig, latents, text, timestep, ofs=None) -> np.ndarray:
    """Runs diffusers on channels-last arrays."""
    import torch

    x = torch.tensor(np.moveaxis(np.array(latents), -1, 2))  # (b, t, c, h, w)
    with torch.no_grad():
        y = model(
            x,
            torch.tensor(np.array(text)),
            torch.tensor(np.array(timestep)),
            ofs=None if ofs is None else torch.tensor(np.array(ofs)),
            image_rotary_emb=rotary(cfg, latents.shape[1:4]),
            return_dict=False,
        )[0]
    return np.moveaxis(y.numpy(), 2, -1)
