# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoder-only LLM of the Phi-3 layout (arXiv 2404.14219): states, logits, cached decoding.

Llama and Mistral are the same network once q, k, v and gate, up are fused; Qwen2 adds biases and
Qwen3 norms of queries and keys. The cache is an argument and a result: `extend` reads more tokens,
whether a whole prompt into an empty cache or one new token.

Every method reads token ids, or `embeddings` in their place (projected images, learned queries). An
`attention_mask` marks the real tokens of a causal sequence, and by -1 the queries of Divot, blocks
of which attend to each other in both directions; a `block_mask` replaces the causal rule by any set
of (query, key) pairs.

LongRoPE chooses its factors by the length of the longest sequence of the batch: the padded length
in a plain forward, the real tokens read so far in `extend`. The keys and values of a cache that was
filled under the short factors do not change; `encoders.decoding` reads the tokens again when a
generation outgrows them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from mimir_jax.config import LLMConfig
from mimir_jax.errors import InputError
from mimir_jax.models import functional, layers, rope_text
from mimir_jax.models.attention import text
from mimir_jax.models.divot import mask as divot_mask
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel.context import constrain

Ids = Int[Array, "b t"] | None
Mask = Bool[Array, "b t"] | Int[Array, "b t"] | None
BlockMask = Bool[Array, "b t s"] | Bool[Array, "b 1 t s"] | None
Embeddings = Float[Array, "b t d"] | None


class Output(NamedTuple):
    """States of the requested layer, and next-token scores where there is a head."""

    last_hidden_state: Float[Array, "b t d"]
    logits: Float[Array, "b t vocab"] | None


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, in slots allocated ahead.

    Attributes:
        keys: Keys, rotated to their positions.
        values: Values.
        valid: Which slots hold a real token.
        used: Number of slots written, common to all rows.
    """

    keys: Float[Array, "layers b s kv h"]
    values: Float[Array, "layers b s kv h"]
    valid: Bool[Array, "b s"]
    used: Int[Array, ""]


class Extension(NamedTuple):
    """What `extend` returns.

    Attributes:
        final: States after the last norm; `logits` takes these.
        states: States of the requested layer.
        cache: The cache with the tokens added.
    """

    final: Float[Array, "b t d"]
    states: Float[Array, "b t d"]
    cache: Cache


def init_cache(cfg: LLMConfig, batch: int, max_length: int) -> Cache:
    """Returns an empty cache of `max_length` slots a row, in the compute dtype."""
    shape = (cfg.num_layers, batch, max_length, cfg.num_kv_heads, cfg.head_dim)
    return Cache(
        keys=jnp.zeros(shape, cfg.dtype),
        values=jnp.zeros(shape, cfg.dtype),
        valid=jnp.zeros((batch, max_length), bool),
        used=jnp.zeros((), jnp.int32),
    )


class _Memory(NamedTuple):
    """The part of a cache that flows through the layer scan, and the slot to write next."""

    keys: Array
    values: Array
    slot: Array

    def write(self, layer: Array, k: Array, v: Array) -> tuple["_Memory", Array, Array]:
        """Stores `k` and `v` (b, t, kv, h); returns also all keys and values of the layer."""
        start = (layer, 0, self.slot, 0, 0)
        keys = jax.lax.dynamic_update_slice(self.keys, k[None], start)
        values = jax.lax.dynamic_update_slice(self.values, v[None], start)
        return _Memory(keys, values, self.slot), keys[layer], values[layer]


class Attention(nnx.Module):
    """Causal self-attention with fused q, k, v and grouped key heads."""

    def __init__(self, cfg: LLMConfig, *, rngs: Rngs):
        inner = cfg.num_heads * cfg.head_dim
        fused = inner + 2 * cfg.num_kv_heads * cfg.head_dim
        options = dict(dtype=cfg.dtype, rngs=rngs)
        axes = ("embed", "heads")
        self.qkv = layers.Linear(cfg.width, fused, axes=axes, bias=cfg.qkv_bias, **options)
        self.out = layers.Linear(inner, cfg.width, axes=axes[::-1], bias=False, **options)
        norms = [
            layers.RMSNorm(cfg.head_dim, eps=cfg.norm_eps, **options) if cfg.qk_norm else None
            for _ in "qk"
        ]
        self.q_norm, self.k_norm = norms
        self.cfg = cfg

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tables: rope_text.Rotation,
        mask: Bool[Array, "#b 1 t s"],
        memory: _Memory | None,
        layer: Int[Array, ""],
    ) -> tuple[Float[Array, "b t d"], _Memory | None]:
        """Attends over `x`, or over all slots of this layer's memory when there is one."""
        cfg = self.cfg
        heads = rearrange(self.qkv(x), "b t (n h) -> b t n h", h=cfg.head_dim)
        q, k, v = jnp.split(heads, (cfg.num_heads, cfg.num_heads + cfg.num_kv_heads), axis=2)
        if cfg.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = rope_text.rotate(q, tables), rope_text.rotate(k, tables)
        if memory is not None:
            memory, k, v = memory.write(layer, k, v)
        h = text.attend(q, k, v, scale=cfg.head_dim**-0.5, mask=mask)
        return self.out(rearrange(h, "b t n h -> b t (n h)")), memory


