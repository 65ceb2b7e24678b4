# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Linear classification of features by ridge regression on one-hot targets, in closed form."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

PENALTIES = tuple(10.0**power for power in range(3, -5, -1))
"""Penalties to choose from, times the mean squared norm of a row; the strongest first."""


def classify(
    features: Float[np.ndarray, "n d"],
    labels: Sequence[str],
    others: Float[np.ndarray, "m d"],
) -> list[str]:
    """Returns the class of each row of `others` by a linear classifier.

    Columns are standardised by `features`. The penalty has the highest leave-one-out accuracy; of
    equals, the strongest.

    Args:
        features: Rows to fit, at least two.
        labels: Their classes.
        others: Rows to classify.
    """
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(std > 0, std, 1.0)
    rows, others = (features - mean) / scale, (others - mean) / scale
    classes, index = np.unique(list(labels), return_inverse=True)
    targets = np.eye(len(classes))[index]
    centre = targets.mean(0)
    # The dual form: features are often wider than there are rows.
    eigenvalues, vectors = np.linalg.eigh(rows @ rows.T)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    turned = vectors.T @ (targets - centre)  # (n, classes)
    best, found = -1.0, others[:, :0]
    for penalty in PENALTIES:
        damped = eigenvalues + penalty * max(float(eigenvalues.mean()), 1e-12)
        shares = eigenvalues / damped
        fitted = vectors @ (shares[:, None] * turned) + centre
        leverage = (vectors**2) @ shares + 1 / len(rows)
        left_out = targets - (targets - fitted) / np.maximum(1 - leverage, 1e-9)[:, None]
        accuracy = float((left_out.argmax(1) == index).mean())
        if accuracy > best:
            best, found = accuracy, vectors @ (turned / damped[:, None])  # (n, classes)
    scores = others @ (rows.T @ found) + centre
    return classes[scores.argmax(1)].tolist()
