# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Encoded batches on the devices, one step ahead of training."""

from concurrent import futures
from typing import Any

from jax.sharding import NamedSharding

from mimir_jax.config import TrainConfig
from mimir_jax.data import loader as loader_lib
from mimir_jax.systems import base


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
        self._thread = futures.ThreadPoolExecutor(1, "batches")
        self._next: futures.Future | None = None
        self._left = 0
        self.position = loader.state()

    def start(self, count: int) -> None:
        """Starts on the first of `count` batches; reads none beyond them."""
        self._left = count
        self._submit()

    def __next__(self) -> Any:
        """Returns the next batch and starts on the one after it."""
        batch, self.position = self._next.result() if self._threaded else self._make()
        self._submit()
        return batch

    def wait(self) -> None:
        """Returns when the thread is idle, so that evaluation can use the encoder."""
        if self._next is not None:
            futures.wait([self._next])

    def close(self) -> None:
        """Ends the thread after its current batch, and the loader."""
        self._thread.shutdown(cancel_futures=True)
        self._loader.close()

    def _submit(self) -> None:
        if self._threaded:
            self._next = self._thread.submit(self._make) if self._left > 0 else None
            self._left -= 1

    def _make(self) -> tuple[Any, dict[str, Any]]:
        records, position = next(self._loader), self._loader.state()
        return loader_lib.device_put(self._encoder.encode(records), self._sharding), position
