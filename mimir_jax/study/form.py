# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a study asks, and the key that says which system made which video.

The axes are those of Table 2 of Mimir (arXiv 2412.03085); their questions, and the form of pairs
with one choice an axis, are ours (M-U26).
"""

import dataclasses
import json
import os
import re
from typing import Any, Literal, NamedTuple

from mimir_jax import files
from mimir_jax.errors import InputError

Choice = Literal["left", "right", "tie"]


class Axis(NamedTuple):
    """One thing that raters judge."""

    id: str
    name: str
    question: str


AXES = (
    Axis(
        "instruction_following",
        "Instruction following",
        "Which video shows more of what the text asks for?",
    ),
    Axis(
        "physics_simulation",
        "Physics simulation",
        "Which video behaves more like the real world?",
    ),
    Axis("visual_quality", "Visual quality", "Which video looks better?"),
)


class Side(NamedTuple):
    """One video of a pair.

    Attributes:
        system: Who made it.
        file: Its name in the folder of that system.
        video: Its name in the folder that raters get.
    """

    system: str
    file: str
    video: str


class Pair(NamedTuple):
    """Two videos of one prompt."""

    id: str
    prompt: str
    left: Side
    right: Side


@dataclasses.dataclass(frozen=True)
class Key:
    """All of a study, with what raters must not see.

    Attributes:
        study: Identifies the study; answers carry it.
        seed: Of pairs, sides and names.
        ties: Whether "no difference" may be chosen.
        systems: Folder of each system.
        unmatched: Videos of each system that not every system has a partner for.
        pairs: The pairs, in the order of the page's data.
    """

    study: str
    seed: int
    ties: bool
    systems: dict[str, str]
    unmatched: dict[str, list[str]]
    pairs: tuple[Pair, ...]

    @property
    def choices(self) -> tuple[Choice, ...]:
        """Returns what may be answered."""
        return ("left", "right", "tie") if self.ties else ("left", "right")

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the key file."""
        pairs = [
            {
                "id": pair.id,
                "prompt": pair.prompt,
                "left": pair.left._asdict(),
                "right": pair.right._asdict(),
            }
            for pair in self.pairs
        ]
        return {"kind": "study key", **dataclasses.asdict(self), "pairs": pairs}


def read_key(path: str | os.PathLike[str]) -> Key:
    """Reads a key file.

    Raises:
        ValueError: if the file is no key.
    """
    raw = read_json(path, "study key")
    try:
        pairs = tuple(
            Pair(pair["id"], pair["prompt"], Side(**pair["left"]), Side(**pair["right"]))
            for pair in raw["pairs"]
        )
        fields = {field.name: raw[field.name] for field in dataclasses.fields(Key)}
        key = Key(**{**fields, "pairs": pairs})
        good = isinstance(key.study, str) and len(key.systems) > 1
        for pair in pairs:
            names = {pair.left.system, pair.right.system}
            good = good and len(names) == 2 and names <= set(key.systems)
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good or len({pair.id for pair in pairs}) != len(pairs):
        raise InputError(f"key {path} is damaged; use the key.json written beside the study's page")
    return key


def read_json(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Reads a JSON object that says it is of this `kind`.

    Raises:
        ValueError: if it cannot be read, or is something else.
    """
    try:
        raw = json.loads(files.expand_path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be a {kind} in JSON, found no valid JSON") from None
    found = raw.get("kind") if isinstance(raw, dict) else None
    if found != kind:
        what = f"a {found}" if isinstance(found, str) else "other JSON"
        raise InputError(f"{path} must be a {kind}, found {what}")
    return raw


def natural(name: str) -> list[Any]:
    """Returns a sort key that puts 99.mp4 before 100.mp4."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)] + [name]
