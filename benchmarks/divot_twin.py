# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The trained parts of Divot's tokenizer from the layers of PyTorch, as fast as it has them."""

import torch
from torch import nn
from torch.nn import functional as F

from mimir_jax.config import (
    DivotTokenizerConfig,
    ResamplerConfig,
    SpaceTimeConfig,
    TemporalConfig,
)


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """The activation of CLIP."""
    return x * torch.sigmoid(1.702 * x)


def block(cfg: TemporalConfig | SpaceTimeConfig, activation) -> nn.Module:
    """Returns a pre-norm block."""
    return nn.TransformerEncoderLayer(
        cfg.width, cfg.num_heads, cfg.mlp_dim, dropout=0.0, activation=activation,
        layer_norm_eps=cfg.norm_eps, batch_first=True, norm_first=True,
    )  # fmt: skip


class ResamplerAttention(nn.Module):
    """Attention of the queries to the states and to themselves."""

    def __init__(self, cfg: ResamplerConfig):
        super().__init__()
        inner, self.heads = cfg.num_heads * cfg.head_dim, cfg.num_heads
        self.norm1, self.norm2 = nn.LayerNorm(cfg.width), nn.LayerNorm(cfg.width)
        self.to_q = nn.Linear(cfg.width, inner, bias=False)
        self.to_kv = nn.Linear(cfg.width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, cfg.width, bias=False)

    def forward(self, states: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Returns what is added to the queries."""
        queries = self.norm2(queries)
        keys = torch.cat([self.norm1(states), queries], 1)
        k, v = self.to_kv(keys).chunk(2, -1)
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.to_q(queries), k, v)
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(h.transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """States to queries."""

    def __init__(self, cfg: ResamplerConfig):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, cfg.num_queries, cfg.width) * cfg.width**-0.5)
        self.proj_in = nn.Linear(cfg.in_width, cfg.width)
        self.proj_out = nn.Linear(cfg.width, cfg.out_width)
        self.norm_out = nn.LayerNorm(cfg.out_width)
        self.layers = nn.ModuleList(
            nn.ModuleList([
                ResamplerAttention(cfg),
                nn.Sequential(
                    nn.LayerNorm(cfg.width),
                    nn.Linear(cfg.width, cfg.mlp_dim, bias=False),
                    nn.GELU(),
                    nn.Linear(cfg.mlp_dim, cfg.width, bias=False),
                ),
            ])
            for _ in range(cfg.num_layers)
        )  # fmt: skip

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns the tokens."""
        states = self.proj_in(states)
        x = self.latents.expand(len(states), -1, -1)
        for attention, mlp in self.layers:
            x = x + attention(states, x)
            x = x + mlp(x)
        return self.norm_out(self.proj_out(x))


class Tokenizer(nn.Module):
    """Everything behind the image tower."""

    def __init__(self, cfg: DivotTokenizerConfig):
        super().__init__()
        part, width = cfg.temporal, cfg.space_time.width
        self.cfg = cfg
        self.input_proj = nn.Linear(cfg.vit.width, part.width)
        self.positional_embedding = nn.Parameter(torch.randn(cfg.frames, part.width) * 0.1)
        self.temporal = nn.ModuleList(block(part, quick_gelu) for _ in range(part.num_layers))
        self.ln_final = nn.LayerNorm(part.width, eps=part.norm_eps)
        self.output_proj = nn.Linear(part.width, width)
        self.norm = nn.LayerNorm(width, eps=cfg.space_time.norm_eps)
        self.pos_embed_spatial = nn.Parameter(torch.randn(cfg.pool**2, width) * 0.1)
        self.pos_embed_temporal = nn.Parameter(torch.randn(cfg.frames, width) * 0.1)
        layers = cfg.space_time.num_layers
        self.blocks = nn.ModuleList(block(cfg.space_time, F.gelu) for _ in range(layers))
        self.last_norm = nn.LayerNorm(width)
        self.resampler = Resampler(cfg.resampler)

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Features (b, f, p, d) to pooled states (b, f, k, e)."""
        cfg, (batch, frames, patches, _) = self.cfg, x.shape
        x = self.input_proj(x.transpose(1, 2).flatten(0, 1)) + self.positional_embedding
        for layer in self.temporal:
            x = layer(x)
        x = self.output_proj(self.ln_final(x)).unflatten(0, (batch, patches))
        x = x.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (cfg.grid, cfg.grid))
        x = F.adaptive_avg_pool2d(x, cfg.pool).flatten(2).transpose(1, 2)
        return self.norm(x.unflatten(0, (batch, frames)))

    def space_time(self, x: torch.Tensor) -> torch.Tensor:
        """Pooled states to those that the resampler reads."""
        x = x + self.pos_embed_spatial + self.pos_embed_temporal[:, None]
        x = x.flatten(1, 2)
        for layer in self.blocks:
            x = layer(x)
        return self.last_norm(x)
