# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Configuration of the device mesh."""

import dataclasses
from typing import Literal

AXES = ("data", "fsdp", "context", "tensor")
"""Axes of a device mesh; the fields of `MeshConfig` and the flag `--mesh` have their names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Sizes of the mesh axes (one may be -1) and the sharding table of `parallel.rules`.

    Attributes:
        data: Devices over which batches are split.
        fsdp: Devices over which batches and parameters are split.
        context: Devices over which the sequence of tokens is split.
        tensor: Devices over which heads and MLPs are split.
        strategy: Sharding table: `fsdp` splits parameters over the axis fsdp, `replicated` keeps
            them whole.
        context_parallel: How attention deals with a sequence split over `context`: `ulysses` gives
            each device the whole sequence for some heads, `ring` passes keys and values around.
        shard_frozen: Split the frozen T5 and LLM over the devices of each process, which keeps them
            whole on its first device otherwise.
    """

    data: int = -1
    fsdp: int = 1
    context: int = 1
    tensor: int = 1
    strategy: Literal["fsdp", "replicated"] = "fsdp"
    context_parallel: Literal["ulysses", "ring"] = "ulysses"
    shard_frozen: bool = False

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Sizes in the order of `AXES`."""
        return self.data, self.fsdp, self.context, self.tensor
