# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mimir_jax.models import params as params_lib

TREE = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_flat_paths_round_trip():
    flat = params_lib.flatten(TREE)
    assert flat == {"a/b": 1, "a/c/d": 2, "e": 3}
    assert params_lib.unflatten(flat) == TREE


def test_prune_and_replace_are_inverse_parts():
    part = params_lib.prune(TREE, {"a": {"b": True, "c": {"d": False}}, "e": True})
    assert part == {"a": {"b": 1}, "e": 3}
    assert params_lib.replace(TREE, {"a": {"b": 7}}) == {"a": {"b": 7, "c": {"d": 2}}, "e": 3}


def test_overlay_names_what_is_missing_and_what_does_not_fit():
    drawn = {"a": np.zeros(2), "b": np.zeros(3)}
    merged, missing = params_lib.overlay(drawn, {"b": np.ones(3)}, source="x")
    assert missing == ["a"] and merged["b"].sum() == 3
    with pytest.raises(ValueError, match=r"weights x must fit the model: 2 .* b \(4,\), c \(1,\)"):
        params_lib.overlay(drawn, {"b": np.ones(4), "c": np.ones(1)}, source="x")
