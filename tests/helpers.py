# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Comparisons shared by the tests."""

import numpy as np


def relative_error(ours, reference) -> float:
    """Largest absolute difference over the largest absolute reference value."""
    ours, reference = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
    assert ours.shape == reference.shape, (ours.shape, reference.shape)
    return float(np.abs(ours - reference).max() / max(np.abs(reference).max(), 1e-12))
