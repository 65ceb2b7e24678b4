# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Video U-Net of DynamiCrafter (arXiv 2310.12190), with the input of Divot (arXiv 2412.04432).

It predicts the velocity of noisy latents from a timestep, the frame stride and context rows. Divot
has 125 of these, of which the first 77 go to the attention that was trained on text. Statistics
over time make a clip one piece: it cannot be processed frame by frame.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.errors import require
from mimir_jax.models import convolution, functional, layers
from mimir_jax.models.rngs import Rngs
from mimir_jax.models.unet import blocks
from mimir_jax.models.unet.config import UNetConfig
from mimir_jax.models.unet.transformer import Transformer, split_context
from mimir_jax.parallel.context import constrain

_GROUP_EPS = 1e-5


class UNet(nnx.Module):
    """Noisy latents to velocity."""

    def __init__(self, cfg: UNetConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        embedding = dict(in_dim=cfg.width, width=cfg.time_width, **options)
        self.time = layers.TimeEmbedding(**embedding)
        self.stride = layers.TimeEmbedding(**embedding, out_init=layers.zeros)
        self.conv_in = convolution.Conv2d(cfg.in_channels, cfg.width, **options)
        self.first = Transformer(cfg.width, "frames", cfg, heads=cfg.first_heads, rngs=rngs)
        self.down, skips = _way_down(cfg, rngs)
        self.middle = blocks.Middle(cfg.widths[-1], cfg, rngs=rngs)
        self.up = _way_up(cfg, skips, rngs)
        self.norm_out = layers.GroupNorm(cfg.width, cfg.norm_groups, eps=_GROUP_EPS, **options)
        self.conv_out = convolution.Conv2d(
            cfg.width, cfg.out_channels, init=layers.zeros, **options
        )
        self.cfg = cfg

    def __call__(
        self,
        latents: Float[Array, "b t h w c"],
        context: Float[Array, "b l d"],
        timestep: Int[Array, " b"] | Float[Array, " b"],
        fs: Int[Array, " b"],
    ) -> Float[Array, "b t h w o"]:
        """Predicts the velocity in the compute dtype.

        Args:
            latents: Noisy scaled latents; height and width are multiples of `cfg.reduction`.
            context: Rows that the pixels attend to; the first `text_length` as text, those behind
                as image, by `split_context`. None behind leave the text alone.
            timestep: Timestep of each clip.
            fs: Stride between the frames of each clip in its source; Divot always has 3.

        Raises:
            InputError: for latents or context of another shape.
        """
        _check(self.cfg, latents.shape, context.shape)
        rows = split_context(self.cfg, context, latents.shape[1])
        time = self.time(timestep) + self.stride(fs)  # (b, e)
        x = self.first(self.conv_in(latents), rows)
        skips = [x]
        for level in self.down.values():
            for step in level.steps.values():
                x = step(x, time, rows)
                skips.append(x)
            if level.resample is not None:
                x = level.resample(x)
                skips.append(x)
        x = self.middle(x, time, rows)
        for level in self.up.values():
            for step in level.steps.values():
                x = step(jnp.concatenate([x, skips.pop()], axis=-1), time, rows)
            if level.resample is not None:
                x = level.resample(convolution.upsample(x))
        x = self.conv_out(jax.nn.silu(layers.per_frame(self.norm_out, x)))
        return constrain(x, "act_batch", "act_frames", "act_height", "act_width", "act_channels")


def _way_down(cfg: UNetConfig, rngs: Rngs) -> tuple[nnx.Dict, list[int]]:
    """Returns the levels from the pixels inwards, and the channels of every skip connection."""
    half = dict(stride=2, padding=((1, 1), (1, 1)), dtype=cfg.dtype, rngs=rngs)
    levels, skips, dim = [], [cfg.width], cfg.width
    for index, (width, attention) in enumerate(zip(cfg.widths, cfg.attended, strict=True)):
        steps = []
        for _ in range(cfg.blocks_per_level):
            steps.append(blocks.Step(dim, width, cfg, attention=attention, rngs=rngs))
            dim = width
        skips += [width] * cfg.blocks_per_level
        last = index == len(cfg.widths) - 1
        levels.append(blocks.Level(steps, None if last else convolution.Conv2d(dim, dim, **half)))
        skips += [] if last else [dim]
    return functional.named(levels), skips


def _way_up(cfg: UNetConfig, skips: list[int], rngs: Rngs) -> nnx.Dict:
    """Returns the levels from the smallest size outwards; each step reads one skip connection."""
    levels, dim, skips = [], cfg.widths[-1], list(skips)
    for width, attention in zip(cfg.widths[::-1], cfg.attended[::-1], strict=True):
        steps = []
        for _ in range(cfg.blocks_per_level + 1):
            steps.append(blocks.Step(dim + skips.pop(), width, cfg, attention=attention, rngs=rngs))
            dim = width
        conv = convolution.Conv2d(dim, dim, dtype=cfg.dtype, rngs=rngs) if len(skips) else None
        levels.append(blocks.Level(steps, conv))
    return functional.named(levels)


def _check(cfg: UNetConfig, latents: tuple[int, ...], context: tuple[int, ...]) -> None:
    require(
        latents[-1] == cfg.in_channels,
        f"latents must have in_channels={cfg.in_channels} channels, got {latents[-1]}; put them "
        "last",
    )
    require(
        not any(side % cfg.reduction for side in latents[2:4]),
        f"height and width of latents must be multiples of {cfg.reduction}, got {latents[2]} x "
        f"{latents[3]}; resize or crop the clip",
    )
    require(
        context[-1] == cfg.context_width and context[1] > 0,
        f"context must have rows of context_width={cfg.context_width}, got {context[1]} of "
        f"{context[-1]}; use the resampler that belongs to the U-Net",
    )
