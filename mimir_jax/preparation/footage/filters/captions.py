# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Step 5: a short and a long caption for each clip (M-U23)."""

import pathlib
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from mimir_jax import files
from mimir_jax.data.sources import captions as captions_lib
from mimir_jax.data.sources import folder as folder_lib
from mimir_jax.errors import InputError
from mimir_jax.preparation import plugins
from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import CaptionsConfig

Frames = Callable[[], clip_lib.Detail]
"""Reads the frames of a clip at `captions.fps`."""

Captioner = Callable[[Frames, dict[str, Any]], tuple[str, str]]
"""Maps a clip, by its frames and its record with `path`, to a short and a long caption.

A text that it does not have is "".
"""

_UNPRINTABLE = {"Cc", "Cs"}  # controls and halves of characters
_INVISIBLE = {*_UNPRINTABLE, "Cf", "Zs", "Zl", "Zp"}  # alone; joiners are part of words
_SENTENCE = re.compile(r"[.!?](?=\s|$)")


def read(
    captioner: Captioner, config: CaptionsConfig, frames: Frames, clip: dict[str, Any]
) -> list[str]:
    """Returns the captions of a clip, the short one first; none if the captioner has no text.

    Raises:
        InputError: if the captioner returns anything but two texts.
    """
    answer = captioner(frames, clip)
    fine = isinstance(answer, (tuple, list)) and len(answer) == 2
    if not fine or not all(isinstance(text, str) for text in answer):
        raise InputError(
            f"captions.captioner={config.captioner} must return two texts, got "
            f"{str(answer)[:60]!r}; repair the plug-in, the same command goes on"
        )
    texts = []
    for text in answer:
        kinds = [unicodedata.category(c) for c in text]
        plain = "".join(" " if k in _UNPRINTABLE else c for c, k in zip(text, kinds, strict=True))
        if not {*kinds} <= _INVISIBLE and (shortened := shorten(plain, config.max_words)):
            texts.append(files.clean_text(shortened, f"caption of {clip['clip']}"))
    return list(dict.fromkeys(texts))


def shorten(text: str, max_words: int) -> str:
    """Cuts a text to at most `max_words` words, after a whole sentence if it has one."""
    words = text.split()
    if len(words) <= max_words:
        return " ".join(words)
    cut = " ".join(words[:max_words])
    ends = [match.end() for match in _SENTENCE.finditer(cut)]
    return cut[: ends[-1]] if ends else cut


def first_sentence(text: str) -> str:
    """Returns a text up to the end of its first sentence; all of it if none ends."""
    end = _SENTENCE.search(text)
    return text[: end.end()] if end else text


def given(config: CaptionsConfig, root: pathlib.Path) -> Captioner:
    """Returns the captioner that takes the captions of RAW; every clip of a video has the same.

    Raises:
        InputError: if a video has none.
    """
    del config
    try:
        captions = captions_lib.read(root, folder_lib.list_videos(root)[0])
    except InputError as error:
        raise InputError(
            f"{error}; or name another captioner with --config.captions.captioner"
        ) from None

    def caption(frames: Frames, clip: dict[str, Any]) -> tuple[str, str]:
        del frames
        texts = sorted(captions[clip["video"]], key=len)
        return texts[0], texts[-1]

    return caption


def divot_llm(config: CaptionsConfig, root: pathlib.Path) -> Captioner:
    """Returns a trained run of Divot's LLM that describes clips (arXiv 2412.04432).

    Its short caption is the first sentence of its long one.

    Raises:
        InputError: without a folder, or one that holds no such run.
    """
    del root
    folder = plugins.require_folder("captions", config.folder, "a run of divot_llm")
    from mimir_jax.sampling import agents

    agent = agents.open_agent(folder)

    def caption(frames: Frames, clip: dict[str, Any]) -> tuple[str, str]:
        del frames  # it reads clips at its own rate
        long = agent.describe(agent.read(clip["path"])[0])
        return first_sentence(long), long

    return caption
