# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Pixels of videos in files."""

import numpy as np
import pytest

from mimir_jax.sampling import video


@pytest.mark.parametrize("truncate", [False, True], ids=["rounded", "truncated as published"])
def test_pixels_are_rounded_or_truncated(truncate):
    values = np.linspace(-1.2, 1.2, 2 * 16 * 16 * 3, dtype=np.float32).reshape(2, 16, 16, 3)
    found = video.to_uint8(values, truncate=truncate)
    exact = np.clip(values.astype(np.float64), -1, 1) * 127.5 + 127.5
    expected = np.floor(exact + 1e-4) if truncate else np.round(exact)
    assert np.abs(found - expected).max() == 0
    assert found.min() == 0 and found.max() == 255
