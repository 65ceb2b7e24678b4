# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions to the features that condition the video model, by frozen T5 and LLM (M-U2 to M-U4).

Features are a pure function of caption, encoders and seed: each caption passes alone through
programs of one fixed shape, so its features never depend on the rest of the batch.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mimir_jax import hashing, weights
from mimir_jax.config import T5Config, TextConfig, flag
from mimir_jax.encoders import chat, decoding, tokenizers
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.encoders.cache import ContentCache
from mimir_jax.errors import InputError
from mimir_jax.models import condition, functional
from mimir_jax.parallel import context

_ANSWERS = "answers"  # tokens of the answers in `llm`, cached beside the features


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CaptionFeatures:
    """Features of a batch of captions, all sampled answers included.

    The fields are `Any` because JAX rebuilds pytrees with shapes or shardings as leaves. Without an
    LLM the last three are None.

    Attributes:
        t5: T5 states (b, n, d_t5), pads included.
        t5_mask: True at caption tokens (b, n).
        llm: LLM states of each of the k answers (b, k, n, d_llm).
        llm_mask: True at LLM tokens (b, k, n).
        instructions: LLM states of the instruction turns (b, i, d_llm).
    """

    t5: Any
    t5_mask: Any
    llm: Any = None
    llm_mask: Any = None
    instructions: Any = None

    def pick(self, answer: jax.Array | None = None) -> condition.TextFeatures:
        """Returns the features with one answer per row, which the conditioner takes; traceable.

        Args:
            answer: Index of the answer of each row (b,); None takes the first.
        """
        if self.llm is None:
            return condition.TextFeatures(t5=self.t5, t5_mask=self.t5_mask)
        rows = jnp.arange(self.llm.shape[0])
        answer = jnp.zeros_like(rows) if answer is None else answer
        return condition.TextFeatures(
            t5=self.t5,
            t5_mask=self.t5_mask,
            llm=self.llm[rows, answer],
            llm_mask=self.llm_mask[rows, answer],
            instructions=self.instructions,
        )


def frozen_networks(
    config: TextConfig, *, use_llm: bool, split: bool = False
) -> dict[str, frozen_lib.FrozenNetwork]:
    """Describes the networks that a `TextEncoder` loads, by name.

    Args:
        config: Their folders.
        use_llm: Whether the LLM is among them.
        split: Whether each is split over the devices of a process.
    """
    paths = {"t5": config.t5_path, **({"llm": config.llm_path} if use_llm else {})}
    return {
        kind: frozen_lib.FrozenNetwork(
            kind,
            path,
            f"text.{kind}_path",
            dtype=config.dtype,
            split=split,
            quantize=config.quantize,
        )
        for kind, path in paths.items()
    }


def read_t5_width(config: TextConfig) -> int:
    """Returns the width of the T5 states, from the folder's config; reads no weights.

    Raises:
        InputError: for a missing folder.
    """
    network = frozen_networks(config, use_llm=False)["t5"]
    network.require_path()
    return network.describe()[0].config.width


