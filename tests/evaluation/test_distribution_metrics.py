# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
import scipy.linalg

from mimir_jax.errors import InputError
from mimir_jax.evaluation import confidence
from mimir_jax.evaluation.metrics import frechet, inception


def gaussian(mean, covariance):
    return frechet.Gaussian(np.asarray(mean, float), np.asarray(covariance, float))


def random_covariance(rng, width, rank=None):
    rows = rng.normal(size=(width, rank or width))
    return rows @ rows.T


def test_frechet_distance_of_gaussians_in_closed_form():
    # One dimension: (m - n)^2 + (s - t)^2.
    assert frechet.frechet_distance(gaussian([1], [[4]]), gaussian([3], [[9]])) == pytest.approx(5)
    # Covariances that commute: the same, axis by axis.
    turn = scipy.linalg.expm(np.array([[0, 0.7], [-0.7, 0]]))
    one, other = (turn @ np.diag(d) @ turn.T for d in ([4.0, 25.0], [1.0, 16.0]))
    distance = frechet.frechet_distance(gaussian([0, 0], one), gaussian([3, 4], other))
    assert distance == pytest.approx(25 + 1 + 1, rel=1e-12)


@pytest.mark.parametrize("rank", [None, 3], ids=["full", "singular"])
def test_frechet_distance_keeps_its_identities(rank):
    rng = np.random.default_rng(0)
    a = gaussian(rng.normal(size=7), random_covariance(rng, 7, rank))
    b = gaussian(rng.normal(size=7), random_covariance(rng, 7, rank))
    distance = frechet.frechet_distance(a, b)
    assert distance > 1 and frechet.frechet_distance(b, a) == pytest.approx(distance, rel=1e-12)
    assert frechet.frechet_distance(a, a) < 1e-10
    shifted = gaussian(a.mean + 2, a.covariance)
    assert frechet.frechet_distance(a, shifted) == pytest.approx(7 * 4, rel=1e-12)
    scaled = [gaussian(3 * g.mean, 9 * g.covariance) for g in (a, b)]
    assert frechet.frechet_distance(*scaled) == pytest.approx(9 * distance, rel=1e-10)
    turn, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    turned = [gaussian(turn @ g.mean, turn @ g.covariance @ turn.T) for g in (a, b)]
    assert frechet.frechet_distance(*turned) == pytest.approx(distance, rel=1e-10)
    if rank is None:
        root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
        expected = ((a.mean - b.mean) ** 2).sum()
        expected += np.trace(a.covariance + b.covariance - 2 * root)
        assert distance == pytest.approx(expected, rel=1e-8)


def test_gaussian_is_fitted_in_float64_without_bias():
    rows = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32) + 1000
    fitted = frechet.fit_gaussian(rows, "clips")
    np.testing.assert_allclose(fitted.covariance, np.cov(rows.astype(float).T), rtol=1e-12)
    assert fitted.mean.dtype == np.float64


def test_distance_of_samples_approaches_that_of_their_gaussians():
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(20000, 3)), 2 * rng.normal(size=(20000, 3)) + 1
    fits = [frechet.fit_gaussian(rows, "clips") for rows in (one, other)]
    assert frechet.frechet_distance(*fits) == pytest.approx(3 + 3, rel=0.05)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[:4], "real clips must be at least 5 for the covariance of 4 features, got 4"),
        (lambda x: np.where(x == x[2, 1], np.nan, x), "finite features, got 1 of 6 without"),
    ],
    ids=["few", "nan"],
)
def test_features_without_a_covariance_are_refused(change, message):
    rows = np.random.default_rng(3).normal(size=(6, 4))
    with pytest.raises(InputError, match=message):
        frechet.fit_gaussian(change(rows), "real clips")
    with pytest.raises(InputError, match="one width, got 4 and 3; use one extractor for both"):
        frechet.frechet_distance(*(frechet.fit_gaussian(rows[:, :d], "c") for d in (4, 3)))


def test_inception_score_of_hand_computed_distributions():
    assert inception.score_split(np.eye(4)) == pytest.approx(4)
    assert inception.score_split(np.full((5, 4), 0.25)) == pytest.approx(1)
    # Two clips (0.9, 0.1) and (0.1, 0.9): KL from one half is ln 2 less the entropy.
    rows = np.array([[0.9, 0.1], [0.1, 0.9]])
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert inception.score_split(rows) == pytest.approx(math.exp(math.log(2) - entropy))
    # A certain classifier whose classes appear 3 : 1 has the exponential of their entropy.
    rows = np.eye(2)[[0, 0, 0, 1]]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert inception.score_split(rows) == pytest.approx(math.exp(entropy))


def test_inception_score_over_splits_does_not_depend_on_the_order_of_classes():
    classes = np.repeat(np.arange(10), 100)
    result = inception.inception_score(np.eye(10)[classes])
    assert 8.5 < result.mean < 10 and 0 < result.deviation < 0.5
    assert result.interval[0] < result.mean < result.interval[1]
    whole = inception.inception_score(np.eye(10)[classes], splits=1)
    assert whole.mean == pytest.approx(10) and whole.deviation == 0
    logits = np.log(np.eye(10)[classes] + 1e-9).astype(np.float32) + 50
    again = inception.inception_score(inception.to_probabilities(logits))
    assert again.mean == pytest.approx(result.mean, rel=1e-5)


@pytest.mark.parametrize(
    "rows, message",
    [
        (np.full((40, 2), 0.6), "sum to 1, got 40 of 40 without"),
        (np.array([[1.5, -0.5]] * 40), "got 40 of 40 without"),
        (np.full((40, 2), np.nan), "got 40 of 40 without"),
        (np.full((19, 2), 0.5), "at least 20 for an Inception Score over 10 splits, got 19"),
    ],
    ids=["sum", "negative", "nan", "few"],
)
def test_rows_without_an_inception_score_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        inception.inception_score(rows)


def test_jackknife_interval_of_a_mean_is_that_of_its_standard_error():
    values = np.random.default_rng(4).normal(size=200)
    low, high = confidence.jackknife_interval(lambda i: float(values[i].mean()), 200, groups=200)
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)  # Student's t, 199 degrees
    assert (low + high) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(half, rel=1e-3)
    low, high = confidence.jackknife_interval(lambda i: float(values[i].mean()), 200)
    assert half / 2 < (high - low) / 2 < 3 * half
