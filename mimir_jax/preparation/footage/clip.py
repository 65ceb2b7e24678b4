# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the filters see of a clip, and what they say about it."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from mimir_jax.data import video_stream

STEPS = ("read", "basic", "quality", "aesthetic", "watermark", "duplicates", "captions")
"""What may drop a clip, in order; `read` drops whole videos."""

Measures = dict[str, float]
Detail = UInt8[np.ndarray, "_ _ _ 3"]
_Item = TypeVar("_Item")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip with the frames that the filters read; each was decoded once for all of them.

    Attributes:
        first: Number of its first frame in the video.
        end: Number of the frame after its last.
        start: Time of its first frame, in seconds.
        seconds: Length.
        fps: Frames per second of the video.
        height: Rows of the video as it is shown.
        width: Columns.
        small: Frames at `quality.fps`, small.
        detail: Few frames, larger.
    """

    first: int
    end: int
    start: float
    seconds: float
    fps: float
    height: int
    width: int
    small: tuple[video_stream.Picture, ...]
    detail: tuple[video_stream.Picture, ...]

    @functools.cached_property
    def gray(self) -> tuple[UInt8[np.ndarray, "h w"], ...]:
        """The luma of the small frames."""
        return tuple(picture.gray() for picture in self.small)

    def frames(self, count: int) -> Detail:
        """Returns up to `count` of the larger frames, evenly spread."""
        return stacked(self.detail, count)


class Rule(NamedTuple):
    """Bounds of a measure; None is no bound.

    Attributes:
        step: Step that it belongs to.
        measure: Name of the measure.
        low: Least value.
        high: Most value.
    """

    step: str
    measure: str
    low: float | None = None
    high: float | None = None


class Decision(NamedTuple):
    """What a rule said about a clip.

    Attributes:
        rule: The rule.
        value: What was measured.
    """

    rule: Rule
    value: float

    @property
    def passed(self) -> bool:
        """Whether the value is within the bounds."""
        low, high = self.rule.low, self.rule.high
        return (low is None or self.value >= low) and (high is None or self.value <= high)

    def to_json(self) -> dict[str, Any]:
        """Returns the decision as JSON values."""
        return {**self.rule._asdict(), "value": round(self.value, 6), "passed": self.passed}


def decide(rules: list[Rule], measures: Measures) -> list[Decision]:
    """Applies rules to what was measured; a rule without a bound or a measure decides nothing."""
    return [
        Decision(rule, measures[rule.measure])
        for rule in rules
        if rule.measure in measures and (rule.low is not None or rule.high is not None)
    ]


def dropped_by(decisions: list[Decision]) -> str | None:
    """Returns the first step that drops the clip, None if all keep it."""
    return next((decision.rule.step for decision in decisions if not decision.passed), None)


def stacked(pictures: Sequence[video_stream.Picture], count: int) -> Detail:
    """Returns up to `count` pictures in colour, evenly spread."""
    return np.stack([picture.rgb() for picture in spread(pictures, count)])


def spread(frames: Sequence[_Item], count: int) -> list[_Item]:
    """Returns up to `count` frames, evenly spread."""
    count = min(count, len(frames))
    return [frames[int((place + 0.5) * len(frames) / count)] for place in range(count)]