class TextEncoder:
    """Frozen text encoders with a cache by caption.

    Args:
        config: What to read from which encoder.
        use_llm: False leaves the LLM out entirely, for the bare base.
        seed: Seeds the sampled answers.
        mesh: Devices of this process to split the networks over; None keeps them on the first.
    """

    padded = ("llm",)
    """Features whose pads are zeros."""

    def __init__(
        self, config: TextConfig, *, use_llm: bool, seed: int = 0, mesh: Mesh | None = None
    ):
        self._config = config
        self._seed = seed
        self.cache = ContentCache()
        networks = frozen_networks(config, use_llm=use_llm)
        self._t5 = _load(networks["t5"], mesh)
        self._llm = _load(networks["llm"], mesh) if use_llm else None
        if self._llm is not None:
            self._check_turns()

    @property
    def t5_width(self) -> int:
        """Width of the T5 states."""
        return self._t5.model.config.width

    @property
    def llm_width(self) -> int | None:
        """Width of the LLM states, None without an LLM."""
        return self._llm.model.config.width if self._llm else None

    @property
    def networks(self) -> dict[str, "TextNetwork"]:
        """The encoders with their tokenizers, by name."""
        return {"t5": self._t5, **({} if self._llm is None else {"llm": self._llm})}

    def identity(self) -> dict[str, Any]:
        """Returns everything besides caption and seed that features depend on, as JSON values.

        `text` and `t5` determine the features of T5, `llm` the others; without an LLM it is None.
        """
        values = dataclasses.asdict(self._config)
        for name in ("t5_path", "llm_path", "dtype", "quantize"):  # networks name theirs
            del values[name]
        text = {name: values.pop(name) for name in ("length", "null")}
        llm = None
        if self._llm is not None:
            llm = {**self._llm.identity(), "end_ids": list(self._llm.end_ids), **values}
        return {"text": text, "t5": self._t5.identity(), "llm": llm}

    @context.no_mesh()
    def encode(self, captions: Sequence[str]) -> CaptionFeatures:
        """Returns the features of `captions`, stacked, as numpy arrays."""
        rows = [self._row(caption) for caption in captions]
        names = [name for name in rows[0] if name != _ANSWERS]
        return CaptionFeatures(**{name: np.stack([row[name] for row in rows]) for name in names})

    @context.no_mesh()
    def answers(self, caption: str) -> list[str]:
        """Returns the text of each answer in `llm`; none where it holds no answers."""
        if self._llm is None:
            return []
        rows, tokenizer = self._row(caption)[_ANSWERS], self._llm.tokenizer
        return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]

    def truncated(self, caption: str) -> dict[str, str]:
        """Returns the end of `caption` that does not fit `t5`, `llm` and `instructions` (M-U4).

        It is "" where all of the caption fits.
        """
        rests = {"t5": tokenizers.cut(self._t5.tokenizer, caption, self._config.length)[1]}
        if self._llm is not None:
            rests["llm"] = self._cut_for_query(caption)[1]
            rests["instructions"] = self._cut_for_instructions(caption)[1]
        return rests

    def query_ids(self, caption: str) -> list[int]:
        """Returns the tokens of the caption's chat turn for the LLM, at most `length`.

        Too long a caption is cut, its turn is closed: an open one would be continued by the LLM,
        not answered (M-U4).
        """
        return self._query_row(self._cut_for_query(caption)[0])

    def instruction_ids(self, caption: str) -> list[list[int]]:
        """Returns the tokens of each instruction turn with the whole caption."""
        turns = chat.instruction_turns(caption, self._config)
        return [chat.tokenize(self._llm.tokenizer, turn) for turn in turns]

    @context.no_mesh()
    def llm_branches(self, caption: str) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns the LLM's states at the caption (n, e), and at each sampled answer (k_i, e)."""
        query = self.query_ids(caption)
        generation = jax.device_get(self._generate(caption))
        pairs = zip(generation.states, generation.mask, strict=True)
        return generation.prompt_states[0][: len(query)], [states[keep] for states, keep in pairs]

    def _row(self, caption: str) -> dict[str, np.ndarray]:
        """Returns the features of one caption and the tokens of its answers."""
        return self.cache.get(
            hashing.content_key(caption), functools.partial(self._encode_one, caption)
        )

    def _encode_one(self, caption: str) -> dict[str, np.ndarray]:
        length = self._config.length
        tokenizer = self._t5.tokenizer
        ids = tokenizer(caption, truncation=True, max_length=length)["input_ids"]
        ids, mask = tokenizers.pad([ids], length, self._t5.pad_id)
        states = self._t5_states(self._t5.params, jax.device_put(ids))
        features = {"t5": states[0], "t5_mask": mask[0]}
        if self._llm is not None:
            states, mask, answers = self._llm_states(caption)
            features |= {"llm": states, "llm_mask": mask, _ANSWERS: answers}
            features["instructions"] = self._instruction_states(caption)
        return jax.device_get(features)

    def _llm_states(self, caption: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns states (k, n, e) and mask (k, n) of the tokens that `llm_tokens` names.

        The third result (k, n) holds the answer tokens among them.
        """
        length, mode, pad_id = self._config.length, self._config.llm_tokens, self._llm.pad_id
        query = self.query_ids(caption)
        if mode == "query":
            ids, mask = tokenizers.pad([query], length, pad_id)
            states = self._encode_llm(self._llm.params, jax.device_put(ids), jax.device_put(mask))
            return np.where(mask[..., None], states, 0), mask, np.zeros((0, length), np.int32)
        generation = jax.device_get(self._generate(caption))
        count = self._config.num_answers
        first = len(query) if mode == "query+answer" else 0  # where the answer starts
        states = np.zeros((count, length, generation.states.shape[-1]), np.float32)
        mask = np.zeros((count, length), bool)
        answers = np.full((count, length), pad_id, np.int32)
        for row, wrote in enumerate(generation.mask):
            parts = (generation.prompt_states[row][:first], generation.states[row][wrote])
            joined = np.concatenate(parts)[:length]
            states[row, : len(joined)] = joined
            mask[row, : len(joined)] = True
            said = generation.tokens[row][wrote][: length - first]
            answers[row, : len(said)] = said
        return states, mask, answers

    def _generate(self, caption: str) -> decoding.Generation:
        """Samples `num_answers` answers; their keys depend on caption and seed alone."""
        config, llm = self._config, self._llm
        query = self.query_ids(caption)
        ids, mask = tokenizers.pad([query] * config.num_answers, config.length, llm.pad_id)
        digest = hashing.content_key(caption, str(self._seed))
        key = jax.random.key(int.from_bytes(digest[:4], "little"))
        return decoding.generate_states(
            llm.model,
            llm.params,
            jax.device_put(ids),
            jax.device_put(mask),
            max_new_tokens=config.length if config.answer_length is None else config.answer_length,
            temperature=config.answer_temperature,
            top_p=config.answer_top_p,
            key=key,
            eos_ids=llm.end_ids,
            pad_id=llm.pad_id,
            layer=config.llm_layer,
        )

    def _instruction_states(self, caption: str) -> jax.Array:
        """Returns the LLM state at the last prompt position of each instruction turn (i, e).

        A caption too long for them is cut, not the instruction behind it (M-U4).
        """
        llm = self._llm
        rows = self.instruction_ids(self._cut_for_instructions(caption)[0])
        ids, mask = tokenizers.pad(rows, self._config.instruction_length, llm.pad_id)
        return self._last_states(llm.params, jax.device_put(ids), jax.device_put(mask))

    def _cut_for_instructions(self, caption: str) -> tuple[str, str]:
        """Splits `caption` into the part that fits every instruction turn and the rest."""

        def excess(text: str) -> int:
            longest = max((len(row) for row in self.instruction_ids(text)), default=0)
            return longest - self._config.instruction_length

        return tokenizers.cut_until(self._llm.tokenizer, caption, excess)

    def _check_turns(self) -> None:
        """Raises `InputError` if turns leave no room for a caption, or the LLM cannot answer."""
        headless = self._llm.model.config.tie_embeddings is None
        if headless and self._config.llm_tokens != "query":
            raise InputError(
                f"LLM {self._config.llm_path} must have a head to write answers, got states alone; "
                f"take the weights with lm_head, or {flag('system.text.llm_tokens')}=query"
            )
        chat.require_text(self._llm.tokenizer, self._config)
        length, row = self._config.length, self._query_row("")
        if len(row) >= length:
            raise InputError(
                f"text.length must be more than the {len(row)} tokens of the LLM's turn of an "
                f"empty caption, got {length}; set a larger {flag('system.text.length')}"
            )
        limit = self._config.instruction_length
        for text, row in zip(self._config.instructions, self.instruction_ids(""), strict=True):
            if len(row) > limit:
                raise InputError(
                    f"instruction {text[:60]!r} must fit text.instruction_length={limit} tokens as "
                    f"a chat turn, got {len(row)}; shorten it, or train with a larger "
                    f"{flag('system.text.instruction_length')}"
                )

    def _query_row(self, caption: str) -> list[int]:
        turn = chat.caption_turn(caption, self._config)
        return chat.tokenize(self._llm.tokenizer, turn)

    def _cut_for_query(self, caption: str) -> tuple[str, str]:
        """Splits `caption` into the part that its turn holds and the rest."""
        tokenizer, length = self._llm.tokenizer, self._config.length
        return tokenizers.cut_until(
            tokenizer, caption, lambda text: len(self._query_row(text)) - length
        )

    @functools.cached_property
    def _t5_states(self):
        # The mask is not passed: CogVideoX encodes and attends to pads.
        return jax.jit(lambda params, ids: self._t5.model.apply(params, ids, None))

    @functools.cached_property
    def _encode_llm(self):
        layer = self._config.llm_layer
        return jax.jit(functools.partial(self._llm.model.encode, layer=layer))

    @functools.cached_property
    def _last_states(self):
        def last_states(params, ids, mask):
            states = self._llm.model.encode(params, ids, mask, layer=self._config.llm_layer)
            return states[jnp.arange(len(ids)), mask.sum(1) - 1]

        return jax.jit(last_states)


class TextNetwork:
    """A frozen network with its tokenizer."""

    def __init__(
        self, model: functional.Model, params: functional.Params, tokenizer, folder: pathlib.Path
    ):
        self.model = model
        self.params = params
        self.tokenizer = tokenizer
        reads_pads = isinstance(model.config, T5Config)
        pad_id = tokenizers.read_pad_id if reads_pads else tokenizers.masked_pad_id
        self.pad_id = pad_id(tokenizer, model.config.vocab_size)
        self._folder = folder

    @functools.cached_property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer of an LLM."""
        return chat.end_ids(self.tokenizer, self._folder)

    def identity(self) -> dict[str, Any]:
        """Returns config, hashes of weights and tokenizer, and how weights are quantised."""
        rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
        rules |= {"truncation": None, "padding": None}  # of the last call
        words = json.dumps([rules, self.tokenizer.chat_template], sort_keys=True)
        return {
            "weights": hashing.tree_digest(self.params),
            "tokenizer": hashing.content_key(words).hex(),
            "config": dataclasses.asdict(self.model.config),
            **({"quantize": how} if (how := getattr(self.model, "how", None)) else {}),
        }


def _load(network: frozen_lib.FrozenNetwork, mesh: Mesh | None) -> TextNetwork:
    folder = weights.resolve(network.require_path())
    tokenizer = tokenizers.load(folder)
    if network.kind == "t5":
        tokenizers.require(tokenizer, "pad")  # T5 reads its pads
    model, params = network.load(mesh)
    tokenizers.check_ids(tokenizer, model.config.vocab_size)
    return TextNetwork(model, params, tokenizer, folder)
