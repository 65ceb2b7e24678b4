# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores that VBench (arXiv 2311.17982) wrote, in the layout of Mimir's Table 1."""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from mimir_jax import files, tables
from mimir_jax.errors import InputError
from mimir_jax.evaluation import results
from mimir_jax.evaluation.config import VBenchScoresConfig

COLUMNS = {
    "background_consistency": "bg. cons.",
    "aesthetic_quality": "aesthetic",
    "imaging_quality": "imaging",
    "object_class": "obj. class",
    "multiple_objects": "mult. obj.",
    "color": "color",
    "spatial_relationship": "spatial",
    "temporal_style": "temp. style",
}
"""VBench's name of each column of Table 1, and the column's heading."""

PUBLISHED: dict[str, tuple[float, ...]] = {
    "ModelScopeT2V": (92.00, 37.14, 55.85, 31.17, 1.52, 63.20, 8.26, 14.52),
    "OpenSora": (97.20, 58.57, 63.38, 90.79, 64.81, 84.67, 76.63, 25.51),
    "OpenSoraPlan": (97.50, 59.40, 57.79, 67.39, 26.98, 83.38, 38.69, 21.86),
    "CogVideoX-2B": (94.71, 60.27, 60.52, 84.86, 65.70, 86.21, 70.49, 25.10),
    "CogVideoX-5B": (95.60, 60.62, 61.35, 87.82, 65.70, 84.17, 64.86, 25.86),
    "Mimir": (97.68, 62.92, 63.91, 92.87, 85.29, 86.50, 78.67, 26.22),
}
"""Table 1 of Mimir (arXiv 2412.03085), percent, in the order of `COLUMNS`."""


def evaluate(config: VBenchScoresConfig, paths: Sequence[str]) -> results.Report:
    """Formats VBench's result files beside the published scores.

    Raises:
        InputError: for no file, or one that VBench did not write.
    """
    if not paths:
        raise InputError("vbench-scores needs VBench's result files, got none")
    scores = read_scores([files.expand_path(path) for path in paths])
    return results.Report(format_table({config.name: scores}))


def read_scores(paths: Sequence[pathlib.Path]) -> dict[str, float]:
    """Reads result files of VBench, `{dimension: [score, details], ...}` with scores 0 to 1.

    Returns:
        Percent by dimension, those of `COLUMNS` alone.

    Raises:
        InputError: if VBench did not write a file, or two give different scores.
    """
    scores: dict[str, float] = {}
    for path in paths:
        content = files.read_json(path, "result file")
        values = {name: content[name] for name in COLUMNS if name in content}
        if not values:
            raise InputError(
                f"result file {path} must hold scores of VBench, got none of "
                f"{', '.join(COLUMNS)}; give its *_eval_results.json"
            )
        for name, value in values.items():
            score = _score(path, name, value)
            if scores.setdefault(name, score) != score:
                raise InputError(
                    f"result file {path} must agree with the others, {name} is {score:.2f} here "
                    f"and {scores[name]:.2f} before; give results of one set of videos"
                )
    return scores


def format_table(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Formats Table 1: published rows, then ours with their difference from CogVideoX-5B."""
    rows = [["VBench, %", *COLUMNS.values()]]
    for name, row in PUBLISHED.items():
        rows.append([f"{name} (published)", *(f"{value:.2f}" for value in row)])
    base = dict(zip(COLUMNS, PUBLISHED["CogVideoX-5B"], strict=True))
    for name, scores in runs.items():
        rows.append([name, *(f"{scores[c]:.2f}" if c in scores else "-" for c in COLUMNS)])
        gains = [f"{scores[c] - base[c]:+.2f}" if c in scores else "-" for c in COLUMNS]
        rows.append(["  against CogVideoX-5B", *gains])
    return tables.align(rows)


def _score(path: pathlib.Path, name: str, value: Any) -> float:
    score = value[0] if isinstance(value, list) and value else value
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(
            f"result file {path} must give a number for {name}, got {json.dumps(score)[:40]}"
        )
    if not 0 <= score <= 1:
        raise InputError(
            f"result file {path} must give scores of 0 to 1, got {score} for {name}; give the file "
            "as VBench wrote it"
        )
    return 100 * score
