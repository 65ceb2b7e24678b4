# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's tokenizer by its formulas in torch, on random tensors under the published names."""

import json
import math

import numpy as np
import torch
from torch.nn import functional as F

from tests.models import test_resampler as resampler

TOWER, TEMPORAL, PROJECT = "vit_model.model.visual.", "temporal_encoder.", "image_proj_model."


def shapes_of(cfg):
    """The tensors of a tokenizer."""
    vit, temporal, part = cfg.vit, cfg.temporal, cfg.space_time
    rows = 1 + cfg.grid**2
    shapes = {
        f"{TOWER}conv1.weight": (vit.width, 3, vit.patch, vit.patch),
        f"{TOWER}class_embedding": (vit.width,),
        f"{TOWER}positional_embedding": (rows, vit.width),
        **norm_shapes(f"{TOWER}ln_pre", vit.width),
        **block_shapes(f"{TOWER}transformer.resblocks.", vit),
        **linear_shapes(f"{TEMPORAL}input_proj", vit.width, temporal.width),
        f"{TEMPORAL}positional_embedding": (cfg.frames, temporal.width),
        **block_shapes(f"{TEMPORAL}transformer.resblocks.", temporal),
        **norm_shapes(f"{TEMPORAL}ln_final", temporal.width),
        **linear_shapes(f"{TEMPORAL}output_proj", temporal.width, part.width),
        **norm_shapes("norm", part.width),
        f"{PROJECT}pos_embed_spatial": (cfg.pool**2, part.width),
        f"{PROJECT}pos_embed_temporal": (cfg.frames, part.width),
        **norm_shapes(f"{PROJECT}norm", part.width),
    }
    for i in range(part.num_layers):
        at = f"{PROJECT}blocks.{i}"
        shapes |= norm_shapes(f"{at}.norm1", part.width) | norm_shapes(f"{at}.norm2", part.width)
        shapes |= linear_shapes(f"{at}.attn.qkv", part.width, 3 * part.width)
        shapes |= linear_shapes(f"{at}.attn.proj", part.width, part.width)
        shapes |= linear_shapes(f"{at}.mlp.fc1", part.width, part.mlp_dim)
        shapes |= linear_shapes(f"{at}.mlp.fc2", part.mlp_dim, part.width)
    return shapes | resampler.shapes_of(cfg.resampler)


def linear_shapes(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name, width):
    return {f"{name}.{leaf}": (width,) for leaf in ("weight", "bias")}


def block_shapes(prefix, part):
    """The tensors of blocks with torch's own attention."""
    shapes = {}
    for i in range(part.num_layers):
        at = f"{prefix}{i}"
        shapes |= norm_shapes(f"{at}.ln_1", part.width) | norm_shapes(f"{at}.ln_2", part.width)
        shapes |= {f"{at}.attn.in_proj_weight": (3 * part.width, part.width)}
        shapes |= {f"{at}.attn.in_proj_bias": (3 * part.width,)}
        shapes |= linear_shapes(f"{at}.attn.out_proj", part.width, part.width)
        shapes |= linear_shapes(f"{at}.mlp.c_fc", part.width, part.mlp_dim)
        shapes |= linear_shapes(f"{at}.mlp.c_proj", part.mlp_dim, part.width)
    return shapes


def draw(cfg, seed=0):
    """Random tensors; norms and biases away from their start, kernels that keep variances."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes_of(cfg).items():
        kernel = name.endswith("weight") and len(shape) > 1
        scale = math.prod(shape[1:]) ** -0.5 if kernel else 0.3
        start = float(name.endswith("weight") and not kernel)
        state[name] = start + scale * torch.randn(shape, generator=generator)
    return state


def write(folder, state, inside=True, config=None):
    """Writes the public layout, the image tower inside Divot's file or beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not inside:
        tower = {n: x for n, x in state.items() if n.startswith(TOWER)}
        state = {n: x for n, x in state.items() if n not in tower}
        tower = {f"visual.{n.removeprefix(TOWER)}": x for n, x in tower.items()}
        torch.save(tower, folder / "open_clip_pytorch_model.bin")
    torch.save(state, folder / "Divot_tokenizer.bin")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


