# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer of Divot (arXiv 2412.04432): five frames of a clip to 64 continuous tokens.

    frames -> resize, normalise -> ViT -> temporal transformer -> pool, norm
           -> space-time transformer -> resampler -> tokens

In an ablation of the paper, tokens are tied to patches: the resampler makes way for a mean over
neighbouring patches of each frame, a linear and a norm (D-U14).

The image tower is a frozen CLIP under `vit/` of the parameters; all else is trained.
"""

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from mimir_jax.config import DivotTokenizerConfig, ViTConfig
from mimir_jax.errors import require
from mimir_jax.models import functional, layers, resize, vit
from mimir_jax.models.resampler import Resampler
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
"""Mean and deviation of the colours of CLIP's images, in 0..1."""


class TemporalTransformer(nnx.Module):
    """Self-attention over the frames of each patch.

    From a zero start (D-U3) its blocks are the identity and its output is zero. The norm behind it
    has a slope of about 1000 there, so train with Adam and a warm-up.
    """

    def __init__(self, cfg: DivotTokenizerConfig, *, rngs: Rngs):
        part = cfg.temporal
        width, options = part.width, dict(dtype=part.dtype, rngs=rngs)
        zero = part.start == "zero"
        copies, out = (_identity, layers.zeros) if zero else (layers.fan_in,) * 2
        std = part.position_std
        if std is None:
            std = 0.0 if zero else 0.01
        self.into = layers.Linear(
            cfg.vit.width, width, axes=(None, "embed"), init=copies, **options
        )
        start = nnx.initializers.normal(std)
        self.positions = layers.param((cfg.frames, width), (None, "embed"), start, rngs=rngs)
        self.blocks = functional.Stack(
            lambda *, rngs: vit.Block(
                width,
                part.num_heads,
                part.mlp_dim,
                activation="quick_gelu",
                norm_eps=part.norm_eps,
                out_init=out,
                dtype=part.dtype,
                rngs=rngs,
            ),
            part.num_layers,
            part.remat,
            rngs=rngs,
        )
        self.norm = layers.LayerNorm(width, eps=part.norm_eps, **options)
        self.out = layers.Linear(
            width, cfg.space_time.width, axes=("embed", None), init=out, **options
        )

    def __call__(self, x: Float[Array, "b f p d"]) -> Float[Array, "b f p e"]:
        """Mixes the frames of every patch."""
        batch = len(x)
        x = self.into(rearrange(x, "b f p d -> (b p) f d"))
        x = x + self.positions[...].astype(x.dtype)[None]
        x, _ = self.blocks(lambda block, x, _: (block(x), None), x)
        return rearrange(self.out(self.norm(x)), "(b p) f e -> b f p e", b=batch)


class SpaceTimeTransformer(nnx.Module):
    """Self-attention over the pooled patches of all frames."""

    def __init__(self, cfg: DivotTokenizerConfig, *, rngs: Rngs):
        part = cfg.space_time
        width, axes = part.width, (None, "embed")
        std = width**-0.5 if part.position_std is None else part.position_std
        start = nnx.initializers.normal(std)
        self.space_positions = layers.param((cfg.pool**2, width), axes, start, rngs=rngs)
        self.time_positions = layers.param((cfg.frames, width), axes, start, rngs=rngs)
        self.blocks = functional.Stack(
            lambda *, rngs: vit.Block(
                width,
                part.num_heads,
                part.mlp_dim,
                activation="gelu",
                norm_eps=part.norm_eps,
                dtype=part.dtype,
                rngs=rngs,
            ),
            part.num_layers,
            part.remat,
            rngs=rngs,
        )
        self.norm = layers.LayerNorm(width, eps=part.out_norm_eps, dtype=part.dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "b f p e"]) -> Float[Array, "b f*p e"]:
        """Returns the states of all patches, frame by frame."""
        positions = self.time_positions[...][:, None] + self.space_positions[...][None]
        x = x + positions[None].astype(x.dtype)
        x = constrain(rearrange(x, "b f p e -> b (f p) e"), "act_batch", "act_length", "act_embed")
        x, _ = self.blocks(lambda block, x, _: (block(x), None), x)
        return self.norm(x)


