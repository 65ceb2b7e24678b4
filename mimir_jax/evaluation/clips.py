# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Judged clips of Toyworld in a folder of results: one JSON line per clip in `clips.jsonl`.

A line holds name, scene index, style, seed and prompt of a clip, and its scores by category.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mimir_jax import files
from mimir_jax.errors import InputError

CLIPS = "clips.jsonl"

JudgedClip = Mapping[str, Any]

_FIELDS = (
    ("name", str, "a text"),
    ("index", int, "a whole number"),
    ("style", str, "a text"),
    ("prompt", str, "a text"),
    ("scores", dict, "scores by category"),
)
_REMEDY = "delete the folder and evaluate again"


def read_clips(folder: pathlib.Path) -> list[JudgedClip]:
    """Reads the judged clips of a folder of results, without an incomplete last line.

    Raises:
        InputError: for a file that cannot be read, or a line that is no judged clip.
    """
    path = folder / CLIPS
    complete = files.read_text(path, "file of judged clips").rpartition("\n")[0]
    clips = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            clips.append(_checked(json.loads(line)))
        except ValueError as error:
            raise InputError(
                f"result file {path} line {number} must be a judged clip: {error}; {_REMEDY}"
            ) from None
    return clips


def recover_clips(folder: pathlib.Path) -> list[JudgedClip]:
    """Reads the clips of a stopped evaluation and removes an incomplete last line."""
    if not (folder / CLIPS).exists():
        return []
    clips = read_clips(folder)
    files.write_text(folder / CLIPS, _to_lines(clips))
    return clips


def append_clips(folder: pathlib.Path, clips: Sequence[JudgedClip]) -> None:
    """Appends judged clips."""
    path = folder / CLIPS
    with files.writing(path, "file of judged clips"), path.open("a", encoding="utf-8") as file:
        file.write(_to_lines(clips))


def _to_lines(clips: Sequence[JudgedClip]) -> str:
    return "".join(json.dumps(clip) + "\n" for clip in clips)


def _checked(line: Any) -> JudgedClip:
    """Returns a line of `clips.jsonl`; raises `InputError` for what is wrong with it."""
    fields = line if isinstance(line, dict) else {}
    for name, kind, what in _FIELDS:
        if not isinstance(fields.get(name), kind):
            raise InputError(f"{name} must be {what}, got {json.dumps(fields.get(name))[:40]}")
    for category, score in line["scores"].items():
        parts = score if isinstance(score, dict) else {}
        value, passed = parts.get("value"), parts.get("passed")
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"value of {category} must be 0 to 1, got {json.dumps(value)[:40]}")
        if not isinstance(passed, bool):
            raise InputError(
                f"passed of {category} must be true or false, got {json.dumps(passed)[:40]}"
            )
    return line
