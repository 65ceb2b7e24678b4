# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Semantic stabilizer (Mimir, arXiv 2412.03085, Fig. 3 bottom).

    e_s = e_i + e_l,    e_i = W(scale * norm(instruction states))

The LLM's sampled answers vary from step to step; these few tokens do not. e_i are the states of
four fixed instructions about the caption, e_l four learnable tokens.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import StabilizerConfig
from mimir_jax.errors import InputError
from mimir_jax.models import condition as conditioning
from mimir_jax.models import layers
from mimir_jax.models.mimir import fuser
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain


class SemanticStabilizer(nnx.Module):
    """Instruction tokens plus learnable tokens; a `Conditioner` whose null is e_s = e_l."""

    def __init__(self, cfg: StabilizerConfig, *, rngs: Rngs):
        widths, shape = (cfg.llm_width, cfg.t5_width), (cfg.num_tokens, cfg.t5_width)
        start = nnx.initializers.constant(cfg.scale_init)
        kernel = layers.zeros if cfg.projection_init == "zero" else layers.fan_in
        learned = nnx.initializers.normal(cfg.learned_std)
        self.norm = fuser.NORMS[cfg.norm](cfg.llm_width, eps=cfg.norm_eps, affine=False, rngs=rngs)
        self.scale = layers.param((), (), start, rngs=rngs) if cfg.use_instructions else None
        self.project = (
            layers.Linear(*widths, axes=("embed", "mlp"), init=kernel, dtype=cfg.dtype, rngs=rngs)
            if cfg.use_instructions
            else None
        )
        self.learned = (
            layers.param(shape, (None, "embed"), learned, rngs=rngs) if cfg.use_learned else None
        )
        self.cfg = cfg

    def __call__(
        self, features: conditioning.TextFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Returns `num_tokens` tokens; rows with `drop` True keep e_l alone (M-U17)."""
        cfg = self.cfg
        shape = (features.t5.shape[0], cfg.num_tokens, cfg.t5_width)
        tokens = jnp.zeros(shape, cfg.dtype)
        if self.project is not None:
            tokens = conditioning.zero_rows(self.instruction_tokens(features), drop)
        if self.learned is not None:
            tokens = tokens + jnp.broadcast_to(self.learned[...].astype(cfg.dtype), shape)
        tokens = constrain(tokens, "act_batch", None, "act_embed")
        return conditioning.Condition(tokens=tokens)

    def instruction_tokens(self, features: conditioning.TextFeatures) -> Float[Array, "b i d"]:
        """Returns e_i, the projected states of the instructions (M-U14)."""
        states = features.instructions
        got = None if states is None else states.shape[1]
        if got != self.cfg.num_tokens:
            raise InputError(
                "features.instructions must hold one state per stabilizer token, "
                f"{self.cfg.num_tokens}, got {got}; encode that many instructions or set "
                "stabilizer.num_tokens"
            )
        return self.project(self.norm(states) * self.scale[...])
