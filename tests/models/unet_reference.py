# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The video U-Net of DynamiCrafter in torch, by rule, under the names of the public tensors."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from mimir_jax.config import UNetConfig


def fold(x):
    """[b, c, t, h, w] to frames [b t, c, h, w]."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x, frames):
    """Frames to [b, c, t, h, w]."""
    return x.unflatten(0, (-1, frames)).transpose(1, 2)


class TemporalConv(nn.Module):
    """Four normed convolutions over three frames, added to the input."""

    def __init__(self, dim, cfg):
        super().__init__()
        for name, last in (("conv1", 2), ("conv2", 3), ("conv3", 3), ("conv4", 3)):
            layers = [nn.GroupNorm(cfg.norm_groups, dim, eps=1e-5), nn.SiLU()]
            layers += [nn.Identity()] * (last - 2)
            layers += [nn.Conv3d(dim, dim, (3, 1, 1), padding=(1, 0, 0))]
            setattr(self, name, nn.Sequential(*layers))

    def forward(self, x):
        return x + self.conv4(self.conv3(self.conv2(self.conv1(x))))


class R(nn.Module):
    """Residual block."""

    def __init__(self, in_dim, dim, cfg):
        super().__init__()
        conv = dict(kernel_size=3, padding=1)
        norm = lambda size: nn.GroupNorm(cfg.norm_groups, size, eps=1e-5)  # noqa: E731
        self.in_layers = nn.Sequential(norm(in_dim), nn.SiLU(), nn.Conv2d(in_dim, dim, **conv))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * cfg.width, dim))
        self.out_layers = nn.Sequential(
            norm(dim), nn.SiLU(), nn.Identity(), nn.Conv2d(dim, dim, **conv)
        )
        self.skip_connection = nn.Identity() if in_dim == dim else nn.Conv2d(in_dim, dim, 1)
        self.temopral_conv = TemporalConv(dim, cfg)

    def forward(self, x, time, context):
        frames = x.shape[2]
        x = fold(x)
        h = self.in_layers(x)
        h = h + self.emb_layers(time).repeat_interleave(frames, 0)[:, :, None, None]
        h = self.out_layers(h) + self.skip_connection(x)
        return self.temopral_conv(unfold(h, frames))


def attend(q, k, v, heads):
    """Softmax attention; no keys give zeros."""
    if not k.shape[1]:
        return torch.zeros_like(q)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Self-attention, or cross-attention to text and image rows."""

    def __init__(self, dim, heads, cfg, cross):
        super().__init__()
        linear = lambda size: nn.Linear(size, dim, bias=False)  # noqa: E731
        source = cfg.context_width if cross else dim
        self.to_q, self.to_k, self.to_v = linear(dim), linear(source), linear(source)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Identity())
        if cross:
            self.to_k_ip, self.to_v_ip = linear(source), linear(source)
            self.alpha = nn.Parameter(torch.tensor(0.0))
        self.heads, self.cross, self.text_length = heads, cross, cfg.text_length

    def forward(self, x, context):
        q = self.to_q(x)
        if not self.cross:
            return self.to_out(attend(q, self.to_k(x), self.to_v(x), self.heads))
        text, image = context[:, : self.text_length], context[:, self.text_length :]
        y = attend(q, self.to_k(text), self.to_v(text), self.heads)
        z = attend(q, self.to_k_ip(image), self.to_v_ip(image), self.heads)
        return self.to_out(y + (torch.tanh(self.alpha) + 1) * z)


class GEGLU(nn.Module):
    """Linear to a value and its gate."""

    def __init__(self, dim):
        super().__init__()
        self.proj = nn.Linear(dim, 8 * dim)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Gated feed-forward."""

    def __init__(self, dim):
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, x):
        return self.net(x)


class Block(nn.Module):
    """Transformer block."""

    def __init__(self, dim, heads, cfg, cross):
        super().__init__()
        self.attn1 = Attention(dim, heads, cfg, cross=False)
        self.attn2 = Attention(dim, heads, cfg, cross=cross)
        self.ff = FeedForward(dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x, context):
        x = x + self.attn1(self.norm1(x), context)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class S(nn.Module):
    """Spatial transformer."""

    def __init__(self, dim, cfg):
        super().__init__()
        self.norm = nn.GroupNorm(cfg.norm_groups, dim, eps=1e-6)
        self.proj_in, self.proj_out = nn.Linear(dim, dim), nn.Linear(dim, dim)
        block = Block(dim, dim // cfg.head_dim, cfg, cross=True)
        self.transformer_blocks = nn.ModuleList([block])

    def forward(self, x, time, context):
        frames, (height, width) = x.shape[2], x.shape[3:]
        x = fold(x)
        h = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        h = self.proj_out(self.transformer_blocks[0](h, context))
        x = x + h.transpose(1, 2).unflatten(2, (height, width))
        return unfold(x, frames)


class T(nn.Module):
    """Temporal transformer; the first one has convolutions around its block."""

    def __init__(self, dim, cfg, heads=None):
        super().__init__()
        inner = dim if heads is None else heads * cfg.head_dim
        self.norm = nn.GroupNorm(cfg.norm_groups, dim, eps=1e-6)
        make = nn.Linear if heads is None else (lambda i, o: nn.Conv1d(i, o, 1))
        self.proj_in, self.proj_out = make(dim, inner), make(inner, dim)
        block = Block(inner, inner // cfg.head_dim, cfg, cross=False)
        self.transformer_blocks = nn.ModuleList([block])
        self.conv = heads is not None

    def forward(self, x, time, context):
        batch, _, _, height, width = x.shape
        h = self.norm(x).permute(0, 3, 4, 1, 2).flatten(0, 2)  # (b h w, c, t)
        if self.conv:
            h = self.proj_in(h).transpose(1, 2)
            h = self.proj_out(self.transformer_blocks[0](h, None).transpose(1, 2))
        else:
            h = self.transformer_blocks[0](self.proj_in(h.transpose(1, 2)), None)
            h = self.proj_out(h).transpose(1, 2)
        h = h.unflatten(0, (batch, height, width)).permute(0, 3, 4, 1, 2)
        return x + h


class Down(nn.Module):
    """Convolution with stride two."""

    def __init__(self, dim):
        super().__init__()
        self.op = nn.Conv2d(dim, dim, 3, stride=2, padding=1)

    def forward(self, x, time, context):
        return unfold(self.op(fold(x)), x.shape[2])


class Up(nn.Module):
    """Nearest doubling and a convolution."""

    def __init__(self, dim):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x, time, context):
        h = F.interpolate(fold(x), scale_factor=2, mode="nearest")
        return unfold(self.conv(h), x.shape[2])


class Frames(nn.Conv2d):
    """Convolution of every frame."""

    def forward(self, x, time, context):
        return unfold(super().forward(fold(x)), x.shape[2])


def embedding(width):
    """MLP behind a sinusoid."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))


