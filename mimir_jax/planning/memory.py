# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Device memory of a run by part, estimated before anything is allocated or compiled.

State, gradients and frozen networks are counted from their shapes and shardings. Activations are
the values that differentiation keeps of the forward pass under the remat policy, as JAX traces it,
plus one block written out. A compiler may keep less by recomputing, or more by copying.
"""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mimir_jax import systems
from mimir_jax.config import TrainConfig, bridge, flag
from mimir_jax.encoders import frozen as frozen_lib
from mimir_jax.errors import InputError
from mimir_jax.models import params as params_lib
from mimir_jax.models.attention import kernels
from mimir_jax.parallel import context, hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.systems import base
from mimir_jax.training import compiled_step
from mimir_jax.training import optimizer as optimizer_lib

SLACK = 3.0
"""A run is refused if not even its gradients and activations divided by SLACK would fit, divided
again by the number of `tensor` devices that share them."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes on the fullest device.

    Attributes:
        fixed: Bytes allocated all the time, by part.
        transient: Estimated gradients and activations of a step, by part.
        capacity: Bytes of the device, None where it does not report them.
        buckets: Estimated activations by bucket, of which `transient` has the largest; empty for a
            run of one bucket.
        tensor: Number of devices over which heads and MLPs are split. The share of the activations
            that they split depends on the remat policy, so activations are counted whole.
    """

    fixed: dict[str, int]
    transient: dict[str, int]
    capacity: int | None
    tensor: int = 1
    buckets: dict[str, int] = dataclasses.field(default_factory=dict)

    def of(self, bucket: str) -> "Estimate":
        """Returns the estimate of one bucket alone."""
        transient = {**self.transient, "activations": self.buckets[bucket]}
        return dataclasses.replace(self, transient=transient, buckets={})

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.fixed.values()) + sum(self.transient.values())

    @property
    def possible(self) -> bool:
        """Whether the run may fit, if the compiler does well."""
        least = sum(self.fixed.values()) + sum(self.transient.values()) / (SLACK * self.tensor)
        return self.capacity is None or least <= self.capacity

    def __str__(self) -> str:
        """Returns one line."""
        parts = {**self.fixed, **self.transient}
        listed = ", ".join(f"{name} {_size(n)}" for name, n in parts.items() if n)
        of = "" if self.capacity is None else f" of {_size(self.capacity)}"
        line = f"memory of a device, estimated: {_size(self.total)}{of} ({listed})"
        if self.buckets:
            each = ", ".join(f"{name} {_size(self.of(name).total)}" for name in self.buckets)
            line += f"; by bucket: {each}"
        return line


def estimate(
    config: TrainConfig,
    system: base.System,
    devices: Sequence[jax.Device],
    *,
    frozen: int = 0,
    capacity: int | None = None,
) -> Estimate:
    """Estimates the memory of a train step, of each bucket and on the largest one.

    Args:
        config: The run.
        system: Its network and loss.
        devices: Real ones, or those of a topology.
        frozen: Bytes of frozen networks per device.
        capacity: Bytes per device.

    Raises:
        InputError: for a config that cannot run on `devices`.
    """
    mesh = mesh_lib.make_mesh(config.mesh.sizes, devices)
    accumulation = config.optimizer.grad_accumulation
    compiled = compiled_step.make(config, system, mesh)
    state = compiled.state
    trainable = optimizer_lib.trainable(config.optimizer, system.model.axes, system.model.frozen)
    shards = math.prod(mesh.shape[name] for name in ("data", "fsdp", "context"))
    with context.use_mesh(mesh, compiled.rules):
        gathered = _gathered(state.params, system.model.axes) if mesh.shape["fsdp"] > 1 else 0
        activations = {
            bucket.name: _activations(system, micro, trainable) // shards
            + _scores(system, micro, mesh)
            + gathered
            for bucket in system.buckets
            for micro in [dataclasses.replace(bucket, batch=bucket.batch // accumulation)]
        }
    gradients = mesh_lib.device_bytes(params_lib.prune(state.params, trainable))
    return Estimate(
        fixed={
            "parameters": mesh_lib.device_bytes(state.params),
            "optimizer": mesh_lib.device_bytes(state.opt_state),
            "average": mesh_lib.device_bytes(state.ema),
            "frozen networks": frozen,
        },
        transient={
            "gradients": gradients * (1 if accumulation == 1 else 2),
            "activations": max(activations.values()),
        },
        capacity=capacity,
        tensor=mesh.shape["tensor"],
        buckets=activations if len(system.buckets) > 1 else {},
    )


def estimate_topology(
    config: TrainConfig, system: base.System, topology: hardware.Topology
) -> Estimate:
    """Estimates a run on absent devices.

    Args:
        config: The run.
        system: What `systems.make_system` returned for it.
        topology: The devices.

    Raises:
        InputError: for a config that cannot run on them.
    """
    mesh = mesh_lib.make_mesh(config.mesh.sizes, topology.devices)
    compiled_step.require_runnable(config, system, mesh)
    frozen = mesh_lib.device_bytes(describe_frozen(system.frozen, mesh))
    capacity = None if topology.chip is None else int(topology.chip.memory)
    return estimate(config, system, topology.devices, frozen=frozen, capacity=capacity)


def check(config: TrainConfig, system: base.System, devices: Sequence[jax.Device]) -> Estimate:
    """Estimates a run on devices that are present, before its frozen networks are read.

    Args:
        config: The run.
        system: What `systems.make_system` returned for it.
        devices: All devices of the run.

    Raises:
        InputError: if it cannot fit, naming changes that would make it fit, or if it lacks a frozen
            network.
    """
    for network in system.frozen.values():
        network.require_path()
    device = jax.local_devices()[0]
    mesh = mesh_lib.make_mesh(config.mesh.sizes, devices)
    held = _in_use(device) + mesh_lib.device_bytes(describe_frozen(system.frozen, mesh))
    limits = {"frozen": held, "capacity": device_memory(device, held)}
    needed = estimate(config, system, devices, **limits)
    if needed.possible:
        return needed

    def fits(changed: TrainConfig) -> bool:
        return estimate(changed, systems.make_system(changed), devices, **limits).possible

    remedies = list(_remedies(config, devices))
    sufficient = [_flags(config, change(config)) for change in remedies if fits(change(config))]
    advice = f"use one of {', '.join(sufficient)}"
    if not sufficient:
        changed = config
        for change in remedies:
            changed = change(changed)
        advice = "use more devices or a smaller model"
        if fits(changed):
            listed = ", ".join(_flags(config, change(config)) for change in remedies)
            advice = f"use several of {listed}"
    large = [name for name in needed.buckets if not needed.of(name).possible]
    if not large:
        raise InputError(f"run must fit the memory of a device, got {needed}; {advice}")
    found = f"bucket {large[0]} must fit the memory of a device, got {needed.of(large[0])}"
    if len(large) < len(needed.buckets):
        advice += f", or leave {', '.join(large)} out of data.buckets or list it with fewer clips"
    raise InputError(f"{found}; {advice}")


def describe_frozen(networks: Mapping[str, frozen_lib.FrozenNetwork], mesh: Mesh) -> dict[str, Any]:
    """Returns shape, dtype and sharding of frozen parameters by network, as process 0 keeps them.

    Args:
        networks: `System.frozen`.
        mesh: The devices of the run. A network is whole on the first one, or split over those of
            the first one's process.
    """
    devices = mesh.devices.flatten()
    own = [d for d in devices if d.process_index == devices[0].process_index]
    placed = {}
    for name, network in networks.items():
        model, shapes = network.describe()
        line = mesh_lib.line("fsdp", own if network.split else own[:1])
        table = rules_lib.table("fsdp")
        shardings = rules_lib.param_shardings(shapes, model.axes, table, line)
        placed[name] = jax.tree.map(compiled_step.with_sharding, shapes, shardings)
    return placed


def device_memory(device: jax.Device, held: int) -> int | None:
    """Returns the bytes that programs may use on a device, None if the platform reports none.

    CPU devices share the available memory of the host, besides the `held` bytes of the first one.
    """
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    table = pathlib.Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":") for line in table.read_text().splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (available + _in_use(device) - held) // jax.local_device_count() + held


def _remedies(
    config: TrainConfig, devices: Sequence[jax.Device]
) -> Iterator[Callable[[TrainConfig], TrainConfig]]:
    """Yields changes of a run that save memory, cheapest first."""

    def section(part: str, /, **fields: Any) -> Callable[[TrainConfig], TrainConfig]:
        return lambda c: dataclasses.replace(
            c, **{part: dataclasses.replace(getattr(c, part), **fields)}
        )

    backbone = systems.make_system(config).backbone
    if backbone is not None and backbone.remat != "full":

        def rematerialise(c: TrainConfig) -> TrainConfig:
            return dataclasses.replace(
                c, system=systems.make_system(c).with_backbone(remat="full").config
            )

        yield rematerialise
    if len(devices) > 1 and config.mesh.fsdp == 1:
        yield section("mesh", data=1, fsdp=-1)
    optimizer, shape = config.optimizer, mesh_lib.make_mesh(config.mesh.sizes, devices).shape
    batch = math.gcd(*(bucket.batch for bucket in systems.make_system(config).buckets))
    most = batch // (shape["data"] * shape["fsdp"])
    if most > optimizer.grad_accumulation and batch % most == 0:
        yield section("optimizer", grad_accumulation=most)
    if optimizer.name == "adamw":
        yield section("optimizer", name="adafactor", b1=0.0)
    if not optimizer.offload and devices[0].platform != "cpu":
        yield section("optimizer", offload=True)
    lora = getattr(config.system, "lora", None)
    if lora is not None and not lora.rank:
        adapters = dataclasses.replace(lora, rank=16, base_dtype="bfloat16")
        yield section("system", lora=adapters)


def _flags(config: TrainConfig, changed: TrainConfig) -> str:
    """Returns the flags that turn `config` into `changed`."""
    values = []
    for name in bridge.differences(config, changed):
        value: Any = changed
        for part in name.split("."):
            value = getattr(value, part)
        values.append(f"{flag(name)}={value}")
    return " ".join(values)


def _activations(system: base.System, bucket: base.Bucket, trainable: Any) -> int:
    """Returns the bytes kept for the backward pass on all devices, and of one block in full."""
    total = _kept(system, bucket, trainable)
    if system.backbone is not None and system.backbone.remat != "none":
        one = system.with_backbone(num_layers=1, remat="none", unroll=1)
        total += _kept(one, bucket, trainable)
    return total


def _kept(system: base.System, bucket: base.Bucket, trainable: Any) -> int:
    """Returns the bytes that differentiating the loss keeps besides parameters and batch."""
    params, batch = system.model.abstract_params, system.batch_spec(bucket)
    trained = params_lib.prune(params, trainable)

    def backward(trained, params, batch):
        def run(trained):
            return system.loss(params_lib.replace(params, trained), batch, jax.random.key(0))

        return jax.vjp(run, trained, has_aux=True)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, trained, params, batch))
    inputs = collections.Counter(_kind(x) for x in jax.tree.leaves((params, batch)))
    kinds = collections.Counter(_kind(x) for x in kept) - inputs
    return sum(count * math.prod(shape) * dtype.itemsize for (shape, dtype), count in kinds.items())


def _scores(system: base.System, bucket: base.Bucket, mesh: Mesh) -> int:
    """Returns the bytes of attention scores that a device holds at once and does not keep."""
    backbone = system.backbone
    if backbone is None or backbone.attention != "xla":
        return 0
    tokens = system.num_tokens(bucket)
    # Ring attention meets one shard of the keys at a time.
    key_shards = context.num_shards("act_queries")
    heads = backbone.num_heads + -backbone.num_heads % context.num_shards("act_heads")
    if key_shards == 1 and kernels.num_chunks(bucket.batch, tokens, heads) == 1:
        return 0
    scores = bucket.batch * heads * tokens**2 // (mesh.size * key_shards)
    return 3 * 4 * min(scores, kernels.MAX_SCORES)


def _gathered(params: Any, axes: Any) -> int:
    """Returns the bytes of one layer's gathered parameters, and of their gradient."""
    flat = params_lib.flatten(axes)
    return 2 * sum(
        x.size // x.shape[0] * x.dtype.itemsize
        for name, x in params_lib.flatten(params).items()
        if flat[name][:1] == ("layers",)
    )


def _in_use(device: jax.Device) -> int:
    return sum(
        mesh_lib.device_bytes(x) for x in jax.live_arrays() if device in x.sharding.device_set
    )


def _kind(x: Any) -> tuple:
    return x.shape, x.dtype


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e7 else f"{number / 1e6:.1f} MB"
