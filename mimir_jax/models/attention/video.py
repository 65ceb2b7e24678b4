# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Joint attention over text and video tokens, and the dispatch over kernels and meshes."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mimir_jax.config import DiTConfig, Kernel
from mimir_jax.models import functional, layers, rope
from mimir_jax.models.attention import kernels, ring
from mimir_jax.models.attention.kernels import Heads, TextMask
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel import context


class JointAttention(nnx.Module):
    """Full self-attention over `[text; video]` with a LayerNorm on each query and key head."""

    def __init__(self, cfg: DiTConfig, *, rngs: Rngs):
        def linear(axes: tuple[str, str]) -> layers.Linear:
            return layers.Linear(cfg.width, cfg.width, axes=axes, rngs=rngs, dtype=cfg.dtype)

        self.q = linear(("embed", "heads"))
        self.k = linear(("embed", "heads"))
        self.v = linear(("embed", "heads"))
        self.out = linear(("heads", "embed"))
        self.norm_q = layers.LayerNorm(cfg.head_dim, eps=cfg.qk_norm_eps, rngs=rngs)
        self.norm_k = layers.LayerNorm(cfg.head_dim, eps=cfg.qk_norm_eps, rngs=rngs)
        self.cfg = cfg

    def __call__(
        self,
        x: Float[Array, "b s d"],
        rotary: rope.Rotary | None = None,
        text_mask: TextMask | None = None,
        pad: int = 0,
    ) -> Float[Array, "b s d"]:
        """Attends.

        Args:
            x: Joint sequence, text first.
            rotary: Angles of the joint sequence, the identity at text tokens.
            text_mask: True at the text tokens to attend to; None attends to all.
            pad: Number of positions at the end of `x` that hold no tokens.
        """

        heads = self.cfg.num_heads
        more = -heads % context.num_shards("act_heads")  # zero heads that make the mesh divide them

        # Linear maps are split along the sequence, attention along heads. With both constraints the
        # compiler inserts an all-to-all; without them it gathers the whole sequence.
        def split(y: Array) -> Array:
            y = context.constrain(y, "act_batch", "act_length", "act_columns")
            y = y.reshape(*y.shape[:2], heads, self.cfg.head_dim)
            y = jnp.pad(y, ((0, 0), (0, 0), (0, more), (0, 0))) if more else y
            return context.constrain(y, "act_batch", "act_queries", "act_heads", None)

        def place(y: Array) -> Array:  # float32 until the last cast
            return (y if rotary is None else rope.rotate(y, rotary)).astype(self.cfg.dtype)

        q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))  # (b, s, heads, head_dim)
        q, k = place(self.norm_q(q)), place(self.norm_k(k))
        y = attend(q, k, v, text_mask, kernel=self.cfg.attention, pad=pad)
        y = context.constrain(y, "act_batch", "act_queries", "act_heads", None)
        y = y[:, :, :heads].reshape(x.shape)  # (b, s, d)
        return self.out(context.constrain(y, "act_batch", "act_length", "act_columns"))


def attend(
    q: Heads,
    k: Heads,
    v: Heads,
    text_mask: TextMask | None = None,
    *,
    kernel: Kernel = "xla",
    pad: int = 0,
) -> Heads:
    """Softmax attention with scale `head_dim ** -0.5`.

    The `attention` remat policy keeps the output of every kernel, and with it the softmax
    statistics of `cudnn`, `pallas` and the ring.

    Args:
        q, k, v: Joint sequence, text first.
        text_mask: True at the text keys to attend to; None attends to all.
        kernel: Name of the kernel; `mesh.context_parallel=ring` computes attention itself.
        pad: Number of positions at the end that hold no tokens; their outputs are undefined.
    """

    def call(q: Heads, k: Heads, v: Heads, text_mask: TextMask | None) -> Heads:
        if context.num_shards("act_queries") > 1:
            valid = kernels.valid_keys(text_mask, *q.shape[:2], pad)
            return ring.attend(q, k, v, valid)
        compute = functools.partial(kernels.KERNELS[kernel], pad=pad)
        if kernel not in ("pallas", "tokamax"):
            return compute(q, k, v, text_mask)
        if kernel == "pallas":  # in tests only
            compute = functools.partial(compute, interpret=context.platform() == "cpu")
        heads = ("act_batch", None, "act_heads", None)
        axes = (heads, heads, heads, ("act_batch", None))
        return context.on_shards(compute, (q, k, v, text_mask), axes)

    # The FLOP counter recognises the call by its name. The function is new each time, because
    # `jax.jit` would reuse the program of another mesh.
    call.__name__ = functional.FUSED_ATTENTION
    return jax.jit(call)(q, k, v, text_mask)
