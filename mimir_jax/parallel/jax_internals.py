# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The private functions of JAX that this package needs; no other file imports `jax._src`.

JAX offers neither in public: the key-value store between processes, and the address of process 0
that a cluster's scheduler knows.
"""

from typing import Any

from jax._src import clusters, distributed


def key_value_client() -> Any:
    """Returns the client of the key-value store; None before `jax.distributed.initialize`."""
    return distributed.global_state.client


def detect_cluster(
    timeout_seconds: int, address: str | None = None
) -> tuple[str | None, int | None, int | None]:
    """Asks the scheduler, as `jax.distributed.initialize()` does.

    Args:
        timeout_seconds: How long to wait for process 0 to have an address.
        address: Of process 0, where the scheduler need not tell it.

    Returns:
        HOST:PORT of process 0, the number of processes and the index of this one; None for each
        that no scheduler knows.

    Raises:
        RuntimeError: if the scheduler gives contradictory or incomplete answers.
    """
    address, count, index, _ = clusters.ClusterEnv.auto_detect_unset_distributed_params(
        address, None, None, None, None, timeout_seconds
    )
    return address, count, index
