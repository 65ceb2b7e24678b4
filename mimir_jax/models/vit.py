# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Vision transformer of CLIP (arXiv 2103.00020): ViT-L/14 at 336 pixels, OpenCLIP's ViT-H/14.

Patches and a class token, learned positions, a norm before the blocks, pre-norm blocks. The two
differ in sizes and in the activation: `quick_gelu` in CLIP, the exact GELU in OpenCLIP. DINO (arXiv
2104.14294) has no norm before the blocks and a bias at the patches. Images come normalised, with
channels last. The text tower of CLIP is made of the same blocks.

States are those of any layer, with the class token first and no norm after them, as
`CLIPVisionModel` of transformers returns them. LLaVA reads layer -2, Divot layer -1 (without the
last norm and the projection of OpenCLIP); both drop the class token.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import DType, ViTConfig
from mimir_jax.errors import require
from mimir_jax.models import functional, layers, resize
from mimir_jax.models.attention import text
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain


def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """GELU with the error function, not its tanh approximation."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """The approximation of GELU that CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": gelu, "quick_gelu": quick_gelu}


class Attention(nnx.Module):
    """Self-attention with fused q, k, v and biases."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        out_init: layers.Initializer = layers.fan_in,
        dtype: DType,
        rngs: Rngs,
    ):
        options = dict(dtype=dtype, rngs=rngs)
        self.qkv = layers.Linear(width, 3 * width, axes=("embed", "heads"), **options)
        self.out = layers.Linear(width, width, axes=("heads", "embed"), init=out_init, **options)
        self.num_heads = num_heads

    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "#b 1 #l l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Attends over `x`, where `mask` (queries, keys) allows it."""
        parts = rearrange(self.qkv(x), "b l (part n h) -> part b l n h", part=3, n=self.num_heads)
        q, k, v = parts
        h = text.attend(q, k, v, scale=q.shape[-1] ** -0.5, mask=mask)
        return self.out(rearrange(h, "b l n h -> b l (n h)"))


class Mlp(nnx.Module):
    """Feed-forward half of a block."""

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        activation: Literal["quick_gelu", "gelu"],
        *,
        out_init: layers.Initializer = layers.fan_in,
        dtype: DType,
        rngs: Rngs,
    ):
        options = dict(dtype=dtype, rngs=rngs)
        self.up = layers.Linear(width, mlp_dim, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(mlp_dim, width, axes=("mlp", "embed"), init=out_init, **options)
        self.activation = activation

    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Applies the activation between the two linears."""
        h = ACTIVATIONS[self.activation](self.up(x))
        return self.down(constrain(h, "act_batch", "act_length", "act_mlp"))


class Block(nnx.Module):
    """Pre-norm self-attention and feed-forward.

    `out_init` draws the kernels that write to the residual stream.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        activation: Literal["quick_gelu", "gelu"],
        norm_eps: float,
        out_init: layers.Initializer = layers.fan_in,
        dtype: DType,
        rngs: Rngs,
    ):
        options = dict(dtype=dtype, rngs=rngs)
        self.attention_norm = layers.LayerNorm(width, eps=norm_eps, **options)
        self.attention = Attention(width, num_heads, out_init=out_init, **options)
        self.mlp_norm = layers.LayerNorm(width, eps=norm_eps, **options)
        self.mlp = Mlp(width, mlp_dim, activation, out_init=out_init, **options)

    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "#b 1 #l l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Adds both halves to the residual stream."""
        x = x + self.attention(self.attention_norm(x), mask)
        x = x + self.mlp(self.mlp_norm(x))
        return constrain(x, "act_batch", "act_length", "act_embed")


