# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Heads that Divot compares its Gaussian mixture with (arXiv 2412.04432, Table 7; D-U7).

`Regression` predicts a clip token from the state of its query. `Denoiser` predicts the noise or the
velocity of a noisy one, by the residual MLP of MAR (arXiv 2406.11838): noise level and state shift
and scale the norms and gate the blocks.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Int

from mimir_jax.config import DenoiserConfig, ProjectorConfig
from mimir_jax.models import functional, layers
from mimir_jax.models.rngs import Rngs


class Regression(nnx.Module):
    """Two linears with exact GELU between them, from LLM states to clip tokens in float32."""

    def __init__(self, cfg: ProjectorConfig, *, rngs: Rngs):
        options = dict(dtype=cfg.dtype, rngs=rngs)
        self.up = layers.Linear(cfg.llm_width, cfg.llm_width, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(cfg.llm_width, cfg.token_width, axes=("mlp", None), **options)

    def __call__(self, states: Float[Array, "*b e"]) -> Float[Array, "*b d"]:
        """Predicts clip tokens."""
        x = self.down(jax.nn.gelu(self.up(states), approximate=False))
        return x.astype(jnp.float32)


class DenoiserBlock(nnx.Module):
    """Residual MLP whose norm and gate depend on a condition; it starts as the identity."""

    def __init__(self, cfg: DenoiserConfig, *, rngs: Rngs):
        width, options = cfg.width, dict(dtype=cfg.dtype, rngs=rngs)
        self.norm = layers.LayerNorm(width, affine=False, **options)
        self.up = layers.Linear(width, width, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(width, width, axes=("mlp", "embed"), **options)
        self.modulation = _from_zero(width, 3 * width, cfg, rngs)

    def __call__(self, x: Float[Array, "n w"], condition: Float[Array, "n w"]) -> Array:
        """Adds the block to `x`."""
        shift, scale, gate = jnp.split(self.modulation(jax.nn.silu(condition)), 3, axis=-1)
        h = self.norm(x) * (1 + scale) + shift
        return x + gate * self.down(jax.nn.silu(self.up(h)))


class Denoiser(nnx.Module):
    """Noisy clip tokens to their noise or velocity, each conditioned on its own LLM state."""

    def __init__(self, cfg: DenoiserConfig, *, rngs: Rngs):
        width, options = cfg.width, dict(dtype=cfg.dtype, rngs=rngs)
        self.into = layers.Linear(cfg.token_width, width, axes=(None, "embed"), **options)
        self.state = layers.Linear(cfg.llm_width, width, axes=("embed", "mlp"), **options)
        self.time = layers.TimeEmbedding(width, width, **options)
        self.blocks = functional.Stack(
            lambda *, rngs: DenoiserBlock(cfg, rngs=rngs), cfg.num_layers, "none", rngs=rngs
        )
        self.norm = layers.LayerNorm(width, affine=False, **options)
        self.modulation = _from_zero(width, 2 * width, cfg, rngs)
        self.out = _from_zero(width, cfg.token_width, cfg, rngs)

    def __call__(
        self,
        states: Float[Array, "*b e"],
        xt: Float[Array, "*b d"],
        timestep: Int[Array, "*b"],
    ) -> Float[Array, "*b d"]:
        """Returns the prediction at `xt`, in float32.

        Args:
            states: LLM state of each token.
            xt: Noisy tokens.
            timestep: Noise level of each token, 0 to 999.
        """
        shape = xt.shape
        flat = rearrange(xt, "... d -> (...) d")
        condition = self.time(timestep.reshape(-1))
        condition = condition + self.state(rearrange(states, "... e -> (...) e"))
        x, _ = self.blocks(lambda block, x, _: (block(x, condition), None), self.into(flat))
        shift, scale = jnp.split(self.modulation(jax.nn.silu(condition)), 2, axis=-1)
        x = self.out(self.norm(x) * (1 + scale) + shift)
        return x.reshape(shape).astype(jnp.float32)


def _from_zero(inputs: int, outputs: int, cfg: DenoiserConfig, rngs: Rngs) -> layers.Linear:
    axes = ("embed", None)
    return layers.Linear(inputs, outputs, axes=axes, init=layers.zeros, dtype=cfg.dtype, rngs=rngs)