def sinusoid(values, width):
    """[cos, sin] of a value at falling frequencies."""
    freqs = torch.exp(-math.log(10000.0) * torch.arange(width // 2) / (width // 2))
    angles = values.float()[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], -1)


class UNet(nn.Module):
    """The whole, on [b, c, t, h, w]."""

    def __init__(self, cfg: UNetConfig):
        super().__init__()
        self.cfg = cfg
        self.time_embed, self.fps_embedding = embedding(cfg.width), embedding(cfg.width)
        self.init_attn = nn.ModuleList([T(cfg.width, cfg, cfg.first_heads)])
        self.input_blocks, self.output_blocks = nn.ModuleList(), nn.ModuleList()
        conv = Frames(cfg.in_channels, cfg.width, 3, padding=1)
        self.input_blocks.append(nn.ModuleList([conv]))
        skips, dim, levels = [cfg.width], cfg.width, len(cfg.widths)

        def step(in_dim, width, attention):
            more = [S(width, cfg), T(width, cfg)] if attention else []
            return nn.ModuleList([R(in_dim, width, cfg), *more])

        for level, width in enumerate(cfg.widths):
            for _ in range(cfg.blocks_per_level):
                self.input_blocks.append(step(dim, width, cfg.attended[level]))
                dim = width
                skips.append(dim)
            if level < levels - 1:
                self.input_blocks.append(nn.ModuleList([Down(dim)]))
                skips.append(dim)
        self.middle_block = nn.ModuleList(
            [R(dim, dim, cfg), S(dim, cfg), T(dim, cfg), R(dim, dim, cfg)]
        )
        for level in reversed(range(levels)):
            for i in range(cfg.blocks_per_level + 1):
                parts = step(dim + skips.pop(), cfg.widths[level], cfg.attended[level])
                dim = cfg.widths[level]
                if level and i == cfg.blocks_per_level:
                    parts.append(Up(dim))
                self.output_blocks.append(parts)
        self.out = nn.Sequential(
            nn.GroupNorm(cfg.norm_groups, dim, eps=1e-5),
            nn.SiLU(),
            nn.Conv2d(dim, cfg.out_channels, 3, padding=1),
        )

    def rows(self, context, frames):
        """Context rows of every frame."""
        split = self.cfg.text_length
        if context.shape[1] != split + self.cfg.frame_rows * frames:
            return context.repeat_interleave(frames, 0)
        text = context[:, :split].repeat_interleave(frames, 0)
        image = context[:, split:].unflatten(1, (frames, -1)).flatten(0, 1)
        return torch.cat([text, image], 1)

    def forward(self, x, context, timestep, fs):
        frames, width = x.shape[2], self.cfg.width
        time = self.time_embed(sinusoid(timestep, width)) + self.fps_embedding(sinusoid(fs, width))
        context, skips = self.rows(context, frames), []
        for index, parts in enumerate(self.input_blocks):
            for part in parts:
                x = part(x, time, context)
            if index == 0:
                x = self.init_attn[0](x, time, context)
            skips.append(x)
        for part in self.middle_block:
            x = part(x, time, context)
        for parts in self.output_blocks:
            x = torch.cat([x, skips.pop()], 1)
            for part in parts:
                x = part(x, time, context)
        return unfold(self.out(fold(x)), frames)


def randomize(model, seed=0):
    """Gives every parameter random values of a size that keeps activations near one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim < 2:
                value.copy_(("norm" in name or ".0.weight" in name) + 0.2 * noise)
            else:
                value.copy_(noise * value[0].numel() ** -0.5)
            if name.endswith("alpha"):
                value.copy_(0.5 + 0.2 * noise)
    return model.eval()


def make_reference(cfg: UNetConfig, seed: int = 0) -> UNet:
    """Returns the U-Net with random weights."""
    return randomize(UNet(cfg), seed)
