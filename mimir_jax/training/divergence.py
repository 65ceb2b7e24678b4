# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Numbers that stop being finite: seen at every step, told with the records of the batch."""

import collections
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from mimir_jax.config import DivergenceConfig, flag
from mimir_jax.errors import DivergenceError
from mimir_jax.training import workdir as workdir_lib

CHECKED = ("loss", "grad_norm", "update_norm")
"""Metrics of a step that must be finite."""

_LAG = 2  # steps under way on the device; the values of the one before them have arrived


@dataclasses.dataclass(frozen=True)
class Divergence:
    """A step whose numbers were not finite.

    Attributes:
        step: The step, counted from 1.
        batch: Number of its batch.
        values: What it computed.
    """

    step: int
    batch: int
    values: dict[str, float]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:g}" for name, value in self.values.items())
        first = next(name for name, value in self.values.items() if not np.isfinite(value))
        return f"{first} must stay finite, step {self.step} on batch {self.batch} got {numbers}"


class Monitor:
    """Checks the numbers of every step, two steps late, so that the device never waits.

    Every process reads the values of the same step after the same step and sees the same.
    """

    def __init__(
        self, config: DivergenceConfig, workdir: pathlib.Path, ids: Callable[[int], list[str]]
    ):
        """Checks nothing yet.

        Args:
            config: What to do.
            workdir: Receives a line of history per divergence.
            ids: Records of a batch, by its number.
        """
        self._config, self._workdir, self._ids = config, workdir, ids
        self._pending: collections.deque[tuple[int, int, dict[str, jax.Array]]] = (
            collections.deque()
        )
        self._count = 0

    def add(self, step: int, position: dict[str, Any], metrics: dict[str, jax.Array]) -> None:
        """Notes a step that has been started, and the loader's position after its batch."""
        values = {name: metrics[name] for name in CHECKED if name in metrics}
        for value in values.values():
            value.copy_to_host_async()
        self._pending.append((step, position["batch"] - 1, values))

    def read(self, *, wait: bool = False) -> Divergence | None:
        """Returns a divergence to roll back from, None if the run goes on.

        Args:
            wait: Read the steps under way too: before what they computed is saved or shown.

        Raises:
            DivergenceError: if the policy or its limit stops the run.
        """
        while len(self._pending) > (0 if wait else _LAG):
            step, batch, arrays = self._pending.popleft()
            values = {name: float(value) for name, value in jax.device_get(arrays).items()}
            values = {name: values[name] for name in CHECKED if name in values}
            if not all(map(np.isfinite, values.values())):
                found = Divergence(step, batch, values)
                if self._decide(found) == "rollback":
                    self._pending.clear()
                    return found
        return None

    def _decide(self, found: Divergence) -> str:
        self._count += 1
        policy, limit = self._config.policy, self._config.limit
        ids = self._ids(found.batch)
        values = {name: str(value) for name, value in found.values.items()}  # JSON has no NaN
        workdir_lib.record(
            self._workdir, "diverged", found.step, policy=policy, batch=found.batch, ids=ids,
            values=values,
        )  # fmt: skip
        if policy == "stop" or self._count > limit:
            often = f", after {limit} times of policy {policy}" if policy != "stop" else ""
            rate, clip = flag("optimizer.learning_rate"), flag("optimizer.clip_norm")
            raise DivergenceError(
                f"{found}{often}; its records are in {self._workdir / workdir_lib.HISTORY}, "
                f"and --replay {found.step} runs the step again; lower {rate} or {clip}, or set "
                f"{flag('divergence.policy')}, and repeat the command to go on from the last "
                "checkpoint"
            )
        logging.warning("%s; policy %s, %d of %d", found, policy, self._count, limit)
        return policy
