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
from mimir_jax.config import TextConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, language, wording
from mimir_jax.models import functional, phi3, t5
from mimir_jax.parallel import distributed
from mimir_jax.text import decoding, instructions, tokenizers

Batch = Mapping[str, Array]


WORDING_SHARES = {"narrow": 0.3, "wide": 0.4, "reserved": 0.3}
"""How often the LLM reads which wording."""


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

    A record holds a caption and its exact replies: the four answers, and the elaboration last.
    Every third scene is of `single` scenery, so that places occur often.
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
        found = wording.caption(scene, words, int(rng.integers(1 << 32)))
        replies = [*wording.answers(found.meaning), wording.elaboration(found.meaning)]
        return {"caption": found.text, "replies": replies}


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
        """Tokenises a batch of records."""

    @abc.abstractmethod
    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""

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
        """Tokenises a batch of captions and pads it to `task.length`."""
        tokens = [self.tokenizer(caption)["input_ids"] for caption in records["caption"]]
        ids, mask = tokenizers.pad(tokens, self._task.length, self.tokenizer.pad_token_id)
        return {"ids": ids, "mask": mask}

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        shape = (self._config.batch_size, self._task.length)
        return {
            "ids": jax.ShapeDtypeStruct(shape, jnp.int32),
            "mask": jax.ShapeDtypeStruct(shape, bool),
        }

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


class BranchedLLM(phi3.LLM):
    """Reads several chats that begin alike as one row: their beginning once, then the rest of each.

    A token sees the beginning and its own branch, at the positions that it has in its chat.
    """

    def read_branches(
        self, ids: Int[Array, "b t"], branch: Int[Array, "b t"], positions: Int[Array, "b t"]
    ) -> Float[Array, "b t vocab"]:
        """Scores the next token of every branch.

        Args:
            ids: Tokens of the beginning and of the branches, in order.
            branch: 0 at the beginning, then 1, 2, ...; -1 at pads.
            positions: Of each token in its chat.
        """
        length = ids.shape[1]
        shared, own = branch[:, None, :] == 0, branch[:, None, :] == branch[:, :, None]
        mask = jnp.tril(jnp.ones((length, length), bool))[None] & (shared | own)
        return self.logits(self._run(ids, positions, length, mask[:, None], -1, None)[0])


class CausalLMTask(_LanguageTask):
    """Answer a caption with its elaboration, and a caption and an instruction with their answer.

    The five chats about a caption begin with it, so they are read as branches of one row.
    """

    module = BranchedLLM
    texts = AllTexts

    def prepare(self, records: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Tokenises a batch of records.

        `branch` and `positions` are those of `BranchedLLM`; `labels` holds the next token where it
        is one of a reply, and -1 elsewhere.
        """
        shape = (len(records["caption"]), self._task.length)
        batch = {name: np.full(shape, -1, np.int32) for name in self.batch_spec()}
        batch["ids"][:] = self.tokenizer.pad_token_id
        batch["positions"][:] = 0
        for row, (caption, replies) in enumerate(
            zip(records["caption"], records["replies"], strict=True)
        ):
            for name, values in self._branches(caption, replies).items():
                values = values[: shape[1]]
                batch[name][row, : len(values)] = values
        return batch

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what `prepare` makes."""
        shape = (self._config.batch_size, self._task.length)
        names = ("ids", "branch", "positions", "labels")
        return {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name in names}

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the next-token cross-entropy over replies; prompts cannot be predicted."""
        del key
        logits = self.model.read_branches(params, batch["ids"], batch["branch"], batch["positions"])
        labels = batch["labels"]
        return _cross_entropy(logits, jnp.maximum(labels, 0), labels >= 0)

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

    def _branches(self, caption: str, replies: Sequence[str]) -> dict[str, list[int]]:
        """Joins the chats about a caption, their common beginning first."""
        chats = instructions.instruction_turns(caption, TextConfig())
        chats.append(instructions.caption_turn(caption, TextConfig()))
        prompts = [instructions.tokenize(self.tokenizer, chat) for chat in chats]
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
            answer = self.tokenizer(reply, add_special_tokens=False)["input_ids"]
            answer.append(self.tokenizer.eos_token_id)
            branch = [*prompt[begun:], *answer]
            row["ids"] += branch
            row["branch"] += [number] * len(branch)
            row["positions"] += range(begun, begun + len(branch))
            row["labels"] += [-1] * (len(prompt) - begun - 1) + [*answer, -1]
        return row


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
