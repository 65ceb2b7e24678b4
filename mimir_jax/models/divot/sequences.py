# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows of text and clips for Divot's LLM, built on the host (arXiv 2412.04432).

A row is BOS, its turns, EOS and padding. A text turn is its tokens. A clip is `<frame>`, one index
token per clip token, `</frame>`; a turn of clips stands between `<vid>` and `</vid>`, or `<img>`
and `</img>`. Comprehension, generation and stories differ by their turns alone:

    pretraining, comprehension   InputTurn(video)  TextTurn(caption, learn)
    pretraining, generation      TextTurn(caption)  OutputTurn(clip, learn_delimiters=False)
    tuning, comprehension        TextTurn("[INST] ")  InputTurn(video)
                                 TextTurn(question + " [/INST]\\n")  TextTurn(answer, learn)  ...
    tuning, generation           TextTurn("[INST] " + request + " [/INST]\\n")  OutputTurn(clip)
    story, its last clip         TextTurn(request)  TextTurn(sentence, learn)  InputTurn(clip)  ...
                                 TextTurn(sentence, learn)  OutputTurn(clip)
    story, another clip          the same up to it, without EOS

A row that only reads clips is cut on the right and may lose its EOS; all of a row that writes one
must fit.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from mimir_jax.config import ClipSequenceConfig
from mimir_jax.errors import InputError, require
from mimir_jax.models.divot import mask, vocabulary

IGNORED = -100
"""Label of a token that is not learned."""

NOWHERE = -1
"""Position of the tokens of a clip that fills up a row."""

Kind = Literal["video", "image"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTurn:
    """Text.

    Attributes:
        ids: Its tokens, without BOS and EOS.
        learn: Whether the LLM learns to write it.
    """

    ids: Sequence[int] | Int[np.ndarray, " n"]
    learn: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputTurn:
    """A video or an image that the LLM reads.

    Attributes:
        tokens: Clip tokens (clips, queries, width); an image is one clip.
        kind: Which delimiters surround it.
    """

    tokens: Float[np.ndarray, "..."]
    kind: Kind = "video"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputTurn:
    """A video or an image that the LLM writes, one clip.

    Attributes:
        tokens: Clip tokens (queries, width) that the queries learn to predict.
        kind: Which delimiters surround it.
        learn_delimiters: Whether the LLM also learns when a clip begins and ends.
    """

    tokens: Float[np.ndarray, "..."]
    kind: Kind = "video"
    learn_delimiters: bool = True


Turn = TextTurn | InputTurn | OutputTurn


class Row(NamedTuple):
    """One sequence, or with a leading axis a batch of them.

    Attributes:
        ids: Tokens.
        roles: `mask.PAD`, `mask.TOKEN` or, in a clip that the LLM writes, `mask.QUERY`.
        labels: The token itself where the LLM learns to write it, else `IGNORED`. The state before
            a token predicts it.
        inputs: Tokens of the clips that the LLM reads, zeros after the last.
        input_positions: Where they replace the embeddings, `NOWHERE` after the last.
        targets: Tokens of the clips that the LLM writes, zeros after the last.
        query_positions: Which states predict them, `NOWHERE` after the last.
    """

    ids: Int32[np.ndarray, "*b t"]
    roles: Int32[np.ndarray, "*b t"]
    labels: Int32[np.ndarray, "*b t"]
    inputs: Float32[np.ndarray, "*b m q d"]
    input_positions: Int32[np.ndarray, "*b m q"]
    targets: Float32[np.ndarray, "*b g q d"]
    query_positions: Int32[np.ndarray, "*b g q"]


def build(
    turns: Sequence[Turn],
    vocab: vocabulary.Vocabulary,
    cfg: ClipSequenceConfig,
    *,
    ends: bool = True,
) -> Row:
    """Returns the row of `turns`, of the same shapes for all rows of a config.

    Args:
        turns: What is read and written, in order.
        vocab: Ids of the tokens around text.
        cfg: Shape of the rows.
        ends: Whether EOS follows, which the LLM learns to write.

    Raises:
        InputError: for a turn without tokens or with clips of another shape, more clips than the
            config has, clips that do not fit, and turns that teach nothing.
    """
    for number, turn in enumerate(turns, 1):
        _check_tokens(turn, f"turn {number}", cfg)
    draft = _Draft()
    draft.add([vocab.bos])
    for turn in turns:
        if isinstance(turn, TextTurn):
            draft.add([int(i) for i in turn.ids], learn=turn.learn)
        else:
            draft.add_clips(turn, vocab)
    if ends:
        draft.add([vocab.eos], learn=True)
    _check_whole(turns, draft, cfg)
    return Row(
        ids=_fill(draft.ids, cfg.max_length, vocab.pad),
        roles=_fill(draft.roles, cfg.max_length, mask.PAD),
        labels=_fill(draft.labels, cfg.max_length, IGNORED),
        inputs=_stack(draft.inputs, cfg.max_inputs, cfg),
        input_positions=_places(draft.input_starts, cfg.max_inputs, cfg),
        targets=_stack(draft.targets, cfg.max_outputs, cfg),
        query_positions=_places(draft.query_starts, cfg.max_outputs, cfg),
    )


@dataclasses.dataclass
class _Draft:
    """A row that grows: its columns, and its clips with where they start."""

    ids: list[int] = dataclasses.field(default_factory=list)
    roles: list[int] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)
    inputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    input_starts: list[int] = dataclasses.field(default_factory=list)
    targets: list[np.ndarray] = dataclasses.field(default_factory=list)
    query_starts: list[int] = dataclasses.field(default_factory=list)

    def add(self, ids: Sequence[int], *, learn: bool = False, role: int = mask.TOKEN) -> None:
        """Appends tokens."""
        self.ids += ids
        self.roles += [role] * len(ids)
        self.labels += ids if learn else [IGNORED] * len(ids)

    def add_clips(self, turn: InputTurn | OutputTurn, vocab: vocabulary.Vocabulary) -> None:
        """Appends a video or an image."""
        writes = isinstance(turn, OutputTurn)
        learn = writes and turn.learn_delimiters
        clips, starts = (
            (self.targets, self.query_starts) if writes else (self.inputs, self.input_starts)
        )
        first, last = getattr(vocab, turn.kind)
        self.add([first], learn=learn)
        for clip in [turn.tokens] if writes else turn.tokens:
            self.add([vocab.clip[0]])
            clips.append(clip)
            starts.append(len(self.ids))
            self.add(vocab.indices, role=mask.QUERY if writes else mask.TOKEN)
            self.add([vocab.clip[1]])
        self.add([last], learn=learn)


