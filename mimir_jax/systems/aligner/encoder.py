# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoder of the aligner's first phase: captions through two frozen networks."""

import functools
from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from mimir_jax.config import TrainConfig, flag
from mimir_jax.data import sources
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.encoders import interleaved, multimodal
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.systems import base, heldout, video_encoder
from mimir_jax.systems.aligner import system as system_lib


class Captions:
    """The captions of a source; those of Toyworld come without rendering its scenes.

    Args:
        config: The run.
        split: Which records.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        self._source = sources.make_source(config.data, split, seed=config.seed)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Captions({self._source!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index`."""
        if isinstance(self._source, ToyworldSource):
            return {"caption": self._source.text(index)}
        return {"caption": self._source[index]["caption"]}


class AlignerEncoder:
    """`base.Encoder` of captions.

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

    def source(self, split: sources.Split) -> Captions:
        """Returns the captions of a split."""
        return Captions(self._config, split)

    def encode(self, records: Mapping[str, Any]) -> system_lib.Batch:
        """Returns the states of `records["caption"]`, whose prompts hold nothing else."""
        captions = records["caption"]
        cfg = self._config.system.multimodal
        prompts = [interleaved.retrieved(cfg, caption, None) for caption in captions]
        features, t5 = self._llm.encode(prompts), self._text.encode(captions)
        return system_lib.Batch(features.states, features.mask, t5.t5, t5.t5_mask)

    @functools.cached_property
    def heldout(self) -> system_lib.Batch:
        """The held-out captions, encoded."""
        source = self.source("heldout")
        count = min(self._config.system.heldout_texts, len(source))
        return self.encode({"caption": [source[i]["caption"] for i in range(count)]})


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
    """Returns the evaluator of held-out captions."""
    del config
    return [heldout.HeldoutBatch(system, lambda: encoder.heldout)]
