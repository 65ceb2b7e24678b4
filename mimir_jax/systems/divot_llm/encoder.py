# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The host half of Divot's LLM: videos to clip tokens, captions and questions to rows."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from mimir_jax.config import INSTRUCTIONS, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions
from mimir_jax.encoders import clip_tokens
from mimir_jax.models import functional
from mimir_jax.models.divot import sequences
from mimir_jax.systems import base
from mimir_jax.systems.divot_llm import rows as rows_lib
from mimir_jax.systems.divot_llm import system as system_lib
from mimir_jax.systems.divot_llm import writer

HELDOUT_BATCH = 8


class TaskSource:
    """Videos with what the LLM learns from each.

    A record has `task`, `question` and `answer` for comprehension or `request` for generation
    besides the fields of a video. All are drawn by its place in the run; pretraining has no
    questions and requests. Toyworld knows exact answers to four more questions.

    Args:
        config: The run.
        split: Of the videos.
        kind: Noun of the questions.
    """

    def __init__(self, config: TrainConfig, split: sources.Split, kind: str):
        system = config.system
        self._videos = sources.make_source(config.data, split, seed=config.seed)
        self._form, self._kind = system.form, kind
        total = system.comprehension + system.generation
        self._share = system.comprehension / total

    def __len__(self) -> int:
        return len(self._videos)

    def __repr__(self) -> str:
        return f"TaskSource({self._videos!r}, {self._form}, {self._share:.6g}, {self._kind})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns record `index`, its task drawn with `rng`."""
        describes = rng.random() < self._share
        choice, request = rng.random(), rng.integers(len(rows_lib.REQUESTS))
        read = getattr(self._videos, "read", None)
        record = self._videos[index] if read is None else read(index, rng)
        record = {**record, "task": "comprehension" if describes else "generation"}
        record |= {"question": "", "request": "", "answer": record["caption"]}
        if self._form == "pretrain":
            return record
        record["request"] = rows_lib.fill(rows_lib.REQUESTS, self._kind)[request]
        record["question"], record["answer"] = self._question(index, record["caption"], choice)
        return record

    def _question(self, index: int, caption: str, choice: float) -> tuple[str, str]:
        """Returns a question and its answer: one half asks for the caption."""
        scene = getattr(self._videos, "scene", None)
        if scene is None or choice < 0.5:
            return rows_lib.fill([rows_lib.DESCRIBE], self._kind)[0], caption
        number = min(int((choice - 0.5) * 2 * len(INSTRUCTIONS)), len(INSTRUCTIONS) - 1)
        return INSTRUCTIONS[number], captions.answers(scene(index))[number]


class AgentEncoder:
    """`base.Encoder` of videos with captions.

    Args:
        config: The run.
        system: Its pure half.
        clips: Tokens of clips.

    Attributes:
        clips: Tokens of clips.
        rows: Turns of text and clips.
    """

    def __init__(
        self,
        config: TrainConfig,
        system: system_lib.DivotLLMSystem,
        clips: clip_tokens.ClipTokens,
    ):
        self._config, self._system, self.clips = config, system, clips
        kind = "image" if config.data.frames == 1 else "video"
        self.rows = rows_lib.RowMaker(system.tokenizer, system.rows, kind)

    def source(self, split: sources.Split) -> TaskSource:
        """Returns the videos of a split with their tasks."""
        return TaskSource(self._config, split, self.rows.kind)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Turns a batch of records into rows."""
        names = ("video", "task", "question", "answer", "request", "caption")
        made = [self._row(*values) for values in zip(*(records[n] for n in names), strict=True)]
        return stack(made)

    @functools.cached_property
    def heldout(self) -> list[dict[str, Any]]:
        """The held-out records, each video once."""
        config = self._config
        count = config.system.heldout_clips
        videos, texts = sources.read_heldout(config.data, count, seed=config.seed)
        return [{"video": v, "caption": t} for v, t in zip(videos, texts, strict=True)]

    def heldout_batches(self, task: rows_lib.Task) -> list[system_lib.Batch]:
        """Returns the held-out videos as rows of one task."""
        question = request = ""
        if self._config.system.form == "instruct":
            question, request = rows_lib.fill([rows_lib.DESCRIBE, rows_lib.ASK], self.rows.kind)
        made = [
            self._row(r["video"], task, question, r["caption"], request, r["caption"])
            for r in self.heldout
        ]
        return [stack(made[i : i + HELDOUT_BATCH]) for i in range(0, len(made), HELDOUT_BATCH)]

    def _row(
        self, video: np.ndarray, task: str, question: str, answer: str, request: str, caption: str
    ) -> sequences.Row:
        clips = self.clips.encode(video)
        if task == "comprehension":
            turns = self.rows.comprehension(clips, question, answer)
        else:
            turns = self.rows.generation(clips[0], request, caption)
        return sequences.build(turns, self._system.vocab, self._system.rows)


class Heldout:
    """`base.Evaluator`: losses of both tasks on held-out videos, and their descriptions.

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
            names = ("text_loss", "accuracy") if task == "comprehension" else ("clip_loss",)
            totals |= {name: sums[name] / rows for name in names}
        return totals

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns held-out captions, each followed by the model's description of the video."""
        shown = self._encoder.heldout[: self._config.examples]
        if not shown or "comprehension" not in self._batches:
            return base.Examples()
        settings = writer.Settings(text_length=self._config.answer_length)
        agent = writer.Writer(self._system, self._encoder.rows, params, settings)
        question = ""
        if self._config.form == "instruct":
            (question,) = rows_lib.fill([rows_lib.DESCRIBE], self._encoder.rows.kind)
        lines: list[str] = []
        for record in shown:
            clips = self._encoder.clips.encode(record["video"])
            told = " ".join(agent.describe(clips, question).split())
            lines += [record["caption"], f"  {told}", ""]
        return base.Examples(lines=lines)

    @functools.cached_property
    def _batches(self) -> dict[rows_lib.Task, list[system_lib.Batch]]:
        weights = {
            "comprehension": self._config.comprehension,
            "generation": self._config.generation,
        }
        return {
            task: jax.device_put(self._encoder.heldout_batches(task))
            for task, weight in weights.items()
            if weight > 0
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
