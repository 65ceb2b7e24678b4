# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Greedy, top-k and nucleus decoding (arXiv 1904.09751) of an LLM, with the states of its answers.

Mimir conditions on the states of sampled answers beside those of the prompt (M-U3); one prefill and
the cached steps that write the answer give both. A row's draws depend on its own key and the step
alone, never on its neighbours or on the side and amount of padding.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from mimir_jax.errors import require
from mimir_jax.models import llm
from mimir_jax.models.functional import Model, Params

AnyArray = Array | np.ndarray
Mask = Bool[AnyArray, "b l"] | Int[AnyArray, "b l"] | None


class Generation(NamedTuple):
    """Answers and the states of the model that read them.

    Attributes:
        tokens: Answer tokens, the pad id after the end token.
        mask: True at answer tokens, the end token included.
        states: States at the answer tokens, zero elsewhere.
        prompt_states: States at the prompt slots, unspecified at its pads.
    """

    tokens: Int[Array, "b k"]
    mask: Bool[Array, "b k"]
    states: Float[Array, "b k d"]
    prompt_states: Float[Array, "b l d"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which tokens may follow which, before anything is drawn.

    Attributes:
        follow: Pairs of a token and the only one that may follow it.
        muted: Tokens that follow no other one.
        muted_score: Their score; Divot's public code has 0, which excludes nothing.
    """

    follow: tuple[tuple[int, int], ...] = ()
    muted: tuple[int, ...] = ()
    muted_score: float = float("-inf")

    def apply(self, scores: Float[Array, "b v"], last: Int[Array, " b"]) -> Float[Array, "b v"]:
        """Returns the scores of the tokens after `last`."""
        size = scores.shape[-1]
        successor = np.full(size, -1, np.int32)
        for token, after in self.follow:
            successor[token] = after
        muted = np.zeros(size, bool)
        muted[list(self.muted)] = True
        scores = jnp.where(muted[None], self.muted_score, scores)
        forced = jnp.asarray(successor)[last][:, None]  # (b, 1)
        alone = jnp.where(jnp.arange(size)[None] == forced, 0.0, -jnp.inf)
        return jnp.where(forced >= 0, alone, scores)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What the compiled loop is specialised for."""

    max_new_tokens: int
    temperature: float
    top_p: float
    eos_ids: tuple[int, ...]
    pad_id: int
    layer: int | None = None  # of the returned states; None returns none
    top_k: int | None = None
    rules: Rules | None = None

    def __post_init__(self):
        require(
            self.max_new_tokens > 0,
            f"max_new_tokens must be positive, got {self.max_new_tokens}; ask for at least one",
        )
        require(
            self.temperature >= 0,
            f"temperature must not be negative, got {self.temperature}; 0 decodes greedily",
        )
        require(
            0 < self.top_p <= 1,
            f"top_p must be in (0, 1], got {self.top_p}; 1 samples from all tokens",
        )
        require(
            self.top_k is None or self.top_k > 0,
            f"top_k must be positive, got {self.top_k}; None samples from all tokens",
        )


class _Progress(NamedTuple):
    """Loop state over the slots `s = l + k` of prompt and answer."""

    step: Array  # answer tokens written
    ids: Array  # (b, s)
    last: Array  # (b,), the token written last, at first that of the prompt
    answer: Array  # (b, k), which answer slots hold a token
    done: Array  # (b,)
    final: Array  # (b, d), scores the next token
    states: Array | None  # (b, s, d)
    cache: llm.Cache


def generate(
    model: Model,
    params: Params,
    input_ids: Int[AnyArray, "b l"],
    attention_mask: Mask = None,
    *,
    max_new_tokens: int,
    temperature: float | int = 0.0,
    top_p: float | int = 1.0,
    top_k: int | None = None,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    eos_ids: tuple[int, ...] = (),
    pad_id: int = 0,
    embeddings: Float[AnyArray, "b l d"] | None = None,
    rules: Rules | None = None,
) -> Int[Array, "b {max_new_tokens}"]:
    """Continues each prompt by up to `max_new_tokens` tokens.

    Args:
        model: A built `llm.LLM`.
        params: Its parameters.
        input_ids: Prompts, padded on either side.
        attention_mask: True or 1 at prompt tokens; None when all are.
        max_new_tokens: Length of the result.
        temperature: 0 takes the likeliest token; otherwise scores are divided by it and sampled.
        top_p: Samples from the fewest likeliest tokens whose mass reaches `top_p`.
        top_k: Samples from the `top_k` likeliest tokens, of which `top_p` leaves some.
        key: One random key, folded with the index of each row, or one key per row.
        eos_ids: Tokens that end a row.
        pad_id: Fills a row after its end.
        embeddings: What the LLM reads in place of the prompts' own embeddings.
        rules: Which tokens may follow which.

    Raises:
        InputError: for settings out of range, and for embeddings of an LLM with LongRoPE that would
            outgrow its short factors, after which it must read all tokens again.
    """
    settings = _Settings(
        max_new_tokens, float(temperature), float(top_p), tuple(eos_ids), pad_id, None, top_k, rules
    )
    _check_key(key, settings.temperature)
    rope, slots = model.config.rope, input_ids.shape[1] + max_new_tokens
    require(
        embeddings is None or rope.kind != "longrope" or slots <= rope.original_max_length,
        f"prompts of embeddings must end within {rope.original_max_length} tokens with this LLM, "
        f"got {slots}; shorten them or max_new_tokens",
    )
    return _generate(model, settings, params, input_ids, attention_mask, key, embeddings)


def generate_states(
    model: Model,
    params: Params,
    input_ids: Int[AnyArray, "b l"],
    attention_mask: Mask = None,
    *,
    max_new_tokens: int,
    temperature: float | int = 0.0,
    top_p: float | int = 1.0,
    key: Key[Array, ""] | Key[Array, " b"] | None = None,
    eos_ids: tuple[int, ...] = (),
    pad_id: int = 0,
    layer: int = -1,
) -> Generation:
    """Continues each prompt; returns the answers with the states of prompts and answers.

    The states are those of one forward over prompt and answer. Arguments are those of `generate`,
    with `layer` as in `llm.LLM`.
    """
    settings = _Settings(
        max_new_tokens, float(temperature), float(top_p), tuple(eos_ids), pad_id, layer
    )
    _check_key(key, settings.temperature)
    return _generate_states(model, settings, params, input_ids, attention_mask, key)


def sample(
    logits: Float[Array, "b v"],
    keys: Key[Array, " b"] | None,
    *,
    temperature: float,
    top_p: float | int = 1.0,
    top_k: int | None = None,
) -> Int[Array, " b"]:
    """Draws one token per row with that row's key; takes the likeliest at temperature 0."""
    logits = logits.astype(jnp.float32)
    if temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    if top_p < 1:
        logits = jnp.where(nucleus(logits, top_p), logits, -jnp.inf)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def nucleus(logits: Float[Array, "b v"], top_p: float) -> Bool[Array, "b v"]:
    """Marks the fewest likeliest tokens of each row whose mass reaches `top_p`, ties together.

    Sorting a vocabulary costs more than a small model, so this searches for the least probability
    kept. Floats from 0 to 1 are ordered as their bits are: 31 halvings make the search exact.
    """
    probs = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
    bits = jax.lax.bitcast_convert_type(probs, jnp.int32)

    def halve(_, bounds):
        low, high = bounds  # keeping from `low` up has enough mass, from `high` up has not
        middle = (low + high) // 2
        enough = jnp.where(bits >= middle[:, None], probs, 0).sum(axis=-1) >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.zeros(logits.shape[0], jnp.int32)
    above_one = jax.lax.bitcast_convert_type(jnp.float32(1), jnp.int32) + 1
    low, _ = jax.lax.fori_loop(0, 31, halve, (low, jnp.full_like(low, above_one)))
    return bits >= low[:, None]


@functools.partial(jax.jit, static_argnames=("model", "settings"))
def _generate(model, settings, params, input_ids, attention_mask, key, embeddings) -> Array:
    progress = _decode(model, settings, params, input_ids, attention_mask, key, embeddings)
    return progress.ids[:, input_ids.shape[1] :]


@functools.partial(jax.jit, static_argnames=("model", "settings"))
def _generate_states(model, settings, params, input_ids, attention_mask, key) -> Generation:
    progress = _decode(model, settings, params, input_ids, attention_mask, key)
    length, mask, states = input_ids.shape[1], progress.answer, progress.states
    return Generation(
        tokens=progress.ids[:, length:],
        mask=mask,
        states=jnp.where(mask[..., None], states[:, length:], 0),
        prompt_states=states[:, :length],
    )


def _decode(
    model: Model,
    settings: _Settings,
    params: Params,
    input_ids: Array,
    attention_mask: Array | None,
    key: Array | None,
    embeddings: Array | None = None,
) -> _Progress:
    """Writes and reads tokens until all rows have ended or are full."""
    valid = (
        jnp.ones(input_ids.shape, bool) if attention_mask is None else attention_mask.astype(bool)
    )
    keys = None if settings.temperature == 0 else _row_keys(key, input_ids.shape[0])
    read = functools.partial(_read, model, settings, params, valid)
    write = functools.partial(_write, model, settings, params, keys)
    progress = _prefill(model, settings, params, input_ids, valid, embeddings)
    # The last token is read only where its state is asked for.
    reads = settings.max_new_tokens - (settings.layer is None)
    progress = jax.lax.while_loop(
        lambda p: (p.step < reads) & ~p.done.all(), lambda p: read(write(p)), progress
    )
    return write(progress) if settings.layer is None else progress


def _prefill(
    model: Model,
    settings: _Settings,
    params: Params,
    ids: Array,
    valid: Array,
    embeddings: Array | None,
) -> _Progress:
    """Reads the prompts into a cache with room for the answers."""
    (batch, length), new = ids.shape, settings.max_new_tokens
    cache = llm.init_cache(model.config, batch, length + new)
    read = ids if embeddings is None else None
    first = model.extend(params, read, valid, cache, embeddings=embeddings, layer=_layer(settings))
    last = length - 1 - jnp.argmax(valid[:, ::-1], axis=1)  # last prompt token of each row (b,)
    states = None
    if settings.layer is not None:
        states = jnp.pad(first.states, ((0, 0), (0, new), (0, 0)))
    return _Progress(
        step=jnp.zeros((), jnp.int32),
        ids=jnp.pad(ids.astype(jnp.int32), ((0, 0), (0, new)), constant_values=settings.pad_id),
        last=jnp.take_along_axis(ids.astype(jnp.int32), last[:, None], axis=1)[:, 0],
        answer=jnp.zeros((batch, new), bool),
        done=jnp.zeros((batch,), bool),
        final=jnp.take_along_axis(first.final, last[:, None, None], axis=1)[:, 0],
        states=states,
        cache=first.cache,
    )


def _write(
    model: Model, settings: _Settings, params: Params, keys: Array | None, progress: _Progress
) -> _Progress:
    """Chooses the next token of each row that has not ended."""
    step, done = progress.step, progress.done
    if keys is not None:
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, step)
    logits = model.logits(params, progress.final)
    if settings.rules is not None:
        logits = settings.rules.apply(logits.astype(jnp.float32), progress.last)
    options = dict(temperature=settings.temperature, top_p=settings.top_p, top_k=settings.top_k)
    token = sample(logits, keys, **options)
    token = jnp.where(done, settings.pad_id, token)
    slot = progress.ids.shape[1] - settings.max_new_tokens + step
    update = jax.lax.dynamic_update_slice
    return progress._replace(
        step=step + 1,
        ids=update(progress.ids, token[:, None], (0, slot)),
        last=token,
        answer=update(progress.answer, ~done[:, None], (0, step)),
        done=done | jnp.isin(token, jnp.asarray(settings.eos_ids, jnp.int32)),
    )


