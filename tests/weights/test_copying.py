# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import threading

import ml_dtypes
import numpy as np
import pytest

from mimir_jax.weights import copying


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.int8], ids=str)
@pytest.mark.parametrize("part", [slice(None), slice(3, 1200)], ids=["whole", "rows"])
def test_transposed_matrices_are_copied_bit_for_bit(dtype, part):
    size = np.dtype(dtype).itemsize
    bits = np.random.default_rng(0).integers(0, 256, (77, 1300 * size), np.uint8)
    x = bits.view(dtype).T[part]
    out = copying.contiguous(x)
    assert out.flags.c_contiguous and out.tobytes() == np.ascontiguousarray(x).tobytes()
    assert copying.contiguous(out) is out


def test_other_layouts_and_dtypes_are_copied():
    x = np.arange(2 * 3 * 70000, dtype=np.float32).reshape(2, 3, 70000)
    np.testing.assert_array_equal(copying.contiguous(np.moveaxis(x, 0, 2)), np.moveaxis(x, 0, 2))
    out = np.empty((70000, 3), np.float64)
    copying.copy_into(out, x[0].T)
    np.testing.assert_array_equal(out, x[0].T)


def test_next_job_runs_ahead_only_where_both_results_fit():
    threads = []

    def job(value):
        threads.append(threading.current_thread() is threading.main_thread())
        return value

    jobs = [(size, lambda size=size: job(size)) for size in (1, 2, 9, 1, 4)]
    assert list(copying.ahead(jobs, 10)) == [1, 2, 9, 1, 4]
    assert threads == [True, False, True, True, False]  # 9 and twice 1 exceed 10


def test_error_of_a_job_that_ran_ahead_is_raised_in_its_turn():
    def fail():
        raise ValueError("damaged")

    results = copying.ahead([(1, lambda: "first"), (1, fail)], 10)
    assert next(results) == "first"
    with pytest.raises(ValueError, match="damaged"):
        next(results)
