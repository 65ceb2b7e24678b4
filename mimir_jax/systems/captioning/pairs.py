# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Images with questions and their answers.

Toyworld gives still scenes: their exact description, answers about objects, colours and places, and
captions with an object's cut-out in place of its words, which the answer tells in words. Other
sources give their captions.
"""

import dataclasses
from typing import Any

import numpy as np

from mimir_jax.config import INSTRUCTIONS, MultimodalConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.data.toyworld import captions, renderer, subject_captions
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.data.toyworld.source import ToyworldSource
from mimir_jax.encoders import interleaved

DESCRIBE = "Describe the image."
_SUBJECTS = 0.5  # share of cut-outs


class Pairs:
    """The records of a split: `prompt` with one image, and `answer`.

    Args:
        config: The run.
        split: Which records.
    """

    def __init__(self, config: TrainConfig, split: sources.Split):
        self._source = sources.make_source(config.data, split, seed=config.seed)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return f"Pairs({self._source!r})"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns record `index` as evaluation reads it."""
        return self.read(index, np.random.default_rng(index))

    def read(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Returns record `index`, its question drawn with `rng`."""
        if not isinstance(self._source, ToyworldSource):
            record = self._source[index]
            return _pair(record["video"][0], DESCRIBE, record["caption"])
        scene, size = self._source.scene(index), (self._source.height, self._source.width)
        if len(scene.groups) == 1 and rng.random() < _SUBJECTS:
            return _subject(scene, size, rng)
        scene = _stilled(scene)
        image = renderer.render(scene, 1, *size)[0]
        asked = int(rng.integers(4))
        if asked < 3:  # the last instruction is about time
            return _pair(image, INSTRUCTIONS[asked], captions.answers(scene)[asked])
        return _pair(image, DESCRIBE, captions.caption(scene, "short", int(rng.integers(64))))


def _pair(image: np.ndarray, question: str, answer: str) -> dict[str, Any]:
    segments = (image, interleaved.Text(f"\n{question}", cut=0))
    return {"prompt": interleaved.Prompt(segments), "answer": answer}


def _subject(
    scene: scene_lib.Scene, size: tuple[int, int], rng: np.random.Generator
) -> dict[str, Any]:
    """Returns a subject-driven prompt and its caption in words."""
    height, width = size
    found = subject_captions.caption(scene, [0], mark=interleaved.MARK, height=height, width=width)
    draw = int(rng.integers(1 << 16))
    prompt = interleaved.subjects(MultimodalConfig(), found.text, found.images[:1], draw)
    return {"prompt": prompt, "answer": found.words}


def _stilled(scene: scene_lib.Scene) -> scene_lib.Scene:
    """Returns the scene as one frame can show it: nothing moves, appears or changes."""
    light = scene.light if scene.light in ("day", "night") else "day"
    return dataclasses.replace(scene, timing="none", actions=(), camera="still", light=light)
