# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the runs of a sweep are judged on: captions in three wordings, or the grounding suite."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mimir_jax.config import TrainConfig
from mimir_jax.data.toyworld.language import WORDINGS
from mimir_jax.evaluation import before_after
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation.suites import grounding, toyworld

_WORDS = "words"  # a condition that all demonstrations have: the same prompt


@dataclasses.dataclass(frozen=True)
class Judging:
    """How the runs of a sweep are judged.

    Attributes:
        kind: What the prompts of a scene differ in: wording or condition.
        styles: The wordings or conditions, `style` of a clip.
        plan: Returns the videos to judge of a run.
        judge: Judges one; None in the categories of its sample alone.
    """

    kind: str
    styles: tuple[str, ...]
    plan: Callable[[TrainConfig], list[Any]]
    judge: Callable[..., clips_lib.JudgedClip] | None = None


def make_judging(demos: Sequence[str] = ()) -> Judging:
    """Returns the judging by demonstrations of the grounding suite, without any by wordings."""
    if not demos:
        return Judging("wording", WORDINGS, _plan_wordings)
    styles = dict.fromkeys(
        _style(demo, condition) for demo in demos for condition in grounding.CONDITIONS[demo]
    )

    def plan(config: TrainConfig) -> list[grounding.GroundedSample]:
        return _plan_demos(demos, config)

    return Judging("condition", tuple(styles), plan, grounding.judge)


def _plan_wordings(config: TrainConfig) -> list[toyworld.ToyworldSample]:
    return before_after.plan(config.judge, config.data.toyworld.variety)


def _plan_demos(demos: Sequence[str], config: TrainConfig) -> list[grounding.GroundedSample]:
    """Returns the videos of all demonstrations; what several ask for is made once."""
    data = config.data
    samples: dict[tuple[int, str], grounding.GroundedSample] = {}
    for demo in demos:
        for index in range(config.judge.scenes):
            for sample in grounding.plan_scene(
                demo, index, data.toyworld.variety, 0, data.height, data.width
            ):
                style = _style(demo, sample.style)
                samples.setdefault((index, style), dataclasses.replace(sample, style=style))
    return list(samples.values())


def _style(demo: str, condition: str) -> str:
    return condition if condition == _WORDS else f"{demo}-{condition}"
