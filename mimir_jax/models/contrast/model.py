# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frames and captions in one space, trained by contrast (CLIP, arXiv 2103.00020).

The text encoder is frozen, so a small network on the mean of its states takes the place of CLIP's
text tower. An image is the mean of the states of its patches, because those are what a tokenizer of
clips reads; CLIP takes the class token.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import ContrastConfig
from mimir_jax.models import layers, vit
from mimir_jax.models.divot import tokenizer
from mimir_jax.models.rngs import Rngs

MAX_SCALE = 100.0
"""Largest scale of the similarities, as in CLIP."""


class Contrast(nnx.Module):
    """Embeds frames and captions on the unit sphere."""

    def __init__(self, cfg: ContrastConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.vit.dtype, rngs=rngs)
        self.vit = vit.ViT(cfg.vit, rngs=rngs)
        self.image_norm = layers.LayerNorm(cfg.vit.width, eps=cfg.vit.norm_eps, **options)
        self.image = layers.Linear(cfg.vit.width, cfg.width, axes=("embed", None), **options)
        self.text_in = layers.Linear(cfg.text_width, cfg.width, axes=(None, "embed"), **options)
        self.text_out = layers.Linear(cfg.width, cfg.width, axes=("embed", None), **options)
        start = nnx.initializers.constant(-math.log(cfg.temperature))
        self.log_scale = layers.param((1,), (None,), start, rngs=rngs)
        self.cfg = cfg

    def embed_images(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns the embeddings of images in [-1, 1], of unit length."""
        states = self.vit(tokenizer.prepare(images, self.cfg.vit))[:, 1:]
        return _unit(self.image(self.image_norm(states.mean(axis=1))))

    def embed_texts(
        self, states: Float[Array, "b l t"], mask: Bool[Array, "b l"]
    ) -> Float[Array, "b d"]:
        """Returns the embeddings of captions, of unit length.

        Args:
            states: States of the text encoder.
            mask: True at the tokens of the caption.
        """
        weights = mask[..., None].astype(states.dtype)
        mean = (states * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1)
        return _unit(self.text_out(vit.gelu(self.text_in(mean))))

    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        states: Float[Array, "b l t"],
        mask: Bool[Array, "b l"],
    ) -> Float[Array, "b b"]:
        """Returns the scaled similarity of every image (rows) with every caption (columns)."""
        scale = jnp.minimum(jnp.exp(self.log_scale[...]), MAX_SCALE)
        similarity = self.embed_images(images) @ self.embed_texts(states, mask).T
        return scale[None] * similarity.astype(jnp.float32)


def _unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-12))
