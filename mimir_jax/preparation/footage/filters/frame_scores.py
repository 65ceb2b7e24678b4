# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps 3 and 4 as one: a plug-in scores a few frames of a clip, and a bound decides."""

from typing import Protocol, runtime_checkable

from mimir_jax.errors import InputError
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib


@runtime_checkable
class Scorer(Protocol):
    """Scores the frames of a clip.

    The class may have `limit`, its usual bound, and the scorer `highest`, the most that a score can
    be.
    """

    def score(self, frames: clip_lib.Detail) -> float:
        """Returns the score of a clip."""


def measure(
    field: str, name: str, scorer: Scorer | None, clip: clip_lib.Clip, count: int
) -> float | None:
    """Returns the score of a clip, None without a scorer.

    Raises:
        InputError: for a score that is no finite number.
    """
    if scorer is None:
        return None
    return plugins.number(field, name, scorer.score(clip.frames(count)))


def check_bound(section: str, name: str, scorer: Scorer | None, low: float | None) -> None:
    """Raises `InputError` for a least score that no clip can have."""
    highest = getattr(scorer, "highest", None)
    if highest is not None and low is not None and low > highest:
        raise InputError(
            f"{section}.min_score must be at most {highest:g}, the highest score of {name}, got "
            f"{low:g}; set it with --config.{section}.min_score"
        )


def no_scorer(folder: str | None) -> None:
    """Scores nothing."""
    del folder
