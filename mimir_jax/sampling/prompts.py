# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts from the command line and from files."""

import json
import pathlib
from collections.abc import Sequence


def read(path: pathlib.Path) -> list[str]:
    """Reads a prompt a line: plain text, or JSON with a `prompt` in a `.jsonl` file.

    Raises:
        ValueError: if the file cannot be read, is not text, or holds a line that is no prompt.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"prompt file {path} must be readable text: {reason}") from None
    numbered = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()]
    if path.suffix == ".jsonl":
        return [_prompt_of(path, number, line) for number, line in numbered]
    return [line for _, line in numbered]


def check(prompts: Sequence[str]) -> list[str]:
    """Returns the prompts without surrounding space.

    Raises:
        ValueError: if there is none, or one is empty or not text.
    """
    if not prompts:
        raise ValueError("at least one prompt must be given; use --prompt TEXT or --prompts FILE")
    stripped = [prompt.strip() for prompt in prompts]
    for number, prompt in enumerate(stripped, 1):
        if not prompt or not prompt.isprintable():
            what = "an empty one" if not prompt else f"{prompt[:40]!r}"
            raise ValueError(f"prompt {number} must be printable text, got {what}; rewrite it")
    return stripped


def _prompt_of(path: pathlib.Path, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
        if not isinstance(prompt, str):
            raise TypeError(f"prompt is {type(prompt).__name__}")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'prompt file {path} line {number} must be JSON such as {{"prompt": "a red ball"}}: '
            f"{error!r}"
        ) from None
    return prompt
