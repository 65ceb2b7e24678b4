# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The rules of all steps that a video decides alone, in order."""

from mimir_jax.errors import InputError
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import FootageConfig
from mimir_jax.preparation.footage.filters import basic, quality


def of_videos(config: FootageConfig) -> list[clip_lib.Rule]:
    """Returns the rules; no plug-in is made.

    Raises:
        InputError: for a plug-in that is unknown, or a watermark detector without a bound.
    """
    detector = plugins.find("watermark.detector", config.watermark.detector)
    limit = config.watermark.max_score
    limit = getattr(detector, "limit", None) if limit is None else limit
    if limit is None and config.watermark.detector != plugins.NONE:
        raise InputError(
            f"watermark.max_score must be set for {config.watermark.detector}, which has no usual "
            "bound; set it with --config.watermark.max_score"
        )
    return [
        *basic.rules(config.basic),
        *quality.rules(config.quality),
        clip_lib.Rule("aesthetic", "aesthetic", low=config.aesthetic.min_score),
        clip_lib.Rule("watermark", "watermark", high=limit),
    ]
