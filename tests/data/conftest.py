# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Toyworld scenes that several files read."""

import pytest

from mimir_jax.data import toyworld

NUM_SCENES = 100


@pytest.fixture(scope="session")
def scenes():
    """Scenes of each split."""
    return {
        split: [toyworld.sample(0, split, index) for index in range(NUM_SCENES)]
        for split in toyworld.SPLITS
    }


@pytest.fixture(scope="session")
def every_scene(scenes):
    """Scenes of all splits."""
    return [scene for part in scenes.values() for scene in part]
