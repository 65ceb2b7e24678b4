# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of the text models: texts of Toyworld scenes, tokenised and padded."""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mimir_jax.config import TextConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, language, wording
from mimir_jax.data.toyworld import replies as exact
from mimir_jax.encoders import chat as chat_lib
from mimir_jax.encoders import decoding, tokenizers
from mimir_jax.models import functional
from mimir_jax.parallel import distributed
from mimir_jax.systems import base, heldout
from mimir_jax.systems.language import system as system_lib

WORDING_SHARES = {"narrow": 0.3, "wide": 0.4, "reserved": 0.3}
"""How often the LLM reads which wording."""


class NarrowTexts:
    """Narrow captions of Toyworld scenes, without images: all that T5 reads.

    A record holds a caption in a style and template drawn by its place in the run.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        self._scenes = sources.make_source(config.data, split, seed=config.seed)

    def __len__(self) -> int:
        return len(self._scenes)

    def __repr__(self) -> str:
        return f"NarrowTexts({self._scenes!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns record `index`, its wording drawn with `rng`."""
        scene = self._scenes.scene(index)
        style = captions.STYLES[rng.integers(len(captions.STYLES))]
        return {"caption": captions.caption(scene, style, int(rng.integers(1 << 16)))}


class AllTexts:
    """Captions of Toyworld scenes in every wording, with replies: what the LLM reads.

    A record holds a caption and its exact replies: the four answers, and the elaboration last.
    Every third scene has one kind of object (`single`), so that places occur often.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        toyworld = dataclasses.replace(config.data.toyworld, variety="single")
        single = dataclasses.replace(config.data, toyworld=toyworld)
        self._scenes = sources.make_source(config.data, split, seed=config.seed)
        self._single = sources.make_source(single, split, seed=config.seed)

    def __len__(self) -> int:
        return len(self._scenes)

    def __repr__(self) -> str:
        return f"AllTexts({self._scenes!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns record `index`, its wording drawn with `rng`."""
        scene = (self._single if index % 3 == 2 else self._scenes).scene(index)
        words = rng.choice(language.WORDINGS, p=[WORDING_SHARES[w] for w in language.WORDINGS])
        found = wording.caption(scene, words, int(rng.integers(1 << 32)))
        return {"caption": found.text, "replies": exact.every(found.meaning)}


class TextReader(abc.ABC):
    """`base.Encoder` of Toyworld texts.

    Args:
        config: The run.
        system: Its pure half.
    """

    texts: ClassVar[type]

    def __init__(self, config: TrainConfig, system: system_lib.LanguageSystem):
        self._config, self._tokenizer = config, system.tokenizer

    def source(self, split: sources.Split) -> NarrowTexts | AllTexts:
        """Returns the texts of a split."""
        return self.texts(self._config, split)

    @abc.abstractmethod
    def encode(self, records: Mapping[str, Any]) -> Any:
        """Tokenises a batch of records and pads it to `system.length`."""

    def pad(self, rows: list[list[int]]) -> system_lib.Batch:
        """Returns token rows padded to `system.length`."""
        length = self._config.system.length
        return system_lib.Batch(*tokenizers.pad(rows, length, self._tokenizer.pad_token_id))

    @functools.cached_property
    def heldout(self) -> list[dict[str, Any]]:
        """The held-out records."""
        source = self.source("heldout")
        return [source[i] for i in range(min(self._config.system.heldout_texts, len(source)))]


