# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Step 1: length, size, aspect and rate (M-U22)."""

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import BasicConfig


def measure(height: int, width: int, fps: float) -> clip_lib.Measures:
    """Measures a video, which needs nothing but its header."""
    return {"side": float(min(height, width)), "aspect": width / height, "fps": fps}


def rules(config: BasicConfig) -> list[clip_lib.Rule]:
    """Returns the rules of the step; that of the length needs a clip."""
    return [
        clip_lib.Rule("basic", "side", low=config.min_side),
        clip_lib.Rule("basic", "aspect", low=config.min_aspect, high=config.max_aspect),
        clip_lib.Rule("basic", "fps", low=config.min_fps, high=config.max_fps),
        clip_lib.Rule("basic", "seconds", low=config.min_seconds),
    ]
