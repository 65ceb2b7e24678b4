# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Inception Score (arXiv 1606.03498): exp of the mean KL divergence of p(y|x) from p(y).

The score is 1 where a classifier says the same of every clip, and the number of classes where it is
certain of each and names all classes equally often.
"""

import dataclasses

import numpy as np
import scipy.special
from jaxtyping import Float

from mimir_jax.errors import require


@dataclasses.dataclass(frozen=True)
class InceptionScore:
    """The score as papers state it, over splits of the clips.

    Attributes:
        mean: Mean over splits.
        deviation: Standard deviation over splits (divided by their number, as is common).
        interval: 95 % interval of the mean, by Student's t over splits; infinite for one split.
    """

    mean: float
    deviation: float
    interval: tuple[float, float]


def to_probabilities(logits: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Returns the softmax of logits in float64."""
    return scipy.special.softmax(logits.astype(np.float64), axis=1)


def score_split(probabilities: Float[np.ndarray, "n k"]) -> float:
    """Returns the score of clips taken together."""
    marginal = probabilities.mean(axis=0, keepdims=True)
    divergence = scipy.special.rel_entr(probabilities, marginal).sum(axis=1)
    return float(np.exp(divergence.mean()))


def inception_score(
    probabilities: Float[np.ndarray, "n k"], *, splits: int = 10, seed: int = 0
) -> InceptionScore:
    """Returns the score over splits of clips in random order.

    The order matters where clips come class by class: a split of few classes has a low score.

    Args:
        probabilities: p(y|x) of each clip; rows sum to 1.
        splits: Number of splits, as equal as possible.
        seed: Seed of the order.

    Raises:
        InputError: for rows that are no probabilities, or fewer than two clips per split.
    """
    rows = probabilities.astype(np.float64)
    number = len(rows)
    valid = np.isfinite(rows).all(axis=1) & (rows >= 0).all(axis=1)
    valid &= np.abs(rows.sum(axis=1) - 1) < 1e-3
    require(
        bool(valid.all()),
        f"generated clips must have class probabilities that sum to 1, got {int((~valid).sum())} "
        f"of {number} without; state the right values of the classifier",
    )
    require(
        number >= 2 * splits,
        f"generated clips must be at least {2 * splits} for an Inception Score over {splits} "
        f"splits, got {number}; add clips",
    )
    rows /= rows.sum(axis=1, keepdims=True)
    order = np.random.default_rng(seed).permutation(number)
    scores = np.array([score_split(rows[part]) for part in np.array_split(order, splits)])
    return InceptionScore(float(scores.mean()), float(scores.std()), _interval(scores))


def _interval(scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    if len(scores) < 2:
        return -np.inf, np.inf
    quantile = scipy.special.stdtrit(len(scores) - 1, 0.975)
    half = float(quantile * scores.std(ddof=1) / np.sqrt(len(scores)))
    return float(scores.mean()) - half, float(scores.mean()) + half
