# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of checkpoints: a judge of Toyworld clips, suites, and metrics of features.

The judge reads scenes from pixels, by rules. This package gives access to it:

    from mimir_jax import evaluation

    print(evaluation.observe(clip).describe())
    verdict = evaluation.judge(scene, clip)
    print(verdict["colour"].passed, verdict["colour"].reason)
"""

from mimir_jax.evaluation.judge.observation import Group, Observation
from mimir_jax.evaluation.judge.recognition import observe
from mimir_jax.evaluation.judge.scoring import (
    CATEGORIES,
    Score,
    Summary,
    Verdict,
    compare,
    judge,
    summarise,
)
