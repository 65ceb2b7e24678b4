# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Inference with Divot's LLM: descriptions, clips and stories (arXiv 2412.04432).

A clip takes two passes. The first decodes text up to the token that begins a video. The second is
one forward pass over the text and the clip's queries, from which the head gives the clip's tokens.
In a story, each finished clip becomes an input before the next text (D-U9).
"""

import copy
import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from mimir_jax import noise
from mimir_jax.config import AgentConfig
from mimir_jax.encoders import decoding
from mimir_jax.errors import require
from mimir_jax.models import functional, llm, lora
from mimir_jax.models.divot import agent, mask, mixture, sequences
from mimir_jax.models.divot.config import MAX_CLIPS
from mimir_jax.models.divot.sequences import Kind, TextTurn, Turn
from mimir_jax.systems import base, clip_turns
from mimir_jax.systems.divot_llm import context as context_lib
from mimir_jax.systems.divot_llm import objective
from mimir_jax.systems.divot_llm import system as system_lib

_STEP = 64  # lengths that programs are compiled for


@dataclasses.dataclass(frozen=True)
class Settings:
    """How text is decoded and clips are drawn.

    Attributes:
        temperature: 0 takes the likeliest token. Divot's public code has 0.7.
        top_k, top_p: Tokens to draw from, as there.
        choice: Whether a clip token is drawn or the mean of its mixture.
        var_scale: Factor of the variances of a draw (D-U6).
        reference: Score index tokens outside a clip with 0, as the public code does, instead of
            excluding them.
        text_length: Tokens of a text at most.
    """

    temperature: float = 0.0
    top_k: int | None = 50
    top_p: float = 0.5
    choice: objective.Choice = "draw"
    var_scale: float = 0.1
    reference: bool = False
    text_length: int = 256


class Writer:
    """Describes clips and writes new ones.

    Args:
        system: The pure half of the run.
        maker: Its turns of text and clips.
        params: Parameters of `system.model`, adapters included.
        settings: How text is decoded and clips are drawn.
    """

    def __init__(
        self,
        system: system_lib.DivotLLMSystem,
        maker: clip_turns.RowMaker,
        params: functional.Params,
        settings: Settings = Settings(),  # noqa: B008
    ):
        config: AgentConfig = system.config.model
        self._agent = functional.build(agent.Agent, config)
        self._llm = functional.build(llm.LLM, config.llm)
        self._lora, self._vocab, self._maker = system.config.lora, system.vocab, maker
        self._params = self._attached(params)
        self._form, self._settings = system.config.form, settings
        self._rules = make_rules(system, settings.reference)

    def with_params(self, params: functional.Params) -> "Writer":
        """Returns this writer with other parameters; nothing compiles again."""
        other = copy.copy(self)
        other._params = self._attached(params)
        return other

    def with_var_scale(self, var_scale: float) -> "Writer":
        """Returns this writer with another factor of the variances of its draws."""
        other = copy.copy(self)
        other._settings = dataclasses.replace(self._settings, var_scale=var_scale)
        return other

    def _attached(self, params: functional.Params) -> functional.Params:
        """Returns parameters with the adapters at their kernels, where they hold adapters."""
        adapted = self._lora.rank and lora.NAME in params
        return lora.attach(params, self._lora) if adapted else params

    def describe(
        self,
        clips: Float[np.ndarray, "n q d"],
        question: str = "",
        *,
        kind: Kind | None = None,
        seed: int = 0,
    ) -> str:
        """Returns the answer to a question about a video or an image, or its caption.

        Args:
            clips: Tokens of its clips.
            question: The question; a model that was only pretrained has none.
            kind: Which it is; None for what the run trained on.
            seed: Of the draws.

        Raises:
            InputError: for no clip or too many, tokens of another shape, or a question that leaves
                no room for an answer.
        """
        shape = (self._agent.config.num_queries, self._agent.config.token_width)
        require(
            0 < len(clips) <= MAX_CLIPS and clips.shape[1:] == shape,
            f"a video must be 1 to {MAX_CLIPS} clips, of tokens of shape {shape}, got shape "
            f"{clips.shape}; leave clips out, or use the tokenizer of the LLM",
        )
        draft = self._begin(self._maker.asked(clips, question, kind))
        self._require_room(draft, 1, "an answer")
        ids = self._write_text(draft, [self._vocab.eos], noise.make_key(seed))
        return self.decode(ids)

    def write_clip(self, caption: str, *, seed: int = 0) -> base.Page:
        """Writes a clip of a caption; its text is what the model says before it.

        A model that was tuned on instructions begins the clip itself, in at most `text_length`
        tokens; otherwise the clip begins behind its text.

        Raises:
            InputError: for a caption that leaves no room for the clip.
        """
        keys = jax.random.split(noise.make_key(seed))
        request = self._request
        draft = self._begin([TextTurn(ids=self._maker.request(request, caption))])
        self._require_room(draft, bool(request) + self._clip_length, self._queries)
        text = ""
        if request:
            ids = self._write_text(draft, self._ends, keys[0], leave=self._clip_length)
            draft.add(ids)
            text = self.decode(ids)
        return base.Page(text, self._write_tokens(draft, keys[1]))

    def log_likelihood(self, clip: Float[np.ndarray, "q d"], caption: str) -> float:
        """Returns log p of a clip after its caption, a mean over the numbers of its tokens.

        Raises:
            InputError: for an LLM without mixtures, or a clip of another tokenizer.
        """
        require(
            self._agent.config.head == "mixture",
            "system.model.head must be mixture to have likelihoods, got "
            f"{self._agent.config.head}; use another run",
        )
        turns = self._maker.generation(clip, self._request, caption)
        row = sequences.build(turns, self._vocab, self._maker.cfg)
        row = sequences.Row(*(part[None] for part in row))
        return float(_log_likelihood(self._agent, self._params, row))

    def write_story(self, request: str, *, pages: int = 3, seed: int = 0) -> list[base.Page]:
        """Writes texts with a clip behind each, and reads every clip before it goes on.

        Args:
            request: What the story is about.
            pages: Most clips; the model may end earlier.
            seed: Of the draws.

        Raises:
            InputError: for a request that leaves no room for a clip.
        """
        ids = self._maker.encode(f"{clip_turns.OPEN}{request}{clip_turns.CLOSE}")
        draft, story = self._begin([TextTurn(ids=ids)]), []
        self._require_room(draft, 1 + self._clip_length, self._queries)
        for number in range(pages):
            if self._room(draft) <= self._clip_length:
                break
            key = jax.random.fold_in(noise.make_key(seed), number)
            keys = jax.random.split(key)
            ids = self._write_text(draft, self._ends, keys[0], leave=self._clip_length)
            draft.add(ids)
            if ids[-1] == self._vocab.eos:
                story.append(base.Page(self.decode(ids), None))
                break
            clip = self._write_tokens(draft, keys[1])
            draft.add_clip(clip, self._maker.kind)
            story.append(base.Page(self.decode(ids), clip))
        return story

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of tokens; those around clips and the indices of these have none."""
        tokenizer = self._maker.tokenizer
        known = [i for i in ids if i < len(tokenizer) and i not in self._special]
        return tokenizer.decode(known, skip_special_tokens=True).strip()

    @property
    def _request(self) -> str:
        """What asks for a clip before its caption, "" of a model that was only pretrained."""
        if self._form != "instruct":
            return ""
        return clip_turns.fill([clip_turns.ASK], self._maker.kind)[0]

    @property
    def _first(self) -> int:
        return getattr(self._vocab, self._maker.kind)[0]

    @property
    def _ends(self) -> list[int]:
        """Tokens that end the text before a clip."""
        return [self._first, self._vocab.eos]

    @property
    def _clip_length(self) -> int:
        """Tokens of a clip that is written: those that begin a video and it, and its queries."""
        return 2 + self._agent.config.num_queries

    @property
    def _queries(self) -> str:
        return f"the {self._agent.config.num_queries} queries of a clip"

    def _room(self, context: context_lib.Context) -> int:
        """Returns how many tokens fit behind a context."""
        return self._agent.config.llm.rope.max_length - len(context.ids)

    def _require_room(self, context: context_lib.Context, length: int, what: str) -> None:
        """Raises `InputError` unless `length` tokens, those of `what`, fit behind a context."""
        require(
            self._room(context) >= length,
            f"prompt must leave room for {what} within the "
            f"{self._agent.config.llm.rope.max_length} positions of the LLM, got "
            f"{len(context.ids)} tokens; shorten it",
        )

    def _begin(self, turns: Sequence[Turn]) -> context_lib.Context:
        return context_lib.Context(self._agent.config, self._vocab, turns)

    def _write_text(
        self, context: context_lib.Context, ends: Sequence[int], key: jax.Array, *, leave: int = 0
    ) -> list[int]:
        """Returns the tokens up to and with an end, or as many as there may be without one.

        Args:
            context: What was read and written before.
            ends: Tokens that end the text.
            key: Of the draws.
            leave: Tokens that the LLM must have room for behind the text.
        """
        settings = self._settings
        length = -(-len(context.ids) // _STEP) * _STEP
        row = context.pad(length)
        embeddings = _embed(self._agent, self._params, row.ids, row.clips, row.positions)
        tokens = decoding.generate(
            self._llm,
            self._params["llm"],
            row.ids,
            row.roles != mask.PAD,
            embeddings=embeddings,
            max_new_tokens=min(settings.text_length, self._room(context) - leave),
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            key=key,
            eos_ids=tuple(ends),
            pad_id=self._vocab.pad,
            rules=self._rules,
        )
        written = np.asarray(tokens)[0].tolist()
        stops = [place for place, token in enumerate(written) if token in ends]
        return written[: stops[0] + 1] if stops else written

    def _write_tokens(
        self, context: context_lib.Context, key: jax.Array
    ) -> Float[np.ndarray, "q d"]:
        """Returns the tokens of the clip that begins where the context ends."""
        whole = context.copy()
        if not whole.ids or whole.ids[-1] != self._first:
            whole.add([self._first])
        whole.add([self._vocab.clip[0]])
        start, count = len(whole.ids), self._agent.config.num_queries
        whole.add(self._vocab.indices, role=mask.QUERY)
        row = whole.pad(-(-len(whole.ids) // _STEP) * _STEP)
        places = np.arange(start, start + count, dtype=np.int32)
        choice = (self._settings.choice, self._settings.var_scale)
        tokens = _draw_clip(self._agent, choice, self._params, row, places, key)
        return np.asarray(tokens)

    @functools.cached_property
    def _special(self) -> frozenset[int]:
        vocab = self._vocab
        pairs = (*vocab.video, *vocab.image, *vocab.clip)
        return frozenset((*pairs, *vocab.indices, vocab.bos, vocab.eos, vocab.pad))


@functools.partial(jax.jit, static_argnums=0)
def _embed(model, params, ids, clips, positions):
    return model.embed(params, ids, clips, positions)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _draw_clip(model, choice, params, row: context_lib.Row, places, key):
    """Draws the tokens of a clip whose queries, or places, are at `places`."""
    kind, var_scale = choice
    draw = functools.partial(objective.draw, model, params, choice=kind, var_scale=var_scale)
    embeddings = model.embed(params, row.ids, row.clips, row.positions)
    if model.config.queries != "autoregressive":
        states = model.encode(params, None, row.roles, embeddings=embeddings)
        return draw(states[0, places], key)

    def write(embeddings, inputs):
        place, key = inputs
        states = model.encode(params, None, row.roles, embeddings=embeddings)
        token = draw(states[:, place - 1], key)  # (1, d)
        read = model.project(params, token).astype(embeddings.dtype)
        return jax.lax.dynamic_update_slice(embeddings, read[:, None], (0, place, 0)), token[0]

    return jax.lax.scan(write, embeddings, (places, jax.random.split(key, len(places))))[1]


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihood(model, params, row: sequences.Row):
    """Returns the mean log p per number of the tokens of the one clip that a row writes."""
    reading = model.read(
        params, row.ids, row.roles, row.inputs, row.input_positions, row.targets,
        row.query_positions,
    )  # fmt: skip
    values = mixture.log_likelihood(model.predict(params, reading.queries), row.targets)
    return values[0, 0].mean() / row.targets.shape[-1]


def make_rules(system: system_lib.DivotLLMSystem, reference: bool) -> decoding.Rules:
    """Returns the rule of clips in text: index tokens follow each other, and nothing else.

    Args:
        system: Gives the vocabulary.
        reference: As in `Settings`.
    """
    vocab = system.vocab
    chain = (vocab.clip[0], *vocab.indices, vocab.clip[1])
    score = 0.0 if reference else float("-inf")
    return decoding.Rules(tuple(zip(chain, chain[1:], strict=False)), chain[1:], score)
