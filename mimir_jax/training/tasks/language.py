# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of the small text models that stand in for T5 and Phi-3.5 in the embedded default."""

import abc
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from mimir_jax import weights
from mimir_jax.config import INSTRUCTIONS, TextConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions
from mimir_jax.encoders import chat as chat_lib
from mimir_jax.encoders import decoding, tokenizers
from mimir_jax.errors import InputError
from mimir_jax.models import functional, llm, t5
from mimir_jax.parallel import distributed

Batch = Mapping[str, Array]


class ToyworldTexts:
    """Texts of Toyworld scenes, without pictures.

    A record holds a caption in a style and template drawn by its place in the run, one of the
    four instructions or none, and the exact reply: the answer, or the long caption.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        self._scenes = sources.make_source(config.data, split, seed=config.seed)

    def __len__(self) -> int:
        return len(self._scenes)

    def __repr__(self) -> str:
        return f"ToyworldTexts({self._scenes!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns record `index`, its wording drawn with `rng`."""
        scene = self._scenes.scene(index)
        style = captions.STYLES[rng.integers(len(captions.STYLES))]
        caption = captions.caption(scene, style, int(rng.integers(1 << 16)))
        which = int(rng.integers(-len(INSTRUCTIONS), len(INSTRUCTIONS)))
        if which < 0:
            reply = captions.caption(scene, "long", int(rng.integers(1 << 16)))
        else:
            reply = captions.answers(scene)[which]
        return {"caption": caption, "instruction": max(which, -1), "reply": reply}


class _LanguageTask(abc.ABC):
    """What both language tasks share: texts in, padded tokens out."""

    module: type

    def __init__(self, config: TrainConfig):
        self._config, self._task = config, config.system
        self.model = functional.build(self.module, config.system.model)
        self.tokenizer = tokenizers.load(weights.resolve(config.system.tokenizer_path))
        if len(self.tokenizer) > config.system.model.vocab_size:
            raise InputError(
                f"system.model.vocab_size must hold the {len(self.tokenizer)} tokens of "
                f"{config.system.tokenizer_path}, got {config.system.model.vocab_size}"
            )

    def source(self) -> ToyworldTexts:
        """Returns the training texts."""
        return ToyworldTexts(self._config, "train")

    def prepare(self, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tokenises a batch of records and pads it to `task.length`."""
        rows = zip(records["caption"], records["instruction"], records["reply"], strict=True)
        tokens = [self._tokens(caption, int(number), reply) for caption, number, reply in rows]
        ids, mask = tokenizers.pad(tokens, self._task.length, self.tokenizer.pad_token_id)
        return {"ids": ids, "mask": mask}

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        shape = (self._config.batch_size, self._task.length)
        return {
            "ids": jax.ShapeDtypeStruct(shape, jnp.int32),
            "mask": jax.ShapeDtypeStruct(shape, bool),
        }

    @abc.abstractmethod
    def _tokens(self, caption: str, instruction: int, reply: str) -> list[int]:
        """Tokenises one record."""

    @functools.cached_property
    def _heldout(self) -> list[dict[str, Any]]:
        source = ToyworldTexts(self._config, "heldout")
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

    def _tokens(self, caption: str, instruction: int, reply: str) -> list[int]:
        del instruction, reply
        return self.tokenizer(caption)["input_ids"]

    def _logits(self, params: functional.Params, ids: Int[Array, "b l"]) -> Float[Array, "b l v"]:
        # Pads are read like any token, as they are when the encoder conditions a video model.
        states = self.model.apply(params, ids, None)
        return states @ params["embed"]["table"].T * states.shape[-1] ** -0.5


class CausalLMTask(_LanguageTask):
    """Answer a caption with its elaboration, or a caption and an instruction with their answer."""

    module = llm.LLM

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the next-token cross-entropy over all real tokens."""
        del key
        ids, mask = batch["ids"], batch["mask"]
        logits = self.model.apply(params, ids, mask).logits
        return _cross_entropy(logits[:, :-1], ids[:, 1:], mask[:, 1:])

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes held-out captions and what the model answers to each instruction."""
        config = TextConfig()
        lines = []
        for index, record in enumerate(self._heldout[:6]):
            turns = [chat_lib.caption_turn(record["caption"], config)]
            turns += chat_lib.instruction_turns(record["caption"], config)
            rows = [chat_lib.tokenize(self.tokenizer, turn) for turn in turns]
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

    def _tokens(self, caption: str, instruction: int, reply: str) -> list[int]:
        chat = chat_lib.caption_turn(caption, TextConfig())
        if instruction >= 0:
            chat = chat_lib.instruction_turns(caption, TextConfig())[instruction]
        answer = self.tokenizer(reply, add_special_tokens=False)["input_ids"]
        prompt = chat_lib.tokenize(self.tokenizer, chat)
        return [*prompt, *answer, self.tokenizer.eos_token_id]


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
