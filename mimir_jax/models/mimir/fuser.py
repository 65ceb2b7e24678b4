# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Non-destructive token fusion of T5 and LLM states (Mimir, arXiv 2412.03085, Fig. 3 top).

    e_theta = t5 + Z_theta(t5)
    e_beta  = Z_beta(scale * norm(llm))
    e       = e_theta + e_beta

Z are convolutions along tokens that start at zero, so at step 0 the fused tokens are the T5 states
and the model behaves as its base. The rows of Table 3 leave parts out: without zero convolutions
e = t5 + P(llm) with a plain linear P; without an LLM e = t5.
"""

import dataclasses
import functools

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mimir_jax.config import DType, FuserConfig
from mimir_jax.errors import InputError
from mimir_jax.models import condition as conditioning
from mimir_jax.models import layers
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain

NORMS = {"layernorm": layers.LayerNorm, "rmsnorm": layers.RMSNorm}


class ZeroConv(nnx.Module):
    """Convolution along tokens whose weights and bias start at zero (arXiv 2302.05543)."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        rngs: Rngs,
        kernel_size: int = 1,
        bias: bool = True,
        dtype: DType = "float32",
    ):
        shape = (kernel_size, in_dim, out_dim)
        self.kernel = layers.param(shape, (None, "embed", "mlp"), layers.zeros, rngs=rngs)
        self.bias = layers.param((out_dim,), ("mlp",), layers.zeros, rngs=rngs) if bias else None
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b n i"]) -> Float[Array, "b n o"]:
        """Convolves along `n`, with zeros beyond both ends."""
        taps = self.kernel[...].astype(self.dtype)
        half, length = len(taps) // 2, x.shape[1]
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (half, half), (0, 0)))
        y = x[:, :length] @ taps[0]
        for i in range(1, len(taps)):
            y = y + x[:, i : i + length] @ taps[i]
        return y if self.bias is None else y + layers.along_last(self.bias[...], y)


