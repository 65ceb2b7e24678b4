# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP (arXiv 2103.00020): images and texts on one unit sphere.

An image is its class token, a text the state of its end token, each behind a norm and a linear map
without bias. The text tower is causal, so what pads a row after its end changes nothing.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.errors import require
from mimir_jax.models import functional, layers, vit
from mimir_jax.models.attention import text as text_attention
from mimir_jax.models.clip import config as config_lib
from mimir_jax.models.rngs import Rngs


class TextTower(nnx.Module):
    """Token ids to the state of their end token."""

    def __init__(self, cfg: config_lib.ClipTextConfig, *, rngs: Rngs):
        small = nnx.initializers.normal(0.02)
        self.tokens = layers.Embedding(cfg.vocab_size, cfg.width, dtype=cfg.dtype, rngs=rngs)
        self.positions = layers.param((cfg.length, cfg.width), (None, "embed"), small, rngs=rngs)
        self.blocks = functional.Stack(
            lambda *, rngs: vit.Block(
                cfg.width,
                cfg.num_heads,
                cfg.mlp_dim,
                activation=cfg.activation,
                norm_eps=cfg.norm_eps,
                dtype=cfg.dtype,
                rngs=rngs,
            ),
            cfg.num_layers,
            "none",
            rngs=rngs,
        )
        self.norm = layers.LayerNorm(cfg.width, eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.cfg = cfg

    def __call__(self, ids: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Returns the normed state at the end token of each row.

        Raises:
            InputError: for rows longer than the table of positions.
        """
        cfg, length = self.cfg, ids.shape[1]
        require(
            length <= cfg.length,
            f"texts must have at most {cfg.length} tokens, got {length}; cut them",
        )
        x = self.tokens(ids) + self.positions[...][:length][None].astype(cfg.dtype)
        at = jnp.arange(length)[None]
        mask = text_attention.causal_mask(at, at)
        x, _ = self.blocks(lambda block, x, _: (block(x, mask), None), x)
        oldest = cfg.eos_token == config_lib.OLD_EOS_TOKEN
        marks = ids if oldest else ids == cfg.eos_token
        end = jnp.argmax(marks, axis=1)  # the first of equals
        return self.norm(jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0])


class Clip(nnx.Module):
    """Embeds normalised images and token ids."""

    def __init__(self, cfg: config_lib.ClipConfig, *, rngs: Rngs):
        self.vit = vit.ViT(cfg.vit, rngs=rngs)
        self.text = TextTower(cfg.text, rngs=rngs)
        options = dict(axes=("embed", None), bias=False, rngs=rngs)
        self.image_projection = layers.Linear(
            cfg.vit.width, cfg.width, dtype=cfg.vit.dtype, **options
        )
        self.text_projection = layers.Linear(
            cfg.text.width, cfg.width, dtype=cfg.text.dtype, **options
        )
        start = nnx.initializers.constant(2.6592)  # 1 / 0.07
        self.log_scale = layers.param((), (), start, rngs=rngs)
        self.cfg = cfg

    def embed_images(self, images: Float[Array, "b height width c"]) -> Float[Array, "b d"]:
        """Returns the embeddings of normalised images, of unit length, in float32."""
        return _unit(self.image_projection(self.vit.pool(self.vit(images))))

    def embed_texts(self, ids: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Returns the embeddings of token ids, of unit length, in float32."""
        return _unit(self.text_projection(self.text(ids)))

    def __call__(
        self, images: Float[Array, "b height width c"], ids: Int[Array, "n l"]
    ) -> Float[Array, "b n"]:
        """Returns the scaled similarity of every image (rows) with every text (columns)."""
        scale = jnp.exp(self.log_scale[...].astype(jnp.float32))
        return (self.embed_images(images) @ self.embed_texts(ids).T) * scale[None, None]


def _unit(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x * x).sum(axis=-1, keepdims=True), 1e-24))
