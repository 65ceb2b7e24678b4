# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Pixels of videos in files."""

import numpy as np
import pytest

from mimir_jax.config import DIVOT_REFERENCE, SamplerConfig
from mimir_jax.sampling import pipeline, video


class Decoded(pipeline.Pipeline):
    """Decodes latents to themselves."""

    def __init__(self, guidance):
        self._guidance, self._tiled = guidance, False

    def _decode_rows(self, latents, *, tiled):
        return [latents]


@pytest.mark.parametrize("variant", ["clean", "reference"])
def test_pixels_are_rounded_or_truncated_as_published(variant):
    values = np.linspace(-1.2, 1.2, 2 * 16 * 16 * 3, dtype=np.float32).reshape(2, 16, 16, 3)
    sampler = DIVOT_REFERENCE if variant == "reference" else SamplerConfig()
    (found,) = Decoded(sampler)._to_frames(values)
    exact = np.clip(values.astype(np.float64), -1, 1) * 127.5 + 127.5
    expected = np.floor(exact + 1e-4) if variant == "reference" else np.round(exact)
    assert np.abs(found - expected).max() == 0
    assert (found == video.to_uint8(values, truncate=variant == "reference")).all()
    assert found.min() == 0 and found.max() == 255
