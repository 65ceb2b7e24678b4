# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts that change over time: `0-2s: a red ball rolls`, `2-5s: the ball bounces`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from mimir_jax.errors import require

_TIMED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*s\s*:\s*(.*)", re.DOTALL)


class Scene(NamedTuple):
    """A prompt and when it holds, in seconds."""

    start: float
    end: float
    prompt: str


def parse(prompts: Sequence[str]) -> tuple[Scene, ...]:
    """Returns the scenes of prompts with times, in the order of their times; () for others.

    Raises:
        InputError: for prompts of which some have times and some have none, for times that overlap
            or leave a gap, and for a first scene that does not start at 0.
    """
    found = [_TIMED.fullmatch(prompt) for prompt in prompts]
    if not any(found):
        return ()
    require(
        all(found),
        f"--prompt must have times in all prompts of a video or in none, got {prompts[0]!r} and "
        f"{prompts[-1]!r}; write START-ENDs: TEXT",
    )
    scenes = sorted(Scene(float(m[1]), float(m[2]), m[3].strip()) for m in found)
    end = 0.0
    for scene in scenes:
        span = f"{scene.start:g}-{scene.end:g}s"
        require(
            scene.start < scene.end and bool(scene.prompt),
            f"--prompt {span} must end after it starts and hold a text, got {scene.prompt!r}; "
            "write START-ENDs: TEXT",
        )
        require(
            scene.start == end,
            f"--prompt {span} must start at {end:g}s, where the one before ends, got a "
            f"{'gap' if scene.start > end else 'overlap'}; change its times",
        )
        end = scene.end
    return tuple(scenes)


def at(scenes: Sequence[Scene], second: float) -> int:
    """Returns the number of the scene that holds at a time; the last one goes on."""
    return next((i for i, scene in enumerate(scenes) if second < scene.end), len(scenes) - 1)