class TokenFuser(nnx.Module):
    """Adds projected LLM states to T5 states; a `Conditioner` whose null condition is zeros.

    Parts that a row of Table 3 lacks have no parameters: `z_theta`, `z_beta`, `project` (the plain
    linear P, or the bridge of M-U1) and `scale`. A fuser without an LLM has none at all.
    """

    def __init__(self, cfg: FuserConfig, *, rngs: Rngs):
        bridge = cfg.zero_conv and cfg.bridge == "linear"
        plain = cfg.use_llm and not cfg.zero_conv  # rows 2 to 4 of Table 3
        zero_conv = functools.partial(
            ZeroConv,
            out_dim=cfg.t5_width,
            kernel_size=cfg.kernel_size,
            bias=cfg.zero_conv_bias,
            dtype=cfg.dtype,
            rngs=rngs,
        )
        # The projection comes first because it alone draws random numbers: every row of Table 3
        # that has one then starts from the same values.
        self.project = _projection(cfg, rngs, plain) if bridge or plain else None
        self.norm = NORMS[cfg.norm](cfg.llm_width, eps=cfg.norm_eps, affine=False, rngs=rngs)
        self.scale = _scale(cfg, rngs) if cfg.norm_scale else None
        self.z_beta = (
            zero_conv(cfg.t5_width if bridge else cfg.llm_width) if cfg.zero_conv else None
        )
        self.z_theta = zero_conv(cfg.t5_width) if cfg.zero_conv and cfg.zero_conv_t5 else None
        self.cfg = cfg

    def __call__(
        self, features: conditioning.TextFeatures, drop: Bool[Array, " b"] | None = None
    ) -> conditioning.Condition:
        """Fuses; rows with `drop` True become zeros after the sum, so no bias leaks (M-U17)."""
        features = self.align(features)
        tokens = self.t5_branch(features)
        if self.cfg.use_llm:
            tokens = tokens + self.llm_branch(features)
        tokens = conditioning.zero_rows(tokens, drop)
        tokens = constrain(tokens, "act_batch", None, "act_embed")
        return conditioning.Condition(tokens=tokens, mask=self._mask(features, drop))

    def align(self, features: conditioning.TextFeatures) -> conditioning.TextFeatures:
        """Returns features whose LLM tokens stand where `llm_align` puts them (M-U4).

        Features without LLM states or their mask stay as they are.
        """
        llm, mask = features.llm, features.llm_mask
        if self.cfg.llm_align == "left" or llm is None or mask is None:
            return features
        length = mask.shape[1]
        pads = length - mask.sum(1, keepdims=True)
        source = (jnp.arange(length)[None] - pads) % length
        return dataclasses.replace(
            features,
            llm=jnp.take_along_axis(llm, source[..., None], axis=1),
            llm_mask=jnp.take_along_axis(mask, source, axis=1),
        )

    def t5_branch(self, features: conditioning.TextFeatures) -> Float[Array, "b n d"]:
        """Returns e_theta, the T5 states plus Z_theta of them."""
        mask = features.t5_mask if self.cfg.t5_pad == "zero" else None
        x = _zero_pads(features.t5.astype(self.cfg.dtype), mask)
        return x if self.z_theta is None else _zero_pads(x + self.z_theta(x), mask)

    def llm_branch(self, features: conditioning.TextFeatures) -> Float[Array, "b n d"]:
        """Returns e_beta, the LLM's addend.

        Pads enter the convolution as zeros and leave as zeros, whatever its width and bias (M-U5).
        """
        if features.llm is None:
            raise InputError(
                "features.llm must be given to a fuser with use_llm, got None; encode captions "
                "with the LLM too or choose row 'baseline' of the ablation"
            )
        mask = features.llm_mask if self.cfg.llm_pad == "zero" else None
        x = _zero_pads(features.llm, mask)
        x = self.normalise(x)
        if self.project is not None:
            x = self.project(x)
        if self.z_beta is not None:
            x = self.z_beta(x)
        if self.scale is not None and self.cfg.scale_place == "after":
            x = _times(x, self.scale[...])
        return _zero_pads(x.astype(self.cfg.dtype), mask)

    def normalise(self, llm: Float[Array, "b n e"]) -> Float[Array, "b n e"]:
        """Norms and scales LLM states to the range of T5 states, where the row of Table 3 does."""
        if self.scale is None:
            return llm
        x = self.norm(llm)
        return _times(x, self.scale[...]) if self.cfg.scale_place == "before" else x

    def _mask(
        self, features: conditioning.TextFeatures, drop: Bool[Array, " b"] | None
    ) -> Bool[Array, "b n"] | None:
        """Returns the positions to attend to, None for all; all positions of a null row count."""
        if self.cfg.attend_pads or (self.cfg.use_llm and features.llm_mask is None):
            return None
        mask = features.t5_mask
        if self.cfg.use_llm:
            mask = mask | features.llm_mask
        return mask if drop is None else mask | drop[:, None]


def rms(x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None = None) -> Float[Array, ""]:
    """Measures the root mean square of the tokens that `mask` keeps, in float32.

    The RMS of T5 states over real captions is the start of the learnable scale (M-U7).
    """
    where = None if mask is None else mask[..., None]
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32)), where=where))


def _projection(cfg: FuserConfig, rngs: Rngs, plain: bool) -> layers.Linear:
    """P of the rows without zero convolutions (`plain`), else the bridge, whose pads stay zero."""
    return layers.Linear(
        cfg.llm_width,
        cfg.t5_width,
        axes=("embed", "mlp"),
        bias=plain and cfg.zero_conv_bias,
        dtype=cfg.dtype,
        rngs=rngs,
    )


def _scale(cfg: FuserConfig, rngs: Rngs) -> nnx.Param:
    """The learnable scale: a scalar, or a vector as wide as what it multiplies (M-U7, M-U8)."""
    width = cfg.llm_width if cfg.scale_place == "before" else cfg.t5_width
    shape, axes = ((width,), ("norm",)) if cfg.scale_shape == "channel" else ((), ())
    return layers.param(shape, axes, nnx.initializers.constant(cfg.scale_init), rngs=rngs)


def _times(x: Float[Array, "*b d"], scale: Float[Array, "..."]) -> Float[Array, "*b d"]:
    """Multiplies by a scalar or by a vector along the last axis, in float32."""
    return x.astype(jnp.float32) * jnp.broadcast_to(scale, x.shape)


def _zero_pads(x: Float[Array, "b n d"], mask: Bool[Array, "b n"] | None) -> Float[Array, "b n d"]:
    return x if mask is None else jnp.where(mask[..., None], x, jnp.zeros_like(x))
