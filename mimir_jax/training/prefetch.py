# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Encoded batches on the devices, one step ahead of training."""

from collections.abc import Callable
from concurrent import futures
from typing import Any

from jax.sharding import NamedSharding

from mimir_jax import threads
from mimir_jax.config import TrainConfig
from mimir_jax.data import loader as loader_lib
from mimir_jax.systems import base

THREAD = "batches"
"""Prefix of the name of the thread that makes batches."""

_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0


class Prefetcher:
    """Reads and encodes each batch in a thread while the step before it runs.

    The thread does not inherit the mesh or the transfer guard of its parent, as `Encoder.encode`
    requires. Encoders that are split over devices run collectives, and two threads could start
    those in a different order on each device and deadlock: such batches are encoded between steps.

    Attributes:
        position: The loader's state after the last batch that was returned.
    """

    def __init__(
        self,
        config: TrainConfig,
        encoder: base.Encoder,
        loader: loader_lib.Loader,
        sharding: NamedSharding,
    ):
        """Starts nothing yet.

        Args:
            config: The run.
            encoder: Encodes the batches.
            loader: Yields the records of this process.
            sharding: Sharding of every array of a batch.
        """
        self._encoder, self._loader, self._sharding = encoder, loader, sharding
        self._threaded = not config.mesh.shard_frozen or config.data.features is not None
        self._thread = futures.ThreadPoolExecutor(1, THREAD)
        self._next: futures.Future | None = None
        self._left, self._blocked = 0, False
        self.position = loader.state()

    @property
    def bucket(self) -> int:
        """Number of the bucket of the last batch that was returned."""
        return self._loader.schedule.bucket(self.position["batch"] - 1)

    def start(self, count: int) -> None:
        """Starts on the first of `count` batches; reads none beyond them."""
        self._left = count
        self._submit()

    def restart(self, position: dict[str, Any], count: int) -> None:
        """Drops what was read ahead, and starts on `count` batches from `position`."""
        self.wait()
        self._loader.restore(position)
        self.position = position
        self.start(count)

    def take(self, stopped: Callable[[], bool] = lambda: False) -> Any | None:
        """Returns the next batch and starts on the one after it.

        Args:
            stopped: Asked while the batch is not ready; once it is true, there is none.

        Returns:
            The batch, None if `stopped`.
        """
        if not self._threaded:
            batch, self.position = self._make()
            return batch
        while not self._next.done():
            if stopped():
                self._blocked = True
                return None
            futures.wait([self._next], timeout=_POLL_SECONDS)
        batch, self.position = self._next.result()
        self._submit()
        return batch

    def wait(self) -> None:
        """Returns when the thread is idle, so that evaluation can use the encoder."""
        if self._next is not None:
            futures.wait([self._next])

    def close(self) -> bool:
        """Ends the thread after its current batch, and the loader.

        Returns:
            Whether they ended. Input that blocks is left behind: the process must not wait for it.
        """
        patience = _POLL_SECONDS if self._blocked else _PATIENCE_SECONDS
        pending = [] if self._next is None else [self._next]
        if futures.wait(pending, timeout=patience).not_done:
            self._blocked = True
            self._thread.shutdown(wait=False, cancel_futures=True)
            threads.abandon()
            return False
        self._thread.shutdown(cancel_futures=True)
        self._loader.close()
        return True

    def _submit(self) -> None:
        if self._threaded:
            self._next = self._thread.submit(self._make) if self._left > 0 else None
            self._left = max(self._left - 1, 0)

    def _make(self) -> tuple[Any, dict[str, Any]]:
        records, position = next(self._loader), self._loader.state()
        return loader_lib.device_put(self._encoder.encode(records), self._sharding), position
