# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of pages that compare settings of sampling on the same judged clips.

A row holds one scene: by setting, `passed` has the judged categories of its clip.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Row = Mapping[str, Mapping[str, Any]]


def share(rows: Sequence[Row], name: str, less: str | None = None) -> str:
    """Returns a share of passed categories, or its difference from another setting's, in %."""
    from mimir_jax.evaluation import confidence

    sums = np.array([sum(row[name]["passed"].values()) for row in rows], float)
    if less is not None:
        sums -= [sum(row[less]["passed"].values()) for row in rows]
    sizes = np.array([len(row[name]["passed"]) for row in rows])
    low, high = confidence.bootstrap_interval(sums, sizes)
    sign = "" if less is None else "+"
    middle = sums.sum() / sizes.sum()
    return f"{100 * middle:{sign}.0f} ({100 * low:{sign}.0f} to {100 * high:{sign}.0f})"


def category_lines(rows: Sequence[Row], settings: Iterable[str]) -> list[str]:
    """Returns a table of the clips that passed each category."""
    from mimir_jax import evaluation

    settings = list(settings)
    lines = ["Clips that passed, of those that a category judges:", ""]
    lines += [f"| category | clips | {' | '.join(settings)} |", "|---" * (2 + len(settings)) + "|"]
    for category in evaluation.CATEGORIES:
        judged = [row for row in rows if category in row[settings[0]]["passed"]]
        if judged:
            counts = [sum(row[name]["passed"][category] for row in judged) for name in settings]
            lines.append(f"| {category} | {len(judged)} | {' | '.join(map(str, counts))} |")
    return lines


def is_busy(load: float) -> bool:
    """Whether so many processes wait for the cores that elapsed time says nothing."""
    return load >= 1.5 * (os.cpu_count() or 1)


def load_note(load: float, without: str) -> str:
    """Returns a sentence on what a busy machine leaves out of the page, "" on a quiet one."""
    if not is_busy(load):
        return ""
    cores = os.cpu_count()
    return (
        f"Measured beside other programs (load {load:.0f} on {cores} cores), so {without} is not "
        "given. "
    )
