# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""95 % confidence intervals of shares and means."""

import math
from collections.abc import Callable

import numpy as np
import scipy.special
from jaxtyping import Float, Int

Z95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


def wilson_interval(share: float, number: int | float, z: float = Z95) -> tuple[float, float]:
    """Returns the Wilson score interval of a share.

    Args:
        share: Observed share, 0 to 1.
        number: Independent observations behind it. Clips of one scene are not independent: count
            scenes, and the interval is never too narrow. An effective sample size may be a
            fraction.
        z: Quantile of the normal distribution.
    """
    if number == 0:
        return 0.0, 1.0
    middle = share + z * z / (2 * number)
    spread = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number**2))
    scale = 1 + z * z / number
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def nested_bootstrap_interval(
    values: Float[np.ndarray, "seeds scenes"], *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a mean under resampling of seeds and of scenes.

    Args:
        values: One value for each seed and scene; NaN where there is none.
        resamples: Number of draws of both with replacement.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(0, size, (resamples, size)) for size in values.shape)
    drawn = values[rows[:, :, None], columns[:, None, :]]  # (resamples, seeds, scenes)
    counts = (~np.isnan(drawn)).sum(axis=(1, 2))
    means = np.nansum(drawn, axis=(1, 2))[counts > 0] / counts[counts > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_interval(
    sums: Float[np.ndarray, " n"],
    sizes: Int[np.ndarray, " n"],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of a mean under resampling of whole groups.

    Args:
        sums: Sum of the values of each independent group, such as the clips of a scene.
        sizes: Number of values of each group.
        resamples: Number of draws of all groups with replacement.
        seed: Seed of the draws.
    """
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(sums), (resamples, len(sums)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def jackknife_interval(
    statistic: Callable[[Int[np.ndarray, " n"]], float],
    number: int,
    *,
    groups: int = 10,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the 95 % interval of a statistic by leaving one random group of clips out at a time.

    It serves statistics of a whole set, such as a distance of covariances, whose value changes with
    the repeats of a bootstrap.

    Args:
        statistic: Its value on the clips of these indices.
        number: Number of clips.
        groups: Number of groups, as equal as possible; Student's t has one degree less.
        seed: Seed of the groups.
    """
    order = np.random.default_rng(seed).permutation(number)
    parts = np.array_split(order, groups)
    values = np.array([statistic(np.sort(np.setdiff1d(order, part))) for part in parts])
    error = math.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum())
    half = float(scipy.special.stdtrit(groups - 1, 0.975)) * error
    whole = statistic(np.arange(number))
    return whole - half, whole + half
