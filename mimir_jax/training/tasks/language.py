# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the small text models that stand in for T5 and Phi-3.5 in the embedded default."""

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from mimir_jax import weights
from mimir_jax.config import INSTRUCTIONS, TextConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, language, wording
from mimir_jax.models import functional, phi3, t5
from mimir_jax.parallel import distributed
from mimir_jax.text import decoding, instructions, tokenizers

Batch = Mapping[str, Array]


WORDING_SHARES = {"narrow": 0.3, "wide": 0.4, "reserved": 0.3}
"""How often the LLM reads which wording."""

_ELABORATIONS = 0.3


class NarrowTexts:
    """Narrow captions of Toyworld scenes, without pictures: all that T5 reads.

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

    A record holds a caption, one of the four instructions or none, and the exact reply: the answer,
    or the elaboration. Every third scene is of `single` scenery, so that places occur often.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        single = dataclasses.replace(config.data, scenery="single")
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
        found = wording.caption(scene, words, rng)
        if rng.random() < _ELABORATIONS:
            reply, which = wording.elaboration(found.meaning), -1
        else:
            which = int(rng.integers(len(INSTRUCTIONS)))
            reply = wording.answers(found.meaning)[which]
        return {"caption": found.text, "instruction": which, "reply": reply}


class _LanguageTask(abc.ABC):
    """What both language tasks share: texts in, padded tokens out."""

    module: type
    texts: type

    def __init__(self, config: TrainConfig):
        self._config, self._task = config, config.task
        if config.data.source != "toyworld":
            raise ValueError(
                f"task.kind {config.task.kind!r} needs data.source 'toyworld', got "
                f"{config.data.source!r}; set it with --config.data.source"
            )
        self.model = functional.build(self.module, config.task.model)
        self.tokenizer = tokenizers.load(weights.resolve(config.task.tokenizer_path))
        if len(self.tokenizer) > config.task.model.vocab_size:
            raise ValueError(
                f"task.model.vocab_size must hold the {len(self.tokenizer)} tokens of "
                f"{config.task.tokenizer_path}, got {config.task.model.vocab_size}"
            )

    def source(self) -> NarrowTexts | AllTexts:
        """Returns the training texts."""
        return self.texts(self._config, "train")

    @abc.abstractmethod
    def prepare(self, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tokenises a batch of records and pads it to `task.length`."""

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        shape = (self._config.batch_size, self._task.length)
        return {
            "ids": jax.ShapeDtypeStruct(shape, jnp.int32),
            "mask": jax.ShapeDtypeStruct(shape, bool),
        }

    def _pad(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        ids, mask = tokenizers.pad(rows, self._task.length, self.tokenizer.pad_token_id)
        return {"ids": ids, "mask": mask}

    @functools.cached_property
    def _heldout(self) -> list[dict[str, Any]]:
        source = self.texts(self._config, "heldout")
        return [source[i] for i in range(min(self._task.heldout_texts, len(source)))]

    @functools.cached_property
    def _heldout_batch(self) -> dict[str, Array]:
        names = self._heldout[0]
        return jax.device_put(self.prepare({n: [r[n] for r in self._heldout] for n in names}))

    @functools.cached_property
    def _heldout_loss(self):
        return jax.jit(functools.partial(self.loss, key=jax.random.key(0)))

    def read_heldout(self) -> None:
        """Tokenises the held-out texts."""
        _ = self._heldout_batch

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns loss and accuracy on held-out texts, masks fixed."""
        loss, values = self._heldout_loss(params, self._heldout_batch)
        return {"loss": float(loss), **{name: float(value) for name, value in values.items()}}


class MaskedLMTask(_LanguageTask):
    """Fill masked caption tokens with a T5 encoder and its own embedding as output layer."""

    module = t5.T5Encoder
    texts = NarrowTexts

    def prepare(self, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tokenises a batch of captions."""
        return self._pad([self.tokenizer(caption)["input_ids"] for caption in records["caption"]])

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the cross-entropy at all tokens, and the accuracy at masked ones.

        A state that is scored only where its token is masked need not tell which token it has:
        "red" and "blue" come out almost equal, and a video model learns colours slowly from them.
        """
        ids, mask = batch["ids"], batch["mask"]
        hidden = jax.random.bernoulli(key, self._task.mask_rate, ids.shape) & mask
        logits = self._logits(params, jnp.where(hidden, self.tokenizer.mask_token_id, ids))
        loss, _ = _cross_entropy(logits, ids, mask)
        return loss, _cross_entropy(logits, ids, hidden)[1]

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes held-out captions with masks and with what the model puts there."""
        batch = jax.tree.map(lambda x: x[:16], self._heldout_batch)
        hidden = jax.random.bernoulli(jax.random.key(1), self._task.mask_rate, batch["ids"].shape)
        hidden = np.asarray(hidden & batch["mask"])
        masked = np.where(hidden, self.tokenizer.mask_token_id, batch["ids"])
        best = distributed.to_host(self._logits(params, jnp.asarray(masked)).argmax(-1))
        lines = []
        for row, guess, keep in zip(masked, best, np.asarray(batch["mask"]), strict=True):
            filled = np.where(row == self.tokenizer.mask_token_id, guess, row)
            lines += [self.tokenizer.decode(row[keep]), self.tokenizer.decode(filled[keep]), ""]
        return _write_text(folder, lines)

    def _logits(self, params: functional.Params, ids: Int[Array, "b l"]) -> Float[Array, "b l v"]:
        # Pads are read like any token, as they are when the encoder conditions a video model.
        states = self.model.apply(params, ids, None)
        return states @ params["embed"]["table"].T * states.shape[-1] ** -0.5


class CausalLMTask(_LanguageTask):
    """Answer a caption with its elaboration, or a caption and an instruction with their answer."""

    module = phi3.LLM
    texts = AllTexts

    def prepare(self, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tokenises a batch of records; `reply` is True at the tokens of replies."""
        rows = zip(records["caption"], records["instruction"], records["reply"], strict=True)
        pairs = [self._tokens(caption, int(number), reply) for caption, number, reply in rows]
        batch = self._pad([prompt + reply for prompt, reply in pairs])
        starts = np.array([len(prompt) for prompt, _ in pairs])
        batch["reply"] = batch["mask"] & (np.arange(self._task.length) >= starts[:, None])
        return batch

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        spec = super().batch_spec()
        return {**spec, "reply": spec["mask"]}

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the next-token cross-entropy over replies; prompts cannot be predicted."""
        del key
        ids, mask = batch["ids"], batch["mask"]
        logits = self.model.apply(params, ids, mask).logits
        return _cross_entropy(logits[:, :-1], ids[:, 1:], batch["reply"][:, 1:])

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes held-out captions and what the model answers to each instruction."""
        config = TextConfig()
        lines = []
        for index, record in enumerate(self._heldout[:6]):
            turns = [instructions.caption_turn(record["caption"], config)]
            turns += instructions.instruction_turns(record["caption"], config)
            rows = [instructions.tokenize(self.tokenizer, turn) for turn in turns]
            ids, mask = tokenizers.pad(rows, self._task.length, self.tokenizer.pad_token_id)
            tokens = decoding.generate(
                self.model,
                params,
                jnp.asarray(ids),
                jnp.asarray(mask),
                max_new_tokens=64,
                temperature=config.answer_temperature,
                top_p=config.answer_top_p,
                key=jax.random.key(index),
                eos_ids=(self.tokenizer.eos_token_id,),
                pad_id=self.tokenizer.pad_token_id,
            )
            tokens = distributed.to_host(tokens)
            replies = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
            lines += [record["caption"], *(f"  {reply.strip()}" for reply in replies), ""]
        return _write_text(folder, lines)

    def _tokens(self, caption: str, instruction: int, reply: str) -> tuple[list[int], list[int]]:
        """Tokenises one record: its prompt, and its reply with the end."""
        chat = instructions.caption_turn(caption, TextConfig())
        if instruction >= 0:
            chat = instructions.instruction_turns(caption, TextConfig())[instruction]
        answer = self.tokenizer(reply, add_special_tokens=False)["input_ids"]
        prompt = instructions.tokenize(self.tokenizer, chat)
        return prompt, [*answer, self.tokenizer.eos_token_id]


def _cross_entropy(
    logits: Float[Array, "b l v"], labels: Int[Array, "b l"], where: Bool[Array, "b l"]
) -> tuple[Float[Array, ""], dict[str, Array]]:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), labels)
    count = jnp.maximum(where.sum(), 1)
    correct = (logits.argmax(-1) == labels) & where
    return (losses * where).sum() / count, {"accuracy": correct.sum() / count}


def _write_text(folder: pathlib.Path, lines: list[str]) -> list[pathlib.Path]:
    if not distributed.is_first():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return [path]