class CaptionReader(TextReader):
    """Captions alone, for a T5."""

    texts = NarrowTexts

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Tokenises a batch of captions."""
        return self.pad([self._tokenizer(text)["input_ids"] for text in records["caption"]])


class ChatReader(TextReader):
    """All chats about a caption as branches of one row, for an LLM."""

    texts = AllTexts

    def encode(self, records: Mapping[str, Any]) -> system_lib.ChatBatch:
        """Tokenises a batch of captions with their replies."""
        names = [field.name for field in dataclasses.fields(system_lib.ChatBatch)]
        shape = (len(records["caption"]), self._config.system.length)
        arrays = {name: np.full(shape, -1, np.int32) for name in names}
        arrays["ids"][:] = self._tokenizer.pad_token_id
        arrays["positions"][:] = 0
        pairs = zip(records["caption"], records["replies"], strict=True)
        for row, (caption, replies) in enumerate(pairs):
            for name, values in self._branches(caption, replies).items():
                values = values[: shape[1]]
                arrays[name][row, : len(values)] = values
        return system_lib.ChatBatch(**arrays)

    def _branches(self, caption: str, replies: Sequence[str]) -> dict[str, list[int]]:
        """Joins the chats about a caption, their common beginning first."""
        chats = chat_lib.instruction_turns(caption, TextConfig())
        chats.append(chat_lib.caption_turn(caption, TextConfig()))
        prompts = [chat_lib.tokenize(self._tokenizer, chat) for chat in chats]
        begun = 0
        while len({tuple(prompt[: begun + 1]) for prompt in prompts}) == 1:
            begun += 1
        row = {
            "ids": prompts[0][:begun],
            "branch": [0] * begun,
            "positions": list(range(begun)),
            "labels": [-1] * begun,
        }
        for number, (prompt, reply) in enumerate(zip(prompts, replies, strict=True), 1):
            answer = self._tokenizer(reply, add_special_tokens=False)["input_ids"]
            answer.append(self._tokenizer.eos_token_id)
            branch = [*prompt[begun:], *answer]
            row["ids"] += branch
            row["branch"] += [number] * len(branch)
            row["positions"] += range(begun, begun + len(branch))
            row["labels"] += [-1] * (len(prompt) - begun - 1) + [*answer, -1]
        return row


class HeldoutTexts(heldout.HeldoutBatch):
    """Loss and accuracy on held-out texts, masks fixed.

    Args:
        system: The pure half.
        reader: The host half.
    """

    def __init__(self, system: system_lib.LanguageSystem, reader: TextReader):
        super().__init__(system, lambda: reader.encode(heldout.columns(reader.heldout)))
        self._system, self._reader = system, reader


class MaskedTexts(HeldoutTexts):
    """Of a T5: captions with masked tokens filled."""

    _system: system_lib.MaskedLM

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out captions with masks, each followed by the filled one."""
        tokenizer = self._system.tokenizer
        batch = jax.tree.map(lambda x: x[:16], self._batch)
        hidden = np.asarray(self._system.draw_masked(batch, jax.random.key(1)))
        masked = np.where(hidden, tokenizer.mask_token_id, batch.ids)
        logits = self._system.logits(params, jnp.asarray(masked))
        best = distributed.to_host(logits.argmax(-1))
        lines: list[str] = []
        for row, guess, keep in zip(masked, best, np.asarray(batch.mask), strict=True):
            filled = np.where(row == tokenizer.mask_token_id, guess, row)
            lines += [tokenizer.decode(row[keep]), tokenizer.decode(filled[keep]), ""]
        return base.Examples(lines=lines)


class AnsweredTexts(HeldoutTexts):
    """Of an LLM: its answers to captions and instructions."""

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out captions, each followed by the answers to all instructions."""
        config, tokenizer = TextConfig(), self._system.tokenizer
        lines: list[str] = []
        for index, record in enumerate(self._reader.heldout[:6]):
            turns = [chat_lib.caption_turn(record["caption"], config)]
            turns += chat_lib.instruction_turns(record["caption"], config)
            batch = self._reader.pad([chat_lib.tokenize(tokenizer, turn) for turn in turns])
            tokens = decoding.generate(
                self._system.model,
                params,
                jnp.asarray(batch.ids),
                jnp.asarray(batch.mask),
                max_new_tokens=64,
                temperature=config.answer_temperature,
                top_p=config.answer_top_p,
                key=jax.random.key(index),
                eos_ids=(tokenizer.eos_token_id,),
                pad_id=tokenizer.pad_token_id,
            )
            tokens = distributed.to_host(tokens)
            replies = tokenizer.batch_decode(tokens, skip_special_tokens=True)
            lines += [record["caption"], *(f"  {reply.strip()}" for reply in replies), ""]
        return base.Examples(lines=lines)


def make_encoder(
    config: TrainConfig, system: system_lib.LanguageSystem, mesh: Mesh | None = None
) -> TextReader:
    """Returns the reader of texts; there are no frozen networks."""
    del mesh
    return {"t5": CaptionReader, "llm": ChatReader}[config.system.kind](config, system)


def make_evaluators(
    config: TrainConfig, system: system_lib.LanguageSystem, encoder: TextReader
) -> list[base.Evaluator]:
    """Returns the evaluator of held-out texts."""
    return [{"t5": MaskedTexts, "llm": AnsweredTexts}[config.system.kind](system, encoder)]