class Mlp(nnx.Module):
    """SiLU-gated feed-forward with fused gate and up."""

    def __init__(self, cfg: LLMConfig, *, rngs: Rngs):
        options = dict(bias=False, dtype=cfg.dtype, rngs=rngs)
        self.gate_up = layers.Linear(cfg.width, 2 * cfg.mlp_dim, axes=("embed", "mlp"), **options)
        self.down = layers.Linear(cfg.mlp_dim, cfg.width, axes=("mlp", "embed"), **options)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Applies `down(silu(gate) * up)`."""
        gate, up = jnp.split(self.gate_up(x), 2, axis=-1)  # (b, t, f) each
        return self.down(constrain(jax.nn.silu(gate) * up, "act_batch", "act_length", "act_mlp"))


class Block(nnx.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, cfg: LLMConfig, *, rngs: Rngs):
        norm = dict(eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        self.attention_norm = layers.RMSNorm(cfg.width, **norm)
        self.attention = Attention(cfg, rngs=rngs)
        self.mlp_norm = layers.RMSNorm(cfg.width, **norm)
        self.mlp = Mlp(cfg, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b t d"],
        tables: rope_text.Rotation,
        mask: Bool[Array, "#b 1 t s"],
        memory: _Memory | None,
        layer: Int[Array, ""],
    ) -> tuple[Float[Array, "b t d"], _Memory | None]:
        """Adds both halves to the residual stream."""
        h, memory = self.attention(self.attention_norm(x), tables, mask, memory, layer)
        x = x + h
        return x + self.mlp(self.mlp_norm(x)), memory


class LLM(nnx.Module):
    """Decoder-only language model.

    Methods take `layer` to choose the states they return, counted as transformers counts
    `hidden_states`: 0 is the embedding, `i` the output of block `i`, and `num_layers` or -1 the
    output of the last block after the final norm (M-U2). Logits always come from the latter.
    """

    def __init__(self, cfg: LLMConfig, *, rngs: Rngs):
        self.embed = layers.Embedding(cfg.vocab_size, cfg.width, dtype=cfg.dtype, rngs=rngs)
        self.blocks = functional.Stack(
            lambda *, rngs: Block(cfg, rngs=rngs), cfg.num_layers, cfg.remat, rngs=rngs
        )
        self.norm = layers.RMSNorm(cfg.width, eps=cfg.norm_eps, dtype=cfg.dtype, rngs=rngs)
        head = dict(axes=("embed", "vocab"), bias=False, dtype=cfg.dtype, rngs=rngs)
        own = cfg.tie_embeddings is False
        self.head = None if not own else layers.Linear(cfg.width, cfg.vocab_size, **head)
        self.cfg = cfg

    def __call__(
        self,
        input_ids: Ids = None,
        attention_mask: Mask = None,
        *,
        embeddings: Embeddings = None,
        block_mask: BlockMask = None,
        layer: int = -1,
    ) -> Output:
        """Reads a sequence at positions 0, 1, ...; padding may be on either side.

        Args:
            input_ids: Token ids.
            attention_mask: True or 1 at real tokens, -1 at queries; None when all are tokens.
            embeddings: Inputs of the first block, in place of `input_ids`.
            block_mask: True where a query (row) may attend to a key (column), in place of the
                causal rule and the sliding window; `attention_mask` still applies to the keys.
            layer: Which states to return.

        Raises:
            InputError: unless exactly one of `input_ids` and `embeddings` is given.
        """
        final, states = self._read(input_ids, attention_mask, embeddings, block_mask, layer)
        logits = None if self.cfg.tie_embeddings is None else self.logits(final)
        return Output(last_hidden_state=states, logits=logits)

    def encode(
        self,
        input_ids: Ids = None,
        attention_mask: Mask = None,
        *,
        embeddings: Embeddings = None,
        block_mask: BlockMask = None,
        layer: int = -1,
    ) -> Float[Array, "b t d"]:
        """Returns the states of `__call__` alone, without the cost of the logits."""
        return self._read(input_ids, attention_mask, embeddings, block_mask, layer)[1]

    def hidden_states(
        self,
        input_ids: Ids = None,
        attention_mask: Mask = None,
        *,
        embeddings: Embeddings = None,
        block_mask: BlockMask = None,
    ) -> Float[Array, "layers b t d"]:
        """Returns the states of every layer, from the embedding to those after the final norm."""
        first = self._inputs(input_ids, embeddings)
        positions, mask = self._plain(first, attention_mask, block_mask)
        tables = rope_text.rotation(self.cfg.rope, self.cfg.head_dim, positions, first.shape[1])

        def body(block, x, index):
            x, _ = block(x, tables, mask, None, index)
            x = constrain(x, "act_batch", "act_length", "act_embed")
            return x, x

        indices = jnp.arange(self.cfg.num_layers, dtype=jnp.int32)
        last, states = self.blocks(body, first, indices)
        return jnp.concatenate([first[None], states[:-1], self.norm(last)[None]])

    def embed_tokens(self, input_ids: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Returns the embeddings of token ids, to be joined with other embeddings."""
        return self.embed(input_ids)

    def logits(self, final: Float[Array, "*b d"]) -> Float[Array, "*b vocab"]:
        """Scores the next token from states after the final norm.

        Raises:
            InputError: without an output projection.
        """
        if self.cfg.tie_embeddings is None:
            raise InputError(
                "an LLM must have a head to write, got one with states alone; take the weights "
                "with lm_head, or read states of the caption (text.llm_tokens=query)"
            )
        return self.embed.attend(final) if self.head is None else self.head(final)

    def extend(
        self,
        input_ids: Ids,
        attention_mask: Mask,
        cache: Cache,
        *,
        embeddings: Embeddings = None,
        block_mask: BlockMask = None,
        layer: int = -1,
    ) -> Extension:
        """Reads `t` more tokens per row; positions count the real tokens of the row.

        Args:
            input_ids: Token ids, for slots `cache.used` to `cache.used + t`, which must exist.
            attention_mask: True or 1 at real tokens; None when all are.
            cache: The tokens read before; from `init_cache` at the start.
            embeddings: Inputs of the first block, in place of `input_ids`.
            block_mask: True where a new token (row) may attend to a slot (column) of the cache, in
                place of the causal rule and the sliding window; slots without a real token stay
                excluded.
            layer: Which states to return.

        Raises:
            InputError: unless exactly one of `input_ids` and `embeddings` is given.
        """
        x = self._inputs(input_ids, embeddings)
        batch, length = x.shape[:2]
        new = jnp.ones((batch, length), bool) if attention_mask is None else attention_mask
        valid = jax.lax.dynamic_update_slice(cache.valid, new.astype(bool), (0, cache.used))
        slots = jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1  # position of each slot (b, s)
        positions = jax.lax.dynamic_slice_in_dim(slots, cache.used, length, axis=1)
        mask = self._mask(positions, slots, valid, block_mask)
        memory = _Memory(cache.keys, cache.values, cache.used)
        final, states, memory = self._run(x, positions, slots.max() + 1, mask, layer, memory)
        used = cache.used + length
        return Extension(final, states, Cache(memory.keys, memory.values, valid, used))

    def _read(
        self,
        ids: Ids,
        attention_mask: Mask,
        embeddings: Embeddings,
        block_mask: BlockMask,
        layer: int,
    ) -> tuple[Array, Array]:
        x = self._inputs(ids, embeddings)
        positions, mask = self._plain(x, attention_mask, block_mask)
        return self._run(x, positions, x.shape[1], mask, layer, None)[:2]

    def _plain(
        self, x: Array, attention_mask: Mask, block_mask: BlockMask
    ) -> tuple[Int[Array, "1 t"], Bool[Array, "#b 1 t s"]]:
        """Returns positions and mask of a sequence that is read whole."""
        positions = jnp.arange(x.shape[1], dtype=jnp.int32)[None]
        valid = None if attention_mask is None else attention_mask.astype(bool)
        if block_mask is None and valid is not None and attention_mask.dtype != bool:
            block, window = self.cfg.query_block, self.cfg.sliding_window
            block_mask = divot_mask.block_mask(attention_mask, block, window)
        return positions, self._mask(positions, positions, valid, block_mask)

    def _inputs(self, ids: Ids, embeddings: Embeddings) -> Float[Array, "b t d"]:
        if (ids is None) == (embeddings is None):
            raise InputError(
                "one of input_ids and embeddings must be given, got "
                f"{'neither' if ids is None else 'both'}; pass one"
            )
        return self.embed(ids) if embeddings is None else embeddings.astype(self.cfg.dtype)

    def _mask(
        self, queries: Array, keys: Array, valid: Array | None, block_mask: BlockMask
    ) -> Bool[Array, "#b 1 t s"]:
        if block_mask is None:
            return text.causal_mask(queries, keys, valid, self.cfg.sliding_window)
        mask = block_mask if block_mask.ndim == 4 else block_mask[:, None]
        return mask if valid is None else mask & valid[:, None, None, :]

    def _run(
        self,
        x: Array,
        positions: Array,
        length: int | Array,
        mask: Array,
        layer: int,
        memory: _Memory | None,
    ) -> tuple[Array, Array, _Memory | None]:
        """Runs every block; returns the final states, those of `layer`, and the memory."""
        num_layers = self.cfg.num_layers
        wanted = functional.layer_index(layer, num_layers)
        tables = rope_text.rotation(self.cfg.rope, self.cfg.head_dim, positions, length)
        x = constrain(x, "act_batch", "act_length", "act_embed")

        def body(block, carry, index):
            x, kept, memory = carry
            x, memory = block(x, tables, mask, memory, index)
            x = constrain(x, "act_batch", "act_length", "act_embed")
            if kept is not None:
                kept = jnp.where(index + 1 == wanted, x, kept)
            return (x, kept, memory), None

        kept = None if wanted == num_layers else x
        indices = jnp.arange(num_layers, dtype=jnp.int32)
        (x, kept, memory), _ = self.blocks(body, (x, kept, memory), indices)
        final = self.norm(x)
        return final, final if kept is None else kept, memory