class PatchTokens(nnx.Module):
    """Tokens that stand for places of frames, frame by frame and row by row (D-U14)."""

    def __init__(self, cfg: DivotTokenizerConfig, *, rngs: Rngs):
        part, options = cfg.resampler, dict(dtype=cfg.dtype, rngs=rngs)
        self.out = layers.Linear(part.in_width, part.out_width, axes=("embed", None), **options)
        self.norm = layers.LayerNorm(part.out_width, eps=part.norm_eps, **options)
        self.cfg = cfg

    def __call__(self, states: Float[Array, "b l e"]) -> Float[Array, "b q d"]:
        """Returns one token for each cell of `token_pool` x `token_pool` patches of a frame."""
        cfg = self.cfg
        x = rearrange(states, "b (f h w) e -> b f h w e", f=cfg.frames, h=cfg.pool)
        x = resize.average(x, cfg.token_pool, cfg.token_pool)
        return self.norm(self.out(rearrange(x, "b f h w e -> b (f h w) e")))


class DivotTokenizer(nnx.Module):
    """Frames in -1..1 to the tokens of their clip.

    `__call__` is `encode(features(frames))`. Training may store the features, as the image tower
    never changes.
    """

    def __init__(self, cfg: DivotTokenizerConfig, *, rngs: Rngs):
        part = cfg.space_time
        self.vit = vit.ViT(cfg.vit, rngs=rngs)
        self.temporal = TemporalTransformer(cfg, rngs=rngs)
        self.norm = layers.LayerNorm(part.width, eps=part.norm_eps, dtype=part.dtype, rngs=rngs)
        self.space_time = SpaceTimeTransformer(cfg, rngs=rngs)
        if cfg.tokens == "patches":
            self.patches = PatchTokens(cfg, rngs=rngs)
        else:
            self.resampler = Resampler(cfg.resampler, rngs=rngs)
        self.cfg = cfg

    def __call__(self, frames: Float[Array, "b f h w c"]) -> Float[Array, "b q d"]:
        """Returns the tokens of clips.

        Args:
            frames: `config.frames` frames of each clip in -1..1, of any height and width; or one
                frame, an image that stands still for as long.

        Raises:
            InputError: for another number of frames or channels.
        """
        return self.encode(self.features(frames))

    def features(self, frames: Float[Array, "b f h w c"]) -> Float[Array, "b t p d"]:
        """Returns what the image tower sees in every frame: the states of its patches, row by row.

        Frames are resized (bicubic, corners aligned) where the tower reads another size, and
        normalised as CLIP's images are; values beyond -1..1 that the resizing makes stay.
        """
        cfg = self.cfg
        batch, number, *_, channels = frames.shape
        require(
            number in (1, cfg.frames) and channels == 3,
            f"frames must have {cfg.frames} frames (or one) along axis 1 and 3 channels along axis "
            f"4, got shape {tuple(frames.shape)}; pick as many frames",
        )
        images = rearrange(frames, "b f h w c -> (b f) h w c")
        states = self.vit(prepare(images, cfg.vit))[:, 1:]  # without the class token
        states = rearrange(states, "(b f) p d -> b f p d", b=batch)
        return jnp.broadcast_to(states, (batch, cfg.frames, *states.shape[2:]))

    def pooled(self, features: Float[Array, "b f p d"]) -> Float[Array, "b f k e"]:
        """Returns the states that the space-time transformer reads: `pool` x `pool` per frame."""
        cfg = self.cfg
        x = self.temporal(features)
        x = rearrange(x, "b f (h w) e -> b f h w e", h=cfg.grid)
        x = resize.average(x, cfg.pool, cfg.pool)
        return self.norm(rearrange(x, "b f h w e -> b f (h w) e"))

    def encode(self, features: Float[Array, "b f p d"]) -> Float[Array, "b q d2"]:
        """Returns the tokens of clips from the `features` of their frames."""
        states = self.space_time(self.pooled(features))
        return self.patches(states) if self.cfg.tokens == "patches" else self.resampler(states)


def prepare(images: Float[Array, "b h w 3"], cfg: ViTConfig) -> Float[Array, "b h2 w2 3"]:
    """Resizes images in -1..1 to the size of an image tower, and normalises them as CLIP's are."""
    images = images.astype(jnp.float32)
    if images.shape[1:3] != (cfg.image_size,) * 2:
        images = resize.bicubic(images, *(cfg.image_size,) * 2, align_corners=True)
    mean, std = (layers.along_last(jnp.asarray(x), images) for x in (MEAN, STD))
    return (((images + 1) / 2 - mean) / std).astype(cfg.dtype)


def _identity(key: PRNGKeyArray, shape: tuple[int, int], dtype: DTypeLike) -> Float[Array, "i o"]:
    """Returns a kernel that copies its first inputs, as many as there are outputs."""
    del key
    return jnp.eye(*shape, dtype=dtype)
