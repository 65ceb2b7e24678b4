# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaVA (arXiv 2310.03744): a CLIP tower, a two-layer projector and a text decoder.

    pixel_values -> ViT -> states of a layer -> linear, GELU, linear --+
    input_ids ------------------------------> embeddings -- replace ---+-> LLM -> states, logits

A prompt holds the image token once for each feature of an image, 576 times at 336 pixels. These
positions take the projected features in order: images as they come, row by row of the batch.
Everything is causal, and positions are plain.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import LlavaConfig
from mimir_jax.errors import require
from mimir_jax.models import layers, llm, vit
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain

Images = Float[Array, "n height width c"] | None


class Projector(nnx.Module):
    """Two linears with exact GELU between them, from states of the tower to the decoder's width."""

    def __init__(self, cfg: LlavaConfig, *, rngs: Rngs):
        inputs, width = cfg.vit.width * len(cfg.vision_layers), cfg.llm.width
        options = dict(bias=cfg.projector_bias, dtype=cfg.dtype, rngs=rngs)
        self.up = layers.Linear(inputs, width, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(width, width, axes=("mlp", "embed"), **options)

    def __call__(self, states: Float[Array, "n p d"]) -> Float[Array, "n p e"]:
        """Projects the states of images."""
        h = jax.nn.gelu(self.up(states), approximate=False)
        return self.down(constrain(h, "act_batch", "act_length", "act_mlp"))


class Llava(nnx.Module):
    """Prompts with images to states and next-token scores.

    Methods take `layer` to choose the states they return, counted as transformers counts
    `hidden_states`; see `models.llm.LLM`. Images come normalised, with channels last; see
    `encoders.images`.
    """

    def __init__(self, cfg: LlavaConfig, *, rngs: Rngs):
        self.vit = vit.ViT(cfg.vit, rngs=rngs)
        self.projector = Projector(cfg, rngs=rngs)
        self.llm = llm.LLM(cfg.llm, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self,
        input_ids: Int[Array, "b t"],
        attention_mask: llm.Mask = None,
        pixel_values: Images = None,
        *,
        layer: int = -1,
    ) -> llm.Output:
        """Reads a batch of prompts; padding may be on either side.

        Args:
            input_ids: Token ids, with `tokens_per_image` image tokens for each image.
            attention_mask: True or 1 at real tokens; None when all are.
            pixel_values: The images of all rows, in the order of their tokens; None without any.
            layer: Which states to return.

        Raises:
            InputError: for images of another size than the tower's, or another number of them
                than there are image tokens. Under `jax.jit` tokens cannot be counted before the
                program runs; a wrong number then makes every state NaN.
        """
        return self.llm(
            None, attention_mask, embeddings=self.embed(input_ids, pixel_values), layer=layer
        )

    def encode(
        self,
        input_ids: Int[Array, "b t"],
        attention_mask: llm.Mask = None,
        pixel_values: Images = None,
        *,
        layer: int = -1,
    ) -> Float[Array, "b t d"]:
        """Returns the states of `__call__` alone, without the cost of the logits."""
        embeddings = self.embed(input_ids, pixel_values)
        return self.llm.encode(None, attention_mask, embeddings=embeddings, layer=layer)

    def hidden_states(
        self,
        input_ids: Int[Array, "b t"],
        attention_mask: llm.Mask = None,
        pixel_values: Images = None,
    ) -> Float[Array, "layers b t d"]:
        """Returns the states of all layers, as `hidden_states` of transformers: the embeddings,
        the output of each block, and in place of the last block's output that after the norm.
        """
        embeddings = self.embed(input_ids, pixel_values)
        return self.llm.hidden_states(None, attention_mask, embeddings=embeddings)

    def project(self, pixel_values: Float[Array, "n height width c"]) -> Float[Array, "n p d"]:
        """Returns the features of images at the width of the decoder, row by row of patches."""
        states = self.vit.features(pixel_values, self.cfg.vision_layers)
        return self.projector(states if self.cfg.class_token else states[:, 1:])

    def embed(
        self, input_ids: Int[Array, "b t"], pixel_values: Images = None
    ) -> Float[Array, "b t d"]:
        """Returns the inputs of the decoder: embeddings, and features at image tokens."""
        number = 0 if pixel_values is None else len(pixel_values)
        check_images(input_ids, number, self.cfg)
        is_image = input_ids == self.cfg.image_token
        embeddings = self.llm.embed_tokens(input_ids)
        if number:
            features = rearrange(self.project(pixel_values), "n p d -> (n p) d")
            index = jnp.cumsum(is_image.reshape(-1)).reshape(is_image.shape) - 1
            placed = features[jnp.clip(index, 0, len(features) - 1)].astype(embeddings.dtype)
            embeddings = jnp.where(is_image[..., None], placed, embeddings)
        fits = jnp.sum(is_image) == number * self.cfg.tokens_per_image
        embeddings = jnp.where(fits, embeddings, jnp.nan)
        return constrain(embeddings, "act_batch", "act_length", "act_embed")


def check_images(input_ids: Int[Array, "b t"], number: int, cfg: LlavaConfig) -> None:
    """Checks that there is an image for every run of image tokens; ids under `jit` pass.

    Args:
        input_ids: Token ids.
        number: Images that are given.
        cfg: The network.

    Raises:
        InputError: if there are fewer or more.
    """
    if isinstance(input_ids, jax.core.Tracer):
        return
    found, each = int((input_ids == cfg.image_token).sum()), cfg.tokens_per_image
    require(
        found == number * each,
        f"input_ids must hold {each} image tokens ({cfg.image_token}) for each image, got "
        f"{found} for {number}; give {found / each:g} or change the prompt",
    )
