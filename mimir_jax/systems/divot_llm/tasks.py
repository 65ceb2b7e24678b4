# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Videos, or their stored clip tokens, with the training tasks of Divot's LLM."""

from typing import Any, Literal

import numpy as np

from mimir_jax.config import INSTRUCTIONS, TrainConfig
from mimir_jax.data import feature_store, sources
from mimir_jax.data.sources.captions import Conversation
from mimir_jax.data.toyworld import captions
from mimir_jax.models.divot import sequences
from mimir_jax.systems import clip_turns

Task = Literal["comprehension", "generation", "story"]
TASKS: tuple[Task, ...] = ("comprehension", "generation", "story")
FIELDS = ("task", "question", "answer", "more", "request", "caption", "texts", "page", "ends")
"""What a record says of its row."""

WHOLE = -1
"""Page of a record of all clips of its video."""


def whole(video: np.ndarray, caption: str) -> dict[str, Any]:
    """Returns the record of all clips of a video, asked for without words."""
    asked = {"question": "", "request": "", "answer": caption, "more": (), "caption": caption}
    return {"video": video, **asked, "texts": [], "page": WHOLE, "ends": True}


class TaskSource:
    """Videos with what the LLM learns from each.

    Besides the fields of a video, a record has its `task` with `question` and `answer` or
    `request`, all drawn by its place in the run; pretraining has no questions and requests.
    Toyworld knows exact answers to four more questions. Where videos have conversations, one of
    them is drawn; `more` are the questions and answers behind its first.

    Of a story, comprehension and generation have the clip with number `page`. The task `story` has
    `texts` up to the clip that is written.

    Args:
        config: The run.
        split: Of the videos.
        kind: Whether the videos are images, of one frame.
        stored: Records with `tokens` in place of `video`; None reads the videos themselves.
    """

    def __init__(
        self,
        config: TrainConfig,
        split: sources.Split,
        kind: sequences.Kind,
        stored: feature_store.FeatureSource | None = None,
    ):
        windows = config.system.windows(config.data)
        self._videos = sources.make_source(config.data, split, seed=config.seed, windows=windows)
        self._records = self._videos if stored is None else stored
        self._form, self._kind = config.system.form, kind
        weights = np.array([getattr(config.system, task) for task in TASKS])
        self._ends = np.cumsum(weights / weights.sum()).round(6).tolist()

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"TaskSource({self._records!r}, {self._form}, {self._ends}, {self._kind})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(
        self, index: int, rng: np.random.Generator, task: Task | None = None
    ) -> dict[str, Any]:
        """Returns record `index`, what is not given drawn with `rng`."""
        place = rng.random()
        drawn = next((t for t, end in zip(TASKS, self._ends, strict=True) if place < end), TASKS[0])
        requests = clip_turns.requests(self._kind)
        choice, request = rng.random(), rng.integers(len(requests))
        page = rng.random()
        read = getattr(self._records, "read", None)
        record = self._records[index] if read is None else read(index, rng)
        record = {**record, "task": task or drawn, "page": WHOLE, "texts": []}
        scene = getattr(self._videos, "scene", None)
        shown = None if scene is None else scene(index)
        if (tell := getattr(self._videos, "story", None)) is not None:
            told = tell(index)
            number = int(page * len(told.pages))
            shown = told.pages[number]
            if record["task"] == "story":
                texts = list(told.texts[: number + 1])
                ends = number + 1 == len(told.pages)
                return {**record, "page": number, "texts": texts, "question": "", "answer": "",
                        "more": (), "request": told.request, "ends": ends}  # fmt: skip
            record |= {"page": number, "caption": self._videos.describe(shown, index)}
        record |= {"question": "", "request": "", "more": (), "ends": True}
        record["answer"] = record["caption"]
        if self._form == "pretrain":
            return record
        record["request"] = requests[request]
        talk = self._choose_conversation(record.get("index", index), choice)
        if talk:
            (record["question"], record["answer"]), *more = talk
            record["more"] = tuple(more)
        else:
            record["question"], record["answer"] = self._ask(shown, record["caption"], choice)
        return record

    @property
    def converses(self) -> bool:
        """Whether rows that describe a video may be conversations about it."""
        has = getattr(self._videos, "has_conversations", False)
        return self._form == "instruct" and has

    def _choose_conversation(self, index: int, choice: float) -> Conversation:
        """Returns a conversation about a video, () if it has none."""
        talks = self._videos.conversations(index) if self.converses else ()
        return talks[int(choice * len(talks))] if talks else ()

    def _ask(self, scene: Any, caption: str, choice: float) -> tuple[str, str]:
        """Returns a question and its answer: one half asks for the caption."""
        if scene is None or choice < 0.5:
            return clip_turns.fill([clip_turns.DESCRIBE], self._kind)[0], caption
        number = min(int((choice - 0.5) * 2 * len(INSTRUCTIONS)), len(INSTRUCTIONS) - 1)
        return INSTRUCTIONS[number], captions.answers(scene)[number]
