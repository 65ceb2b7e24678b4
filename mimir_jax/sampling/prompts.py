# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Prompts and instructions from the command line and from files."""

import json
import pathlib
from collections.abc import Sequence
from typing import Literal

from mimir_jax import files
from mimir_jax.errors import InputError, reason

Kind = Literal["prompt", "negative prompt", "instruction"]
_FLAGS = {"prompt": "--prompt TEXT or --prompts FILE", "instruction": "--instructions FILE"}


def read(path: pathlib.Path, kind: Kind = "prompt") -> list[str]:
    """Reads one text per line: plain, or JSON with a field of the name `kind` in a `.jsonl` file.

    Raises:
        ValueError: if the file cannot be read, is not text, or a line holds no text.
    """
    numbered = files.read_lines(path, f"{kind} file")
    if path.suffix.lower() == ".jsonl":
        return [_field(path, number, line, kind) for number, line in numbered]
    return [line for _, line in numbered]


def check(texts: Sequence[str], kind: Kind = "prompt") -> list[str]:
    """Returns the texts with single spaces where they have white space of any sort.

    Raises:
        ValueError: if there is none, or one is empty or not text.
    """
    if not texts:
        raise InputError(f"at least one {kind} must be given; use {_FLAGS[kind]}")
    return [files.clean_text(one, f"{kind} {number}") for number, one in enumerate(texts, 1)]


def _field(path: pathlib.Path, number: int, line: str, kind: Kind) -> str:
    try:
        value = json.loads(line)[kind]
        if not isinstance(value, str):
            raise TypeError(f"{kind} is {type(value).__name__}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f'{kind} file {path} line {number} must be JSON such as {{"{kind}": "TEXT"}}: '
            f"{reason(error)}"
        ) from None
    return value
