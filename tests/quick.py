# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Cases of which the default suite runs some, and `-m slow` the others."""

from collections.abc import Iterable

import pytest


def some(cases: Iterable, *quick: int | str) -> list:
    """Returns the parameters of a test, all slow but the `quick` ones, named by place or value."""
    marks = {True: (), False: (pytest.mark.slow,)}
    listed = list(cases)
    unknown = [q for q in quick if q not in listed and q not in range(len(listed))]
    if unknown:
        raise ValueError(f"no such case: {unknown}")
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=marks[index in quick or case in quick],
        )
        for index, case in enumerate(listed)
    ]
