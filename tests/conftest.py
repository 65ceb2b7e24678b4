# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Test run settings: CPU, eight fake devices, strict numerics."""

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def strict_dtypes():
    """Refuses implicit dtype promotion inside a model test."""
    with jax.numpy_dtype_promotion("strict"):
        yield
