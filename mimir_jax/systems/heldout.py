# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The evaluator of a system whose held-out data are one batch."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mimir_jax.models import functional
from mimir_jax.systems import base


class HeldoutBatch:
    """`base.Evaluator`: the loss of one held-out batch, with the same draws every time.

    Args:
        system: The pure half.
        encode: Returns the batch; called once.
    """

    def __init__(self, system: base.System, encode: Callable[[], Any]):
        self._encode = encode
        self._loss = jax.jit(functools.partial(system.loss, key=jax.random.key(0)))

    def read(self) -> None:
        """Encodes the held-out data."""
        _ = self._batch

    def evaluate(self, params: functional.Params) -> dict[str, float]:
        """Returns `loss` and the values that the system gives beside it."""
        loss, values = self._loss(params, self._batch)
        return {"loss": float(loss), **{name: float(value) for name, value in values.items()}}

    def make_examples(self, params: functional.Params) -> base.Examples:
        """Returns none."""
        del params
        return base.Examples()

    @functools.cached_property
    def _batch(self) -> Any:
        return jax.device_put(self._encode())


def columns(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns records of the same fields as one list per field, as `base.Encoder` takes them."""
    return {name: [record[name] for record in records] for name in records[0]}
