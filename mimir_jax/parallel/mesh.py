# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Device meshes with the four axes `data, fsdp, context, tensor`.

Devices come in granules that fast links join: the slice of a TPU, the host of GPUs. The network
between granules is slow, so `data` spans it first, `fsdp` as far as it must; `context` and `tensor`
stay inside a granule.
"""

import collections
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from mimir_jax.errors import InputError
from mimir_jax.parallel.config import AXES

HOST_MEMORY = "pinned_host"


def make_mesh(
    sizes: Sequence[int] = (-1, 1, 1, 1),
    devices: Sequence[jax.Device] | None = None,
    *,
    setting: str = "--config.mesh.*",
) -> Mesh:
    """Builds a mesh of `sizes` over `AXES`; one size may be -1 and takes what is left.

    Args:
        sizes: One per axis.
        devices: All devices of all processes unless given.
        setting: What sets the sizes, for errors.

    Raises:
        ValueError: if the sizes do not multiply to the number of devices, or cannot be laid over
            the slices or hosts that these are on.
    """
    devices = jax.devices() if devices is None else list(devices)
    if (
        len(sizes) != len(AXES)
        or sum(s == -1 for s in sizes) > 1
        or any(s < 1 and s != -1 for s in sizes)
    ):
        raise InputError(
            f"mesh must give a positive size for each of {', '.join(AXES)}, at most one of them "
            f"-1, got {tuple(sizes)}; set them with {setting}"
        )
    given = math.prod(s for s in sizes if s != -1)
    if len(devices) % given or (-1 not in sizes and given != len(devices)):
        raise InputError(
            f"mesh sizes {tuple(sizes)} must multiply to the {len(devices)} devices; "
            f"set them with {setting}"
        )
    shape = tuple(len(devices) // given if s == -1 else s for s in sizes)
    return Mesh(make_grid(shape, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def own_mesh(sizes: Sequence[int], *, setting: str = "--config.mesh.*") -> Mesh | None:
    """Returns `make_mesh` of this process's devices; None where it has but one.

    Raises:
        ValueError: as `make_mesh`.
    """
    mesh = make_mesh(sizes, jax.local_devices(), setting=setting)
    return None if mesh.size == 1 else mesh


def parse_sizes(text: str) -> tuple[int, ...]:
    """Returns the sizes of a flag `--mesh`, such as `fsdp=2,tensor=4`; `data` takes what is left.

    Raises:
        ValueError: if `text` is no list of axes and sizes.
    """
    given: dict[str, int] = {}
    for part in text.split(",") if text else []:
        name, _, size = part.partition("=")
        if name not in AXES or name in given or not re.fullmatch(r"-1|[1-9][0-9]{0,8}", size):
            raise InputError(
                f"--mesh must give {', '.join(AXES)} sizes, each once, as in fsdp=2,tensor=4, got "
                f"{text!r}; change {part!r}"
            )
        given[name] = int(size)
    rest = 1 if -1 in given.values() else -1
    return tuple(given.get(name, rest if name == "data" else 1) for name in AXES)


def line(axis: str, devices: Sequence[jax.Device]) -> Mesh:
    """Lays `devices` along one axis, in their order."""
    sizes = [-1 if name == axis else 1 for name in AXES]
    return Mesh(np.reshape(devices, sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def host_memory(mesh: Mesh) -> str:
    """Returns the kind of host memory that the devices of `mesh` read and write inside a program.

    Raises:
        ValueError: if their platform has none.
    """
    device = mesh.devices.flat[0]
    kinds = [memory.kind for memory in device.addressable_memories()]
    if HOST_MEMORY not in kinds:
        raise InputError(
            f"optimizer.offload needs devices with {HOST_MEMORY} memory, {device.platform} has "
            f"{', '.join(kinds)}; set --config.optimizer.offload=False"
        )
    return HOST_MEMORY


def device_bytes(tree: Any) -> int:
    """Returns the bytes on one device of arrays or shapes with shardings, without host memory."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
        if x.sharding.memory_kind != HOST_MEMORY
    )


def make_grid(shape: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
    """Lays devices out with the slow network along the outermost axes.

    Args:
        shape: Sizes of the mesh axes.
        devices: As many as fit, in any order.

    Raises:
        InputError: if `data` and `fsdp` cannot span the slices or hosts.
    """
    granules = collections.Counter(map(_granule, devices))
    number = len(granules)
    if number == 1:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    data, fsdp = shape[:2]
    outer_data = math.gcd(data, number)
    outer_fsdp = number // outer_data
    if fsdp % outer_fsdp or len(set(granules.values())) > 1:
        sizes = " and ".join(map(str, sorted(set(granules.values()))))
        raise InputError(
            f"mesh axes data and fsdp must span {number} slices or hosts of equally many devices, "
            f"got data={data}, fsdp={fsdp} and {sizes} devices each; context and tensor must fit "
            "into one: set them with --config.mesh.*"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // outer_data, fsdp // outer_fsdp, *shape[2:]),
        (outer_data, outer_fsdp, 1, 1),
        devices,
        process_is_granule=not hasattr(devices[0], "slice_index"),
        allow_split_physical_axes=True,
    )


def _granule(device: Any) -> int:
    """Numbers slices or hosts; TPU devices that are only described name none, being in one."""
    if hasattr(device, "slice_index"):  # of GPUs, it numbers hosts
        return device.slice_index
    return 0 if device.platform == "tpu" else device.process_index
