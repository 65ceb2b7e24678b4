# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles the train steps of the buckets in the background, in the order of their use."""

import threading
from collections.abc import Sequence
from concurrent import futures

from mimir_jax import threads
from mimir_jax.config import TrainConfig
from mimir_jax.systems import base
from mimir_jax.training import compiled_step, flops


class Compilation:
    """One program per bucket, compiled one after the other in a thread.

    A bucket that is asked for comes next.
    """

    def __init__(
        self, config: TrainConfig, system: base.System, compiled: compiled_step.CompiledStep
    ):
        """Starts if there is one bucket; several wait for `order`.

        Args:
            config: The run.
            system: Its network, loss and buckets.
            compiled: Its step.
        """
        self._config, self._system, self._compiled = config, system, compiled
        self._flops: list[futures.Future[int]] = [futures.Future() for _ in system.buckets]
        self._lock = threading.Lock()
        self._queue: list[int] = []
        self._busy = False
        if len(system.buckets) == 1:
            self.order([0])

    def order(self, buckets: Sequence[int]) -> None:
        """Compiles these buckets in this order; the others only when they are asked for."""
        with self._lock:
            self._queue = [n for n in buckets if self._is_left(n)]
            self._start()

    def flops(self, bucket: int) -> int:
        """Waits for the program of a bucket and returns the FLOPs of its step."""
        with self._lock:
            if self._is_left(bucket):
                self._queue = [bucket, *(n for n in self._queue if n != bucket)]
                self._start()
        return self._flops[bucket].result()

    def wait(self) -> int:
        """Waits for all programs and returns the FLOPs of a step, averaged over the buckets."""
        found = [self.flops(number) for number in range(len(self._flops))]
        return sum(found) // len(found)

    def close(self) -> None:
        """Compiles nothing more after the program under way."""
        with self._lock:
            self._queue = []

    def _is_left(self, bucket: int) -> bool:
        future = self._flops[bucket]
        return not future.done() and not future.running()

    def _start(self) -> None:
        if not self._busy and self._queue:
            self._busy = True
            threads.submit(self._run)

    def _run(self) -> None:
        while (number := self._next()) is not None:
            future = self._flops[number]
            try:
                future.set_result(self.compile_bucket(self._system.buckets[number]))
            except BaseException as error:  # raised where the program is asked for
                future.set_exception(error)

    def _next(self) -> int | None:
        with self._lock:
            if not self._queue:
                self._busy = False
                return None
            number = self._queue.pop(0)
            self._flops[number].set_running_or_notify_cancel()
            return number

    def compile_bucket(self, bucket: base.Bucket) -> int:
        """Compiles the train step of a bucket and returns its FLOPs."""
        batch = self._system.batch_spec(bucket)
        compiled_step.lower(self._compiled, batch, bucket.weight).compile()
        return flops.step_flops(self._system, bucket, self._config.optimizer)
