# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokens that Divot adds to the vocabulary of an LLM (arXiv 2412.04432), and their embeddings.

Six delimiters surround videos, images and clips. Index tokens `<frame_00000>`, `<frame_00001>`, ...
hold the places of the tokens of a clip. Where the LLM reads a clip, projected clip tokens replace
their embeddings; where it writes one, their embeddings are the learned queries.
"""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from mimir_jax.errors import require
from mimir_jax.models import params as params_lib

DELIMITERS = {
    "video": ("<vid>", "</vid>"),
    "image": ("<img>", "</img>"),
    "clip": ("<frame>", "</frame>"),
}
HEAD_FACTOR = 3.0
"""Start of a new token's logit, as a multiple of the mean logit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Ids of the tokens around text.

    Attributes:
        bos, eos, pad: First token, last token and padding of a sequence.
        video, image, clip: Opening and closing delimiters.
        indices: Index tokens of a clip, in order.
    """

    bos: int
    eos: int
    pad: int
    video: tuple[int, int]
    image: tuple[int, int]
    clip: tuple[int, int]
    indices: tuple[int, ...]


def new_names(num_queries: int) -> list[str]:
    """Returns the tokens that Divot adds for clips of `num_queries` tokens."""
    pairs = (name for pair in DELIMITERS.values() for name in pair)
    return [*pairs, *(f"<frame_{i:05d}>" for i in range(num_queries))]


def extend(ids: Mapping[str, int], num_queries: int, vocab_size: int) -> dict[str, int]:
    """Returns ids with the tokens of clips in the last rows of the LLM, where there are none yet.

    Args:
        ids: Id of every token of the tokenizer.
        num_queries: Tokens of a clip.
        vocab_size: Rows of the LLM.

    Raises:
        InputError: if the LLM has no rows for them.
    """
    names = new_names(num_queries)
    if any(name in ids for name in names):
        return dict(ids)
    first = vocab_size - len(names)
    used = max(ids.values()) + 1
    require(
        first >= used,
        f"vocabulary of the LLM must hold the {used} tokens of its tokenizer and {len(names)} of "
        f"clips, got {vocab_size} rows; set llm.vocab_size to {used + len(names)}",
    )
    return {**ids, **{name: first + place for place, name in enumerate(names)}}


def read(
    ids: Mapping[str, int],
    num_queries: int,
    *,
    bos: str = "<s>",
    eos: str = "</s>",
    pad: str = "<unk>",
) -> Vocabulary:
    """Looks up the tokens that sequences need.

    Args:
        ids: Id of every token, as `tokenizer.get_vocab()` returns it.
        num_queries: Tokens of a clip.
        bos: First token of a sequence.
        eos: Last token of a sequence.
        pad: Token that fills a row; its value has no effect.

    Raises:
        InputError: if `ids` lacks any of them.
    """
    indices = new_names(num_queries)[-num_queries:]
    wanted = [bos, eos, pad, *new_names(num_queries)]
    missing = [name for name in wanted if name not in ids]
    lacks = ", ".join(missing[:4]) + (" and others" if len(missing) > 4 else "")
    require(
        not missing,
        f"vocabulary must hold the tokens of text and clips, got one without {lacks}; add them to "
        "the tokenizer",
    )
    pairs = {kind: (ids[first], ids[last]) for kind, (first, last) in DELIMITERS.items()}
    return Vocabulary(
        bos=ids[bos], eos=ids[eos], pad=ids[pad], indices=tuple(ids[i] for i in indices), **pairs
    )


def grow(params: params_lib.Params, num_tokens: int) -> params_lib.Params:
    """Returns the parameters of an LLM with `num_tokens` more tokens.

    A new embedding starts at the mean of the old ones, and the row of a new token in the output
    layer at `HEAD_FACTOR` times the mean. An LLM with tied embeddings has the former alone.
    """
    require(num_tokens >= 0, f"num_tokens must be at least 0, got {num_tokens}")
    table = params["embed"]["table"]
    rows = jnp.broadcast_to(table.mean(0, keepdims=True), (num_tokens, table.shape[1]))
    part = {"embed": {"table": jnp.concatenate([table, rows])}}
    if "head" in params:
        kernel = params["head"]["kernel"]
        start = HEAD_FACTOR * kernel.mean(1, keepdims=True)
        columns = jnp.broadcast_to(start, (kernel.shape[0], num_tokens))
        part["head"] = {"kernel": jnp.concatenate([kernel, columns], axis=1)}
    return params_lib.replace(params, part)