class ViT(nnx.Module):
    """Normalised images to the states of their class token and patches."""

    def __init__(self, cfg: ViTConfig, *, rngs: Rngs):
        inputs = cfg.in_channels * cfg.patch**2
        small = nnx.initializers.normal(0.02)
        norm = dict(eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.patch = layers.Linear(
            inputs, cfg.width, axes=(None, "embed"), bias=cfg.patch_bias, dtype=cfg.dtype, rngs=rngs
        )
        self.class_token = layers.param((cfg.width,), ("embed",), small, rngs=rngs)
        rows = 1 + (cfg.image_size // cfg.patch) ** 2
        self.positions = layers.param((rows, cfg.width), (None, "embed"), small, rngs=rngs)
        self.pre_norm = layers.LayerNorm(cfg.width, **norm) if cfg.pre_norm else None
        self.blocks = functional.Stack(
            lambda *, rngs: Block(
                cfg.width,
                cfg.num_heads,
                cfg.mlp_dim,
                activation=cfg.activation,
                norm_eps=cfg.norm_eps,
                dtype=cfg.dtype,
                rngs=rngs,
            ),
            cfg.num_layers,
            cfg.remat,
            rngs=rngs,
        )
        self.post_norm = layers.LayerNorm(cfg.width, **norm) if cfg.post_norm else None
        self.cfg = cfg

    def __call__(
        self,
        images: Float[Array, "b height width c"],
        *,
        layer: int = -1,
        interpolate: bool = False,
    ) -> Float[Array, "b l d"]:
        """Returns the states of the class token, then of the patches, row by row.

        Args:
            images: Normalised images. Rows and columns after the last whole patch are not read.
            layer: Which states, counted as transformers counts `hidden_states`: 0 is what the first
                block reads, `i` the output of block `i`, and -1 that of the last. Later blocks do
                not run.
            interpolate: Whether to take images of any size, resizing the table of positions
                (bicubic, as transformers does), rather than those of `image_size` alone.

        Raises:
            InputError: for images or a layer that do not fit the network.
        """
        num_layers = self.cfg.num_layers
        wanted = functional.layer_index(layer, num_layers)

        def body(block: Block, x: Array, index: Array | None) -> tuple[Array, None]:
            if index is None:
                return block(x), None
            return jax.lax.cond(index < wanted, lambda: block(x), lambda: x), None

        x = self._start(images, interpolate)
        indices = None if wanted == num_layers else jnp.arange(num_layers, dtype=jnp.int32)
        return self.blocks(body, x, indices)[0]

    def features(
        self, images: Float[Array, "b height width c"], layers: tuple[int, ...]
    ) -> Float[Array, "b l d"]:
        """Returns the states of several layers side by side, as some LLaVAs read them.

        Args:
            images: Normalised images.
            layers: Which states, in the order of the result; see `__call__`.
        """
        if len(layers) == 1:
            return self(images, layer=layers[0])
        wanted = [functional.layer_index(layer, self.cfg.num_layers) for layer in layers]

        def body(block: Block, x: Array, _: None) -> tuple[Array, Array]:
            x = block(x)
            return x, x

        first = self._start(images, interpolate=False)
        states = jnp.concatenate([first[None], self.blocks(body, first)[1]])
        return jnp.concatenate([states[index] for index in wanted], axis=-1)

    def pool(self, states: Float[Array, "b l d"]) -> Float[Array, "b d"]:
        """Returns one vector of each image: the norm of the class token of the last states.

        Raises:
            InputError: if the network has no such norm.
        """
        require(
            self.post_norm is not None,
            "images must have a network with post_norm to be pooled, got one without; read a whole "
            "tower",
        )
        return self.post_norm(states[:, 0])

    def _start(self, images: Array, interpolate: bool) -> Float[Array, "b l d"]:
        x = self._embed(images, interpolate)
        x = x if self.pre_norm is None else self.pre_norm(x)
        return constrain(x, "act_batch", "act_length", "act_embed")

    def _embed(self, images: Array, interpolate: bool) -> Float[Array, "b l d"]:
        cfg = self.cfg
        batch, *sizes, channels = images.shape
        _check(cfg, sizes, channels, interpolate)
        height, width = (size // cfg.patch for size in sizes)
        patches = rearrange(
            images[:, : height * cfg.patch, : width * cfg.patch],
            "b (h ph) (w pw) c -> b (h w) (c ph pw)",
            ph=cfg.patch,
            pw=cfg.patch,
        )
        token, patches = self.class_token[...].astype(cfg.dtype), self.patch(patches)
        x = jnp.concatenate([jnp.broadcast_to(token, (batch, 1, cfg.width)), patches], axis=1)
        return x + self._positions(height, width)[None].astype(x.dtype)

    def _positions(self, height: int, width: int) -> Float[Array, "l d"]:
        native = self.cfg.image_size // self.cfg.patch
        table = self.positions[...]
        if height == width == native:
            return table
        grid = rearrange(table[1:], "(h w) d -> h w d", h=native)
        grid = resize.bicubic(grid, height, width)
        return jnp.concatenate([table[:1], rearrange(grid, "h w d -> (h w) d")])


def _check(cfg: ViTConfig, sizes: list[int], channels: int, interpolate: bool) -> None:
    require(
        channels == cfg.in_channels,
        f"images must have in_channels={cfg.in_channels} channels, got {channels}; put them last",
    )
    shown = " x ".join(map(str, sizes))
    if interpolate:
        require(
            min(sizes) >= cfg.patch,
            f"images must hold a patch of {cfg.patch} x {cfg.patch} pixels, got {shown}; use "
            "larger ones",
        )
    else:
        require(
            sizes == [cfg.image_size] * 2,
            f"images must have {cfg.image_size} x {cfg.image_size} pixels, got {shown}; resize "
            "them, or interpolate the positions",
        )