def _read(
    model: Model, settings: _Settings, params: Params, valid: Array, progress: _Progress
) -> _Progress:
    """Reads the token just written, or all tokens again when LongRoPE changes its factors."""
    slot = valid.shape[1] + progress.step - 1
    layer = _layer(settings)

    def read_one(progress):
        token = jax.lax.dynamic_slice_in_dim(progress.ids, slot, 1, axis=1)
        out = model.extend(params, token, None, progress.cache, layer=layer)
        states = progress.states
        if states is not None:
            states = jax.lax.dynamic_update_slice(states, out.states, (0, slot, 0))
        return progress._replace(final=out.final[:, 0], states=states, cache=out.cache)

    def read_all(progress):
        batch, slots = progress.ids.shape
        read = jnp.arange(slots)[None] <= slot
        mask = read & jnp.pad(valid, ((0, 0), (0, settings.max_new_tokens)), constant_values=True)
        empty = llm.init_cache(model.config, batch, slots)
        out = model.extend(params, progress.ids, mask, empty, layer=layer)
        final = jax.lax.dynamic_slice_in_dim(out.final, slot, 1, axis=1)[:, 0]
        states = None if progress.states is None else out.states
        cache = out.cache._replace(used=slot + 1)
        return progress._replace(final=final, states=states, cache=cache)

    rope = model.config.rope
    if rope.kind != "longrope" or progress.ids.shape[1] <= rope.original_max_length:
        return read_one(progress)
    longest = valid.sum(axis=1).max() + progress.step
    return jax.lax.cond(longest == rope.original_max_length + 1, read_all, read_one, progress)


def _layer(settings: _Settings) -> int:
    return -1 if settings.layer is None else settings.layer


def _check_key(key: Array | None, temperature: float) -> None:
    require(
        key is not None or temperature == 0,
        f"key must be given at temperature {temperature}, got None; pass one key or one per row",
    )


def _row_keys(key: Array, batch: int) -> Array:
    if key.ndim == 1:
        return key
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(batch))
