# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Fréchet distance between Gaussians fitted to features (FID, arXiv 1706.08500; FVD, 1812.01717).

    |m - n|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2))

in float64, with the unbiased covariances A and B. The product is never formed: with A = F F' and
B = G G', the last trace is the sum of the singular values of F' G. Eigenvalues of a nearly singular
product would lose half of the digits.
"""

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Float

from mimir_jax.errors import require
from mimir_jax.evaluation import confidence

GROUPS = 10
"""Groups that the interval leaves out in turn."""


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of features.

    Attributes:
        mean: Mean (d,).
        covariance: Covariance (d, d).
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]


def least_clips(width: int) -> int:
    """Returns the fewest clips whose features of `width` have a covariance of full rank."""
    return width + 1


def fit_gaussian(features: Float[np.ndarray, "n d"], subject: str) -> Gaussian:
    """Returns mean and unbiased covariance of features.

    Args:
        features: A row for each clip.
        subject: What a message calls the clips, such as "generated clips".

    Raises:
        InputError: for features that are not finite, or fewer clips than a covariance of full rank
            needs.
    """
    number, width = features.shape
    finite = np.isfinite(features).all(axis=1)
    require(
        bool(finite.all()),
        f"{subject} must have finite features, got {number - int(finite.sum())} of {number} "
        "without; check extractor and videos",
    )
    least = least_clips(width)
    require(
        number >= least,
        f"{subject} must be at least {least} for the covariance of {width} features, got "
        f"{number}; add clips",
    )
    rows = features.astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    return Gaussian(mean, centred.T @ centred / (number - 1))


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Returns the squared Fréchet distance between two Gaussians, at least 0.

    Raises:
        InputError: for Gaussians of different widths.
    """
    require(
        one.mean.shape == other.mean.shape,
        f"features must have one width, got {one.mean.size} and {other.mean.size}; use one "
        "extractor for both",
    )
    shift = one.mean - other.mean
    spread = np.trace(one.covariance) + np.trace(other.covariance)
    common = scipy.linalg.svdvals(_factor(one.covariance).T @ _factor(other.covariance)).sum()
    return max(0.0, float(shift @ shift + spread - 2 * common))


def distance_with_interval(
    generated: Float[np.ndarray, "n d"], real: Float[np.ndarray, "m d"]
) -> tuple[float, tuple[float, float] | None]:
    """Returns the distance of generated from real clips, and its 95 % jackknife interval.

    The interval is that of other generated clips against the same real ones. There is none where
    nine tenths of the generated clips have no covariance of full rank.

    Raises:
        InputError: as `fit_gaussian` and `frechet_distance`.
    """
    reference = fit_gaussian(real, "real clips")
    distance = frechet_distance(fit_gaussian(generated, "generated clips"), reference)
    number, width = generated.shape
    if number - -(-number // GROUPS) < least_clips(width):
        return distance, None
    return distance, confidence.jackknife_interval(
        lambda rows: frechet_distance(fit_gaussian(generated[rows], "clips"), reference),
        number,
        groups=GROUPS,
    )


def _factor(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Returns F with F F' = covariance; eigenvalues that rounding made negative count as 0."""
    values, vectors = scipy.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
