# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions by a LLaVA of a user's folder, which sees one frame (M-U23)."""

import pathlib
from typing import Any

from mimir_jax.encoders import image_answers
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import CaptionsConfig
from mimir_jax.preparation.footage.filters import captions

_TOKENS_PER_WORD = 2  # English has 1.3 to 1.5


def llava(config: CaptionsConfig, root: pathlib.Path) -> captions.Captioner:
    """Returns a captioner that describes the middle one of the frames that it reads.

    The short caption is the first sentence of the answer to `short_prompt`, the long one the answer
    to `long_prompt`. Both are decoded greedily.

    Raises:
        InputError: without a folder, or one that holds no LLaVA.
    """
    del root
    folder = plugins.require_folder("captions", config.folder, "a LLaVA")
    reader = image_answers.ImageAnswers(
        folder,
        (config.short_prompt, config.long_prompt),
        max_new_tokens=_TOKENS_PER_WORD * config.max_words,
    )

    def caption(frames: captions.Frames, clip: dict[str, Any]) -> tuple[str, str]:
        del clip
        short, long = reader.answer(clip_lib.spread(list(frames()), 1)[0])
        return captions.first_sentence(short), long

    return caption
