# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from mimir_jax.sampling import request as request_lib
from mimir_jax.sampling.request import Request


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed must be within 0..18446744073709551615, got -1; choose another"),
        ({"seed": 2**64}, "seed must be within .* got 18446744073709551616"),
        ({"frames": 0}, "frames must be at least 1, got 0; leave it out"),
        ({"width": -8}, "width must be at least 1, got -8"),
    ],
)
def test_requests_that_no_model_can_meet_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        Request("a red ball", **values)


def test_keys_of_seeds_use_all_64_bits():
    seeds = [0, 7, 2**32 - 1, 2**32 + 7, 2**64 - 1]
    keys = request_lib.make_keys(seeds)
    expected = jax.vmap(jax.random.key)(np.array(seeds[:3], np.uint32))
    np.testing.assert_array_equal(jax.random.key_data(keys[:3]), jax.random.key_data(expected))
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == len(seeds)