class Twin:
    """The formulas, stage by stage."""

    def __init__(self, cfg, state):
        self.cfg, self.state = cfg, state

    def norm(self, x, name, eps):
        affine = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], *affine, eps=eps)

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def attention(self, x, qkv, num_heads):
        q, k, v = (p.unflatten(-1, (num_heads, -1)).transpose(1, 2) for p in qkv.chunk(3, -1))
        h = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return h.transpose(1, 2).flatten(2)

    def blocks(self, x, prefix, part, eps, activation):
        """Blocks with torch's own attention."""
        for i in range(part.num_layers):
            at = f"{prefix}{i}"
            qkv = F.linear(
                self.norm(x, f"{at}.ln_1", eps),
                self.state[f"{at}.attn.in_proj_weight"],
                self.state[f"{at}.attn.in_proj_bias"],
            )
            x = x + self.linear(self.attention(x, qkv, part.num_heads), f"{at}.attn.out_proj")
            up = self.linear(self.norm(x, f"{at}.ln_2", eps), f"{at}.mlp.c_fc")
            x = x + self.linear(activation(up), f"{at}.mlp.c_proj")
        return x

    def features(self, frames):
        """States of the patches, (b, f, p, d), from frames with channels last."""
        size, width = self.cfg.vit.image_size, self.cfg.vit.width
        x = torch.as_tensor(frames).flatten(0, 1).permute(0, 3, 1, 2)
        x = F.interpolate(x, (size, size), mode="bicubic", align_corners=True)
        mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
        x = ((x + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        kernel = self.state[f"{TOWER}conv1.weight"]
        x = F.conv2d(x, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = self.state[f"{TOWER}class_embedding"].expand(len(x), 1, width)
        x = torch.cat([first, x], 1) + self.state[f"{TOWER}positional_embedding"]
        x = self.norm(x, f"{TOWER}ln_pre", 1e-5)
        x = self.blocks(x, f"{TOWER}transformer.resblocks.", self.cfg.vit, 1e-5, F.gelu)
        return x[:, 1:].unflatten(0, frames.shape[:2])

    def pooled(self, features):
        """States after the first norm, (b, f, k, e)."""
        batch, number, patches, _ = features.shape
        x = features.transpose(1, 2).flatten(0, 1)
        x = self.linear(x, f"{TEMPORAL}input_proj")
        x = x + self.state[f"{TEMPORAL}positional_embedding"]
        prefix = f"{TEMPORAL}transformer.resblocks."
        x = self.blocks(x, prefix, self.cfg.temporal, 1e-6, lambda x: x * (1.702 * x).sigmoid())
        x = self.linear(self.norm(x, f"{TEMPORAL}ln_final", 1e-6), f"{TEMPORAL}output_proj")
        x = x.unflatten(0, (batch, patches)).permute(0, 2, 3, 1).flatten(0, 1)
        x = x.unflatten(-1, (self.cfg.grid, self.cfg.grid))
        x = F.adaptive_avg_pool2d(x, self.cfg.pool).flatten(2).transpose(1, 2)
        return self.norm(x.unflatten(0, (batch, number)), "norm", 1e-6)

    def tokens(self, pooled):
        """Tokens, (b, q, d)."""
        part = self.cfg.space_time
        x = pooled + self.state[f"{PROJECT}pos_embed_spatial"]
        x = (x + self.state[f"{PROJECT}pos_embed_temporal"][:, None]).flatten(1, 2)
        for i in range(part.num_layers):
            at = f"{PROJECT}blocks.{i}"
            qkv = self.linear(self.norm(x, f"{at}.norm1", 1e-6), f"{at}.attn.qkv")
            x = x + self.linear(self.attention(x, qkv, part.num_heads), f"{at}.attn.proj")
            up = F.gelu(self.linear(self.norm(x, f"{at}.norm2", 1e-6), f"{at}.mlp.fc1"))
            x = x + self.linear(up, f"{at}.mlp.fc2")
        x = self.norm(x, f"{PROJECT}norm", 1e-5).numpy()
        return resampler.reference(self.cfg.resampler, self.state, x)

    def __call__(self, frames):
        """Returns features, pooled states and tokens."""
        features = self.features(frames)
        pooled = self.pooled(features)
        return tuple(np.asarray(x) for x in (features, pooled, self.tokens(pooled)))
