# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention kernels: plain XLA, cuDNN, JAX's Pallas kernel for TPUs, and tokamax.

All kernels compute softmax attention with scale `head_dim ** -0.5`. Every query attends to the same
keys: all except the text keys that `text_mask` excludes and the last `pad` positions, which hold no
tokens. The outputs at these last positions are undefined and never read.
"""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from mimir_jax.errors import require
from mimir_jax.models import functional
from mimir_jax.models.attention import softmax
from mimir_jax.parallel import context

Heads = Float[Array, "b s heads head_dim"]
TextMask = Bool[Array, "b l"]

MAX_SCORES = 2**28
"""Most attention scores that the `xla` kernel holds per device at a time (1 GiB in float32)."""

LANES = 128
BLOCK = 512
"""Block size of the `pallas` kernel, queries and keys; a shorter sequence is one block."""


def missing(kernel: str, platform: str) -> str | None:
    """Returns why `kernel` cannot run on devices of `platform`, or None if it can."""
    needed = {"cudnn": "gpu", "pallas": "tpu"}.get(kernel, platform)
    if platform != needed:
        return f"needs {needed} devices, got {platform}; run it there"
    if kernel == "tokamax" and importlib.util.find_spec("tokamax") is None:
        return "needs the package tokamax, which is not installed; pip install tokamax"
    return None


def available_or_xla(kernel: str) -> str:
    """Returns `kernel` if it runs on the default devices, else `xla`.

    Weights trained with a kernel of one platform then run on any other.
    """
    return kernel if missing(kernel, jax.default_backend()) is None else "xla"


def require_available(kernel: str, platform: str) -> None:
    """Raises `InputError` unless `kernel` runs on devices of `platform`."""
    lack = missing(kernel, platform)
    require(
        lack is None,
        f"dit.attention={kernel} {lack}, or choose another dit.attention; xla runs everywhere",
    )


def valid_keys(text_mask: TextMask | None, batch: int, length: int, pad: int) -> Bool[Array, "b s"]:
    """Returns True at the keys to attend to, of a sequence `[text; video; pads]`."""
    text = jnp.ones((batch, 0), bool) if text_mask is None else text_mask
    video = jnp.ones((batch, length - pad - text.shape[1]), bool)
    return jnp.concatenate([text, video, jnp.zeros((batch, pad), bool)], axis=1)


def num_chunks(b: int, s: int, heads: int, max_scores: int | None = None) -> int:
    """Returns the number of query chunks of the `xla` kernel under the current mesh."""
    budget = MAX_SCORES if max_scores is None else max_scores
    for axis, size in (("act_batch", b), ("act_heads", heads)):
        shards = context.num_shards(axis)
        budget *= shards if size % shards == 0 else 1  # an axis that does not divide stays whole
    return min(s, math.ceil(b * heads * s * s / budget))


def xla(
    q: Heads,
    k: Heads,
    v: Heads,
    text_mask: TextMask | None = None,
    *,
    pad: int = 0,
    max_scores: int | None = None,
) -> Heads:
    """Attention without fusion; splits queries into chunks of at most `max_scores` scores."""
    b, s, heads, head_dim = q.shape
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))  # (b, heads, s, head_dim)
    mask = None
    if text_mask is not None or pad:
        mask = valid_keys(text_mask, b, s, pad)[:, None, None]

    def core(q: Array) -> Array:
        return softmax.attend(q, k, v, None, mask, head_dim**-0.5)

    chunks = num_chunks(b, s, heads, max_scores)
    if chunks == 1:
        return jnp.swapaxes(core(q), 1, 2)
    size = math.ceil(s / chunks)
    q = jnp.pad(q, ((0, 0), (0, 0), (0, chunks * size - s), (0, 0)))
    q = jnp.moveaxis(q.reshape(b, heads, chunks, size, head_dim), 2, 0)
    y = jax.lax.map(jax.checkpoint(core), q)  # (chunks, b, heads, size, head_dim)
    y = jnp.moveaxis(y, 0, 2).reshape(b, heads, chunks * size, head_dim)
    return _tag(jnp.swapaxes(y[:, :, :s], 1, 2))


def cudnn(
    q: Heads, k: Heads, v: Heads, text_mask: TextMask | None = None, *, pad: int = 0
) -> Heads:
    """Fused flash attention of cuDNN."""
    k, v, count = move_masked_last(k, v, text_mask, pad)
    lengths = {}
    if count is not None:
        lengths = {
            "query_seq_lengths": jnp.full(q.shape[0], q.shape[1], jnp.int32),
            "key_value_seq_lengths": count,
        }
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **lengths)


def pallas(
    q: Heads,
    k: Heads,
    v: Heads,
    text_mask: TextMask | None = None,
    *,
    pad: int = 0,
    interpret: bool = False,
) -> Heads:
    """JAX's splash attention for TPUs; pads sequences to whole blocks.

    Args:
        q, k, v: Arrays on one device; under a mesh, call the kernel inside `shard_map`.
        text_mask: True at the text keys to attend to.
        pad: Number of positions at the end that hold no tokens.
        interpret: Run the kernel on any device, slowly.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as splash  # imports in 1 s

    b, s, heads, head_dim = q.shape
    block = min(BLOCK, s + -s % LANES)
    extra = -s % block
    kernel = splash.make_splash_mha_single_device(
        splash.MultiHeadMask([splash.FullMask((s + extra, s + extra))] * heads),
        block_sizes=splash.BlockSizes(
            block_q=block, block_kv=block, block_kv_compute=block, block_q_dq=block,
            block_kv_dq=block, block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        ),
        residual_checkpoint_name=functional.ATTENTION_OUTPUT,
        interpret=interpret,
    )  # fmt: skip
    q, k, v = (
        jnp.pad(jnp.swapaxes(x, 1, 2), ((0, 0), (0, 0), (0, extra), (0, 0)))
        for x in (q * jnp.asarray(head_dim**-0.5, q.dtype), k, v)
    )  # (b, heads, s + extra, head_dim)
    if text_mask is None and pad + extra == 0:
        y = jax.vmap(kernel)(q, k, v)
    else:  # a query attends to the keys of its own segment, and all queries are in segment 1
        keys = valid_keys(text_mask, b, s + extra, pad + extra).astype(jnp.int32)
        y = jax.vmap(kernel)(q, k, v, splash.SegmentIds(jnp.ones_like(keys), keys))
    return jnp.swapaxes(y[:, :, :s], 1, 2)


