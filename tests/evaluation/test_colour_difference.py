# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Colour differences, against published values."""

import numpy as np
import pytest

from mimir_jax.evaluation.metrics import colour_difference

# Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", table 1: pairs that test the hue
# at its jump, greys, large differences and small ones.
PAIRS = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 3.1571, -77.2803), (50, 0, -82.7485), 2.8615),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (61, -5, 29), 22.8977),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((90.8027, -2.0831, 1.4410), (91.1528, -1.6435, 0.0447), 1.4441),
]


def test_differences_are_the_published_ones():
    one, other, expected = (np.array(x, float) for x in zip(*PAIRS, strict=True))
    np.testing.assert_allclose(colour_difference.delta_e(one, other), expected, atol=1e-4)
    np.testing.assert_allclose(colour_difference.delta_e(other, one), expected, atol=1e-4)
    assert (colour_difference.delta_e(one, one) == 0).all()


@pytest.mark.parametrize(
    "rgb, lab",
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_srgb_is_seen_under_daylight(rgb, lab):
    np.testing.assert_allclose(colour_difference.to_lab(np.array([rgb], float)), [lab], atol=0.02)
