# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of Divot's LLM: videos to clip tokens, captions and questions to rows."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from mimir_jax import files
from mimir_jax.config import TrainConfig
from mimir_jax.data import feature_store, sources
from mimir_jax.encoders import clip_tokens
from mimir_jax.models import functional
from mimir_jax.models.divot import sequences
from mimir_jax.systems import base, clip_turns
from mimir_jax.systems.divot_llm import system as system_lib
from mimir_jax.systems.divot_llm import tasks, writer

HELDOUT_BATCH = 8


class AgentEncoder:
    """`base.StoringEncoder` of videos with captions.

    Args:
        config: The run.
        system: Its pure half.
        tokens: Tokens of clips.

    Attributes:
        clip_tokens: Tokens of clips.
        rows: Turns of text and clips.
    """

    def __init__(
        self,
        config: TrainConfig,
        system: system_lib.DivotLLMSystem,
        tokens: clip_tokens.ClipTokens,
    ):
        self._config, self._system, self.clip_tokens = config, system, tokens
        kind = "image" if config.data.frames == 1 else "video"
        self.rows = clip_turns.RowMaker(system.tokenizer, system.rows, kind)

    def source(self, split: sources.Split) -> tasks.TaskSource:
        """Returns the videos of a split with their tasks; for training, stored tokens."""
        stored = self._stored if split == "train" else None
        return tasks.TaskSource(self._config, split, self.rows.kind, stored)

    def clips(self) -> sources.Source:
        """Returns the training videos."""
        data, windows = self._config.data, self._config.system.windows(self._config.data)
        return sources.make_source(data, "train", seed=self._config.seed, windows=windows)

    def identity(self) -> dict[str, Any]:
        """Returns everything that stored clip tokens depend on, as JSON values."""
        data = self._config.data
        return {
            "source": repr(self.clips()),
            "seed": self._config.seed,
            "geometry": {"frames": data.frames, "height": data.height, "width": data.width},
            **self.clip_tokens.identity(),
        }

    def least_record_size(self) -> int:
        """Returns the number of floats in the clip tokens of the shortest video."""
        cfg, follows = self._system.rows, self._config.system.clip_windows == "follow"
        return (1 if follows else cfg.max_inputs) * cfg.num_queries * cfg.token_width

    def encode_record(self, records: Mapping[str, Any]) -> feature_store.Record:
        """Returns caption and clip tokens of the one video in `records`, and which it was."""
        (video,), (caption,), (index,) = (records[n] for n in ("video", "caption", "index"))
        return {"tokens": self.clip_tokens.encode(video), "caption": caption, "index": int(index)}

    def empty_record(self) -> None:
        """Returns None: no caption is dropped."""

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Turns a batch of records into rows."""
        if "tokens" in records:
            clips = records["tokens"]
        else:
            clips = [self.clip_tokens.encode(video) for video in records["video"]]
        names = [name for name in tasks.FIELDS if name in records]
        asked = zip(*(records[name] for name in names), strict=True)
        rows = [dict(zip(names, values, strict=True)) for values in asked]
        return stack([self._row(*pair) for pair in zip(clips, rows, strict=True)])

    def heldout(self, task: tasks.Task) -> list[dict[str, Any]]:
        """Returns the held-out records of a task, asked for as inference asks.

        Videos with conversations are asked what the first of these asks.
        """
        config, form = self._config, self._config.system.form
        count = config.system.heldout_clips
        source = self._heldout_source
        talks = task == "comprehension" and source.converses
        if self._system.tells_stories or talks:
            count = min(count, len(source))
            found = [source.read(i, np.random.default_rng(i), task) for i in range(count)]
        else:
            windows = config.system.windows(config.data)
            read = {"seed": config.seed, "windows": windows}
            records = sources.read_heldout_records(config.data, count, **read)
            found = [tasks.whole(record["video"], record["caption"]) for record in records]
        if task == "story" or talks:
            return found
        question, request = clip_turns.fill([clip_turns.DESCRIBE, clip_turns.ASK], self.rows.kind)
        if form == "pretrain":
            question = request = ""
        asked = {"task": task, "question": question, "request": request}
        return [{**r, **asked, "answer": r["caption"]} for r in found]

    def heldout_batches(self, task: tasks.Task) -> list[system_lib.Batch]:
        """Returns the held-out videos as rows of one task."""
        found = self.heldout(task)
        made = [self._row(self.clip_tokens.encode(record["video"]), record) for record in found]
        return [stack(made[i : i + HELDOUT_BATCH]) for i in range(0, len(made), HELDOUT_BATCH)]

    def _row(self, clips: Float[np.ndarray, "n q d"], record: Mapping[str, Any]) -> sequences.Row:
        rows, page = self.rows, record["page"]
        if record["task"] == "story":
            turns = rows.story(clips, record["request"], record["texts"])
        else:
            clips = clips if page == tasks.WHOLE else clips[page : page + 1]
            if record["task"] == "comprehension":
                asked = (record["question"], record["answer"], record["more"])
                turns = rows.comprehension(clips, *asked)
            else:
                turns = rows.generation(clips[0], record["request"], record["caption"])
        ends = bool(record["ends"])
        return sequences.build(turns, self._system.vocab, self._system.rows, ends=ends)

    @functools.cached_property
    def _heldout_source(self) -> tasks.TaskSource:
        return self.source("heldout")

    @functools.cached_property
    def _stored(self) -> feature_store.FeatureSource | None:
        folder = self._config.data.features
        if folder is None:
            return None
        return feature_store.FeatureSource(files.expand_path(folder), self.identity())


class Heldout:
    """`base.Evaluator`: losses of all tasks on held-out videos, and their descriptions.

    Args:
        config: The run.
        system: Its pure half.
        encoder: Its host half.
    """

    def __init__(
        self, config: TrainConfig, system: system_lib.DivotLLMSystem, encoder: AgentEncoder
    ):
        self._config, self._system, self._encoder = config.system, system, encoder
        self._loss = jax.jit(functools.partial(system.loss, key=jax.random.key(0)))

    def read(self) -> None:
        """Reads the held-out videos and runs the tokenizer of clips on them."""
        _ = self._batches

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss`, and by task the loss and accuracy of text and the loss of clips."""
        totals: dict[str, float] = {"loss": 0.0}
        for task, batches in self._batches.items():
            sums = dict.fromkeys(("loss", "text_loss", "accuracy", "clip_loss"), 0.0)
            rows = 0
            for batch in batches:
                loss, values = self._loss(params, batch)
                rows += (count := len(batch.ids))
                for name in sums:
                    value = loss if name == "loss" else values[name]
                    sums[name] += count * float(value)
            totals["loss"] += sums["loss"] / rows / len(self._batches)
            names = {"comprehension": ("text_loss", "accuracy"), "generation": ("clip_loss",)}
            totals |= {name: sums[name] / rows for name in names.get(task, ())}
            if task == "story":
                totals |= {f"story_{n}": sums[n] / rows for n in ("text_loss", "clip_loss")}
        return totals

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out captions or answers, each followed by what the model says."""
        if not self._config.examples or "comprehension" not in self._batches:
            return base.Examples()
        settings = writer.Settings(text_length=self._config.answer_length)
        agent = writer.Writer(self._system, self._encoder.rows, params, settings)
        lines: list[str] = []
        for record in self._encoder.heldout("comprehension")[: self._config.examples]:
            clips = self._encoder.clip_tokens.encode(record["video"])
            if record["page"] != tasks.WHOLE:
                clips = clips[record["page"]][None]
            told = " ".join(agent.describe(clips, record["question"]).split())
            lines += [" ".join(record["answer"].split()), f"  {told}", ""]
        return base.Examples(lines=lines)

    @functools.cached_property
    def _batches(self) -> dict[tasks.Task, list[system_lib.Batch]]:
        return {
            task: jax.device_put(self._encoder.heldout_batches(task))
            for task in tasks.TASKS
            if getattr(self._config, task) > 0
        }


def stack(made: Sequence[sequences.Row]) -> system_lib.Batch:
    """Returns rows as a batch of numpy arrays."""
    names = [field.name for field in dataclasses.fields(system_lib.Batch)]
    return system_lib.Batch(**{name: np.stack([getattr(row, name) for row in made])
                               for name in names})  # fmt: skip


def make_encoder(
    config: TrainConfig, system: system_lib.DivotLLMSystem, mesh: Mesh | None = None
) -> AgentEncoder:
    """Loads the frozen tokenizer of clips of a run of Divot's LLM.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process; the tokenizer stays whole.

    Raises:
        InputError: for a tokenizer of text or clips that is missing or does not fit the LLM.
    """
    del mesh
    _ = system.vocab
    network = system.frozen["clip_tokenizer"]
    clip_tokens.require_fits(network.describe()[0].config, config.system.model, network.path)
    model, params = network.load()
    return AgentEncoder(
        config, system, clip_tokens.ClipTokens(model, params, config.system.clip_frames)
    )


def make_evaluators(
    config: TrainConfig, system: system_lib.DivotLLMSystem, encoder: AgentEncoder
) -> list[base.Evaluator]:
    """Returns the evaluator of held-out videos."""
    return [Heldout(config, system, encoder)]
