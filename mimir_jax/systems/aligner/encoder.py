# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of the aligner's first phase: prompts through two frozen networks."""

import functools
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from mimir_jax.config import TrainConfig, flag
from mimir_jax.data import sources
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.encoders import multimodal
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.systems import base, heldout, video_encoder
from mimir_jax.systems.aligner import system as system_lib
from mimir_jax.systems.vimi import prompts as prompts_lib


class Prompts:
    """The prompts of a source: each record has several, which are drawn when they are encoded.

    Args:
        config: The run.
        split: Which records.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        self._source = sources.make_source(config.data, split, seed=config.seed)
        self._count = config.system.prompts_per_clip

    def __len__(self) -> int:
        return len(self._source) * self._count

    def __repr__(self) -> str:
        return f"Prompts({self._source!r}, {self._count})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index`: caption, index of the clip and number of the prompt.

        Captions of Toyworld come without rendering its scenes.
        """
        number, clip = divmod(index, len(self._source))
        if isinstance(self._source, ToyworldSource):
            caption = self._source.text(clip)
        else:
            caption = self._source[clip]["caption"]
        return {"caption": caption, "index": clip, "number": number}


class AlignerEncoder:
    """`base.Encoder` of prompts.

    Args:
        config: The run.
        llm: The frozen multimodal LLM.
        text: The frozen text encoder.
    """

    def __init__(
        self,
        config: TrainConfig,
        llm: multimodal.MultimodalEncoder,
        text: text_lib.TextEncoder,
    ):
        self._config, self._llm, self._text = config, llm, text
        self._prompts = prompts_lib.RunPrompts(config)

    def source(self, split: sources.Split) -> Prompts:
        """Returns the prompts of a split."""
        return Prompts(self._config, split)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the states of the prompts of training records, and of their captions in words."""
        return self._encode(records, self._prompts.training)

    def encode_heldout(self, task: str | None = None) -> system_lib.Batch | None:
        """Returns the held-out prompts, encoded; None where no record has prompts of the task.

        Args:
            task: A field of `TasksConfig` with a weight; None draws it.
        """
        source, maker = self.source("heldout"), self._prompts.heldout
        records = [source[i] for i in range(min(self._config.system.heldout_texts, len(source)))]
        if task is not None:
            records = [record for record in records if maker.has_task(record["index"], task)]
        return self._encode(heldout.columns(records), maker, task) if records else None

    def _encode(
        self, records: Mapping[str, Any], maker: prompts_lib.PromptMaker, task: str | None = None
    ) -> system_lib.Batch:
        rows = zip(*(records[name] for name in ("caption", "index", "number")), strict=True)
        drawn = [
            maker.draw({"caption": caption, "index": index}, int(number), task=task)
            for caption, index, number in rows
        ]
        features = self._llm.encode(drawn)
        words = [prompt.caption if prompt.words is None else prompt.words for prompt in drawn]
        t5 = self._text.encode(words)
        return system_lib.Batch(features.states, features.mask, t5.t5, t5.t5_mask)


class HeldoutTask(heldout.HeldoutBatch):
    """The held-out measures of the prompts of one task.

    Args:
        system: The pure half.
        encoder: The host half.
        task: A field of `TasksConfig`.
    """

    def __init__(self, system: system_lib.AlignerSystem, encoder: AlignerEncoder, task: str):
        super().__init__(system, functools.partial(encoder.encode_heldout, task))
        self._task = task

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss_TASK` and `cosine_TASK`; nothing where no record has such prompts."""
        if self._batch is None:
            return {}
        values = super().evaluate(params)
        return {f"{name}_{self._task}": values[name] for name in ("loss", "cosine")}


def make_encoder(
    config: TrainConfig, system: system_lib.AlignerSystem, mesh: Mesh | None = None
) -> AlignerEncoder:
    """Loads the frozen networks of a run of an aligner.

    Args:
        config: The run.
        system: Its pure half.
        mesh: Devices of this process that would split parameters.

    Raises:
        InputError: for a network that is missing, or of another width than the aligner expects.
    """
    section, model = config.system, system.config.model
    widths = multimodal.read_width(section.multimodal), text_lib.read_t5_width(section.text)
    for name, stated, width, path in (  # checked before weights are read
        ("llm_width", model.llm_width, widths[0], section.multimodal.path),
        ("text_width", model.text_width, widths[1], section.text.t5_path),
    ):
        if stated != width:
            raise InputError(
                f"model.{name} must be the width {width} of {path}, got {stated}; set it with "
                f"{flag(f'system.model.{name}')}"
            )
    mesh = video_encoder.text_mesh(config, mesh)
    llm = multimodal.MultimodalEncoder(section.multimodal, mesh=mesh)
    text = text_lib.TextEncoder(section.text, use_llm=False, seed=config.seed, mesh=mesh)
    return AlignerEncoder(config, llm, text)


def make_evaluators(
    config: TrainConfig, system: system_lib.AlignerSystem, encoder: AlignerEncoder
) -> list[base.Evaluator]:
    """Returns the evaluators of held-out prompts: of all, and of each of several tasks."""
    tasks = config.system.shares
    return [
        heldout.HeldoutBatch(system, encoder.encode_heldout),
        *(HeldoutTask(system, encoder, task) for task in tasks if len(tasks) > 1),
    ]
