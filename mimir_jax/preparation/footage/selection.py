# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Which clips are kept: a function of the records and the config, equal in every process."""

from typing import Any

from mimir_jax.preparation.footage import clip as clip_lib
from mimir_jax.preparation.footage.config import FootageConfig
from mimir_jax.preparation.footage.filters import duplicates

Record = dict[str, Any]


def decide(
    records: list[Record], rules: list[clip_lib.Rule], config: FootageConfig
) -> dict[str, list[Record]]:
    """Returns the decisions on every clip, in order of the steps up to that on duplicates.

    Of clips that look alike, the one with more pixels is kept, then the longer one.

    Args:
        records: Records of the videos.
        rules: Rules of the steps before.
        config: The preparation.
    """
    clips = [clip for record in records for clip in record["clips"]]
    made = {clip["clip"]: clip_lib.decide(rules, clip["measures"]) for clip in clips}
    decisions = {name: [d.to_json() for d in values] for name, values in made.items()}
    least = config.duplicates.min_distance
    if least is None:
        return decisions
    alive = [clip for clip in clips if not clip_lib.dropped_by(made[clip["clip"]])]
    alive.sort(key=_worth, reverse=True)
    nearest = duplicates.find({clip["clip"]: clip["hashes"] for clip in alive}, least)
    rule = clip_lib.Rule("duplicates", "distance", low=least)
    for name, (other, distance) in nearest.items():
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