def tokamax(
    q: Heads, k: Heads, v: Heads, text_mask: TextMask | None = None, *, pad: int = 0
) -> Heads:
    """The first kernel of tokamax that supports the inputs: Mosaic, Triton or chunked XLA."""
    import tokamax as library

    k, v, count = move_masked_last(k, v, text_mask, pad)
    y = library.dot_product_attention(
        q, k, v, key_value_seq_lengths=count, implementation=("mosaic", "triton", "xla_chunked")
    )
    return _tag(y)


def move_masked_last(
    k: Heads, v: Heads, text_mask: TextMask | None, pad: int
) -> tuple[Array, Array, Array | None]:
    """Moves masked keys to the end, before the pads, and counts the others.

    Attention does not depend on the order of its keys. Fused kernels take the number of valid keys
    or an s x s mask, and the number is far cheaper. It is None if all keys are valid.
    """
    b, s = k.shape[:2]
    if text_mask is None:
        return k, v, jnp.full(b, s - pad, jnp.int32) if pad else None
    length = text_mask.shape[1]
    order = jnp.argsort(~text_mask, axis=1, stable=True)[:, :, None, None]

    def move(x: Array) -> Array:
        text = jnp.where(text_mask[:, :, None, None], x[:, :length], jnp.zeros((), x.dtype))
        text = jnp.take_along_axis(text, order, axis=1)
        return jnp.concatenate([x[:, length : s - pad], text, x[:, s - pad :]], axis=1)

    return move(k), move(v), s - pad - length + text_mask.sum(1, dtype=jnp.int32)


def _tag(y: Heads) -> Heads:
    return checkpoint_name(y, functional.ATTENTION_OUTPUT)


KERNELS: dict[str, Callable[..., Any]] = {
    "xla": xla,
    "cudnn": cudnn,
    "pallas": pallas,
    "tokamax": tokamax,
}
