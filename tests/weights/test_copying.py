# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import threading
import weakref

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

    jobs = [copying.Job(n, 2 * n, lambda n=n: job(n)) for n in (1, 2, 9, 1, 4)]
    assert list(copying.ahead(jobs, 10)) == [1, 2, 9, 1, 4]
    assert threads == [True, False, True, True, False]  # 9 and the peak of 1 exceed 10
    threads.clear()
    jobs = [copying.Job(n, n, lambda n=n: job(n)) for n in (4, 1, 5, 4, 1)]
    assert list(copying.ahead(jobs, 10)) == [4, 1, 5, 4, 1]
    assert threads == [True, False, False, False, False]  # 5 beside 1 and 4


def test_error_of_a_job_that_ran_ahead_is_raised_in_its_turn():
    def fail():
        raise ValueError("damaged")

    results = copying.ahead([copying.Job(1, 1, lambda: "first"), copying.Job(1, 1, fail)], 10)
    assert next(results) == "first"
    with pytest.raises(ValueError, match="damaged"):
        next(results)


def test_a_value_is_gone_before_one_that_must_wait_is_read():
    alive = []

    def make():
        assert not [ref for ref in alive if ref() is not None]
        value = np.zeros(8)
        alive.append(weakref.ref(value))
        return value

    for value in copying.ahead([copying.Job(1, 9, make)] * 3, 9):
        assert value.sum() == 0
        del value
    assert len(alive) == 3


def test_results_come_in_order_and_few_are_computed_ahead():
    begun = []

    def square(x):
        begun.append(x)
        if x == 20:
            raise ValueError("damaged")
        return x * x

    results = copying.in_order(square, range(30))
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert max(begun) <= 5 + copying.WORKERS
    with pytest.raises(ValueError, match="damaged"):
        list(results)
    assert max(begun) <= 20 + copying.WORKERS
