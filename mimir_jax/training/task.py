# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model brings to the trainer: the loop owns everything else."""

import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from mimir_jax.data import sources
from mimir_jax.models import functional

Metrics = Mapping[str, Any]
Batch = Any


@runtime_checkable
class Task(Protocol):
    """One kind of training, chosen by `TrainConfig.system`.

    Attributes:
        model: The network that trains.
    """

    model: functional.Model

    def source(self) -> sources.Source:
        """Returns the training records, random access."""
        ...

    def prepare(self, records: Mapping[str, Any]) -> Batch:
        """Turns a host batch of records into the arrays of `loss`.

        Runs outside the train step, so frozen networks belong here, and in a thread while the step
        before runs, unless they are split over devices (`mesh.shard_frozen`). Every row must be a
        function of its record alone, bit for bit, whatever else is in the batch: resuming relies
        on it.
        """
        ...

    def batch_spec(self) -> Batch:
        """Returns shapes and dtypes of what `prepare` makes of `batch_size` records.

        The train step is compiled for them before there is a batch.
        """
        ...

    def loss(
        self, params: functional.Params, batch: Batch, key: jax.Array
    ) -> tuple[Float[Array, ""], Metrics]:
        """Returns the mean loss over the batch and scalar metrics; pure."""
        ...

    def read_heldout(self) -> None:
        """Reads and encodes what `evaluate` needs, and keeps it.

        Called before the work directory is claimed, so that bad data leaves nothing behind.
        """
        ...

    def evaluate(self, params: functional.Params) -> Metrics:
        """Returns held-out metrics; the one called `loss` is printed before and after."""
        ...

    def sample(self, params: functional.Params, folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes pictures or texts that show what the model does; the sheet comes first."""
        ...
