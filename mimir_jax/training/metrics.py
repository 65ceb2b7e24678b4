# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Metric sinks (JSONL and TensorBoard) and the FLOP count behind the FLOP/s figure."""

import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from mimir_jax.parallel import distributed


class Writer:
    """Appends scalars to `metrics.jsonl` and a TensorBoard log; silent off process 0."""

    def __init__(self, workdir: pathlib.Path):
        self._active = distributed.is_first()
        if self._active:
            from tensorboard.summary import Writer as TensorBoard  # imports in 0.6 s

            self._file = (workdir / "metrics.jsonl").open("a")
            self._board = TensorBoard(str(workdir / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one record of scalars."""
        if not self._active:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        if self._active:
            self._file.close()
            self._board.close()


def to_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Fetches device scalars in one transfer."""
    return {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}


def count_flops(function: Callable, *args: Any) -> int:
    """Counts the matrix-product and convolution FLOPs of `function`, scans unrolled.

    A multiply-add is two operations, as in published model FLOPs. Arguments may be abstract.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr)


def _jaxpr_flops(jaxpr: Any) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            inner = math.prod(eqn.invars[0].aval.shape[d] for d in contract)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * inner
        elif name == "conv_general_dilated":
            spec = eqn.params["dimension_numbers"].rhs_spec
            kernel = eqn.invars[1].aval.shape
            taps = int(np.prod([kernel[d] for d in spec[1:]]))  # in-channels x window
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * taps
        elif name == "cond":  # branches are alternatives
            total += max(_jaxpr_flops(branch.jaxpr) for branch in eqn.params["branches"])
        else:
            times = eqn.params.get("length", 1) if name == "scan" else 1
            for value in eqn.params.values():
                inner_jaxpr = getattr(value, "jaxpr", value)
                if hasattr(inner_jaxpr, "eqns"):
                    total += times * _jaxpr_flops(inner_jaxpr)
    return total
