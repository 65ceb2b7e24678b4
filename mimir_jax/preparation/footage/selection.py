# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which clips are kept: a function of the records and the config, equal in every process."""

from collections.abc import Mapping, Sequence
from typing import Any

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import FootageConfig
from mimir_jax.preparation.footage.filters import duplicates

Record = dict[str, Any]


Nearest = Mapping[str, Sequence[Any]]
"""For a clip, the kept clip that it is nearest to, None without one, and the distance."""


def nearest(records: list[Record], rules: list[clip_lib.Rule], config: FootageConfig) -> Nearest:
    """Returns the nearest kept clip of every clip that no other step drops.

    Of clips that look alike, the one with more pixels is kept, then the longer one.

    Args:
        records: Records of the videos.
        rules: Rules of the steps before that on duplicates.
        config: The preparation.

    Returns:
        As `duplicates.find` does; nothing where duplicates are kept.
    """
    least = config.duplicates.min_distance
    if least is None:
        return {}
    alive = [
        clip
        for record in records
        for clip in record["clips"]
        if not clip_lib.dropped_by(clip_lib.decide(rules, clip["measures"]))
    ]
    alive.sort(key=_worth, reverse=True)
    return duplicates.find({clip["clip"]: clip["hashes"] for clip in alive}, least)


def decide(
    records: list[Record], rules: list[clip_lib.Rule], config: FootageConfig, near: Nearest
) -> dict[str, list[Record]]:
    """Returns the decisions on every clip, in order of the steps up to that on duplicates.

    Args:
        records: Records of the videos.
        rules: Rules of the steps before.
        config: The preparation.
        near: Of these records.
    """
    decisions = {
        clip["clip"]: [d.to_json() for d in clip_lib.decide(rules, clip["measures"])]
        for record in records
        for clip in record["clips"]
    }
    rule = clip_lib.Rule("duplicates", "distance", low=config.duplicates.min_distance)
    for name, (other, distance) in near.items():
        decision = clip_lib.Decision(rule, distance).to_json()
        decisions[name].append(decision | ({} if other is None else {"of": other}))
    return decisions


def dropped_by(decisions: list[Record]) -> str | None:
    """Returns the first step that drops a clip, None if all keep it."""
    return next((d["step"] for d in decisions if not d["passed"]), None)


def kept(records: list[Record], decisions: dict[str, list[Record]]) -> dict[str, list[str]]:
    """Returns the names of the kept clips of each video that has any."""
    names = {
        record["video"]: [
            clip["clip"] for clip in record["clips"] if not dropped_by(decisions[clip["clip"]])
        ]
        for record in records
    }
    return {video: clips for video, clips in names.items() if clips}


def _worth(clip: Record) -> tuple[float, float, str]:
    measures = clip["measures"]
    return measures["side"], measures["seconds"], clip["clip"]