def _check_tokens(turn: Turn, name: str, cfg: ClipSequenceConfig) -> None:
    """Raises `InputError` for a turn that has no tokens or clips of a wrong shape."""
    if isinstance(turn, TextTurn):
        require(len(turn.ids) > 0, f"{name} must hold text, got no tokens; leave it out")
        return
    shape, clip = turn.tokens.shape, (cfg.num_queries, cfg.token_width)
    remedy = "encode it with the tokenizer of the config"
    if isinstance(turn, OutputTurn):
        rule = f"{name} must hold the tokens of one clip, of shape {clip}"
        require(shape == clip, f"{rule}, got {shape}; {remedy}")
        return
    counts = "one clip" if turn.kind == "image" else f"1 to {cfg.max_inputs} clips"
    fits = len(shape) == 3 and shape[1:] == clip and shape[0] > 0
    fits = fits and (turn.kind == "video" or shape[0] == 1)
    rule = f"{name} must hold the tokens of {counts}, each of shape {clip}"
    require(fits, f"{rule}, got {shape}; {remedy}")


def _check_whole(turns: Sequence[Turn], draft: _Draft, cfg: ClipSequenceConfig) -> None:
    """Raises `InputError` for a row that has too many clips, does not fit or teaches nothing."""
    for clips, limit in ((draft.inputs, "max_inputs"), (draft.targets, "max_outputs")):
        most = getattr(cfg, limit)
        require(
            len(clips) <= most,
            f"turns must have at most {limit}={most} clips, got {len(clips)}; leave some out",
        )
    length, need = len(draft.ids), 0
    if draft.targets:
        need = length
    elif draft.inputs:  # up to the closing delimiters behind the last clip
        need = draft.input_starts[-1] + cfg.num_queries + 2
    if need > cfg.max_length:
        what = "whole, as they write a clip," if draft.targets else "up to their last clip"
        raise InputError(
            f"turns must fit {what} in max_length={cfg.max_length} tokens, got {need}; "
            "shorten the text"
        )
    teaches = draft.targets or any(isinstance(t, TextTurn) and t.learn for t in turns)
    require(
        bool(teaches),
        f"turns must have text to learn or a clip to write, got neither in {len(turns)}; "
        "set learn on an answer",
    )
    kept = any(label != IGNORED for label in draft.labels[: cfg.max_length])
    require(
        kept,
        f"turns must have text to learn within max_length={cfg.max_length} tokens, got none "
        f"before the cut of {length}; shorten the text before it",
    )


def _fill(column: list[int], length: int, value: int) -> Int32[np.ndarray, " t"]:
    """Cuts or fills a column on the right."""
    out = np.full(length, value, np.int32)
    out[: len(column)] = column[:length]
    return out


def _stack(clips: list[np.ndarray], count: int, cfg: ClipSequenceConfig) -> np.ndarray:
    """Returns `count` clips, zeros after the last."""
    out = np.zeros((count, cfg.num_queries, cfg.token_width), np.float32)
    for place, clip in enumerate(clips):
        out[place] = clip
    return out


def _places(starts: list[int], count: int, cfg: ClipSequenceConfig) -> np.ndarray:
    """Returns the positions of `count` clips, `NOWHERE` after the last."""
    out = np.full((count, cfg.num_queries), NOWHERE, np.int32)
    for place, start in enumerate(starts):
        out[place] = np.arange(start, start + cfg.num_queries)
    return out
