# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Data sheets of TPU chips, and device topologies for ahead-of-time compilation."""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from mimir_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Chip:
    """Public figures of one chip.

    Attributes:
        memory: Bytes of device memory.
        flops: Dense bfloat16 operations per second.
        bandwidth: Bytes per second between chip and memory.
        link: Bytes per second of one link to a neighbour, per direction.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float


CHIPS = {
    "v4": Chip(memory=32e9, flops=275e12, bandwidth=1.2e12, link=50e9),
    "v5e": Chip(memory=16e9, flops=197e12, bandwidth=0.82e12, link=50e9),
    "v5p": Chip(memory=95e9, flops=459e12, bandwidth=2.77e12, link=100e9),
    "v6e": Chip(memory=32e9, flops=918e12, bandwidth=1.64e12, link=100e9),
}
"""Chips by the name of their topologies (cloud.google.com/tpu/docs/system-architecture).

The maker's bidirectional bandwidth per chip, 1,200 GB/s for v5p, is the sum of its six links (four
for v5e and v6e) in both directions.
"""

_MEGACORE = {"v4": {"chip_config_name": "megacore"}}  # one device per chip, as JAX runs them


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices to compile for.

    Attributes:
        name: As given, such as `v5p:4x4x4`.
        devices: Devices of the platform; they run programs only if the platform is present.
        chip: None for CPU devices, whose speed is not estimated.
        links: Of the best connected chip to others of the slice.
    """

    name: str
    devices: Sequence[jax.Device]
    chip: Chip | None
    links: int = 0


def find_topology(name: str) -> Topology:
    """Returns a topology such as `v5p:4x4x4`, `v5e:4x8` or `cpu:8`.

    Raises:
        ValueError: for an unknown name, a size that no slice has, or missing libraries.
    """
    match = re.fullmatch(r"(\w+):([0-9]{1,6}(?:x[0-9]{1,6}){0,2})", name)
    kinds = [*CHIPS, "cpu"]
    if match is None or match[1] not in kinds:
        raise InputError(
            f"topology must be KIND:SIZE such as v5p:4x4x4 or cpu:8, of {', '.join(kinds)}, got "
            f"{name!r}"
        )
    kind, sizes = match[1], [int(size) for size in match[2].split("x")]
    axes = {"cpu": len(sizes), "v5e": 2, "v6e": 2}.get(kind, 3)
    if len(sizes) != axes or not all(sizes):
        raise InputError(
            f"topology of {kind} must have {axes} sizes of at least 1, got {name!r}; name another"
        )
    if kind == "cpu":
        devices = jax.devices("cpu")
        number = math.prod(sizes)
        if len(devices) < number:
            raise InputError(
                f"topology {name} needs {number} CPU devices, got {len(devices)}; set "
                f"XLA_FLAGS=--xla_force_host_platform_device_count={number}"
            )
        return Topology(name, devices[:number], None)
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
    options = dict(_MEGACORE.get(kind, {}))
    if math.prod(sizes) == 1:  # else libtpu takes a host to have four
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        devices = topologies.get_topology_desc(
            platform="tpu", topology_name=name, **options
        ).devices
    except Exception as error:  # the plugin raises several types
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"topology {name} must be a slice that libtpu knows: {reason}; pip install libtpu of "
            "the version that jax names, or choose another size"
        ) from None
    links = sum(min(size - 1, 2) for size in sizes)  # a row of two has one per chip
    return Topology(name, devices, CHIPS[kind], links)
