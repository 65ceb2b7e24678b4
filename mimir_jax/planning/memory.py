# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run takes of a device's memory, by part, before anything is allocated or compiled.

State, gradients and frozen networks are counted from their shapes and shardings. Activations are
what differentiation keeps of the forward pass under the remat policy, as JAX traces it, and one
block written out. A compiler may keep less by computing again, or more by copying.
"""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from mimir_jax import weights
from mimir_jax.config import DiffusionSystemConfig, TrainConfig, flag
from mimir_jax.errors import InputError
from mimir_jax.models import dit
from mimir_jax.models import params as params_lib
from mimir_jax.models.attention import kernels
from mimir_jax.parallel import context
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import aot
from mimir_jax.training import compiled_step as program_lib
from mimir_jax.training import optimizer as optimizer_lib
from mimir_jax.training import tasks
from mimir_jax.training.tasks import text_to_video

Change = Callable[[TrainConfig], TrainConfig]

SLACK = 3.0
"""A run is refused where even an SLACK-th of its gradients and activations would not fit; where
`tensor` devices share them, that part of it."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes on the fullest device.

    Attributes:
        fixed: What certainly lies there all the time, by part.
        passing: Gradients and activations of a step, by part, as estimated.
        capacity: Bytes that the device has, None where it does not say.
        tensor: Devices over which heads and MLPs are split. How much of the activations they share
            depends on the remat policy, so that they are counted whole.
    """

    fixed: dict[str, int]
    passing: dict[str, int]
    capacity: int | None
    tensor: int = 1

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.fixed.values()) + sum(self.passing.values())

    @property
    def possible(self) -> bool:
        """Whether the run may fit, if the compiler does well."""
        least = sum(self.fixed.values()) + sum(self.passing.values()) / (SLACK * self.tensor)
        return self.capacity is None or least <= self.capacity

    def __str__(self) -> str:
        """Returns one line."""
        parts = {**self.fixed, **self.passing}
        listed = ", ".join(f"{name} {_size(n)}" for name, n in parts.items() if n)
        of = "" if self.capacity is None else f" of {_size(self.capacity)}"
        return f"memory of a device, estimated: {_size(self.total)}{of} ({listed})"


def estimate(
    config: TrainConfig,
    devices: Sequence[jax.Device],
    *,
    frozen: int = 0,
    capacity: int | None = None,
) -> Estimate:
    """Estimates the memory of a train step.

    Args:
        config: The run, of a kind that `tasks.sketch` knows.
        devices: Real ones, or those of a topology.
        frozen: Bytes of frozen networks on a device.
        capacity: Bytes of a device.

    Raises:
        ValueError: for a config that cannot run on `devices`.
    """
    mesh = mesh_lib.make_mesh(config.mesh.sizes, devices)
    accumulate = config.optimizer.grad_accumulation
    sketch = tasks.sketch(config)
    program = program_lib.make(config, sketch.model, sketch.loss, mesh)
    state = program.state
    micro = dataclasses.replace(
        config,
        batch_size=config.batch_size // accumulate,
        optimizer=dataclasses.replace(config.optimizer, grad_accumulation=1),
    )
    ways = math.prod(mesh.shape[name] for name in ("data", "fsdp", "context"))
    with context.use_mesh(mesh, program.rules):
        activations = _activations(micro) // ways + _scores(micro, mesh)
    if mesh.shape["fsdp"] > 1:
        activations += _gathered(state.params, sketch.model.axes)
    return Estimate(
        fixed={
            "parameters": mesh_lib.device_bytes(state.params),
            "optimizer": mesh_lib.device_bytes(state.opt_state),
            "average": mesh_lib.device_bytes(state.ema),
            "frozen networks": frozen,
        },
        passing={
            "gradients": mesh_lib.device_bytes(_trained(config, sketch.model, state.params))
            * (1 if accumulate == 1 else 2),
            "activations": activations,
        },
        capacity=capacity,
        tensor=mesh.shape["tensor"],
    )


def check(config: TrainConfig, devices: Sequence[jax.Device]) -> Estimate:
    """Estimates a run on devices that are here, before its frozen networks are read.

    Raises:
        ValueError: if it cannot fit, saying what would make it, or lacks a frozen network.
    """
    _require_weights(config)
    device = jax.local_devices()[0]
    frozen = aot.frozen(config, mesh_lib.make_mesh(config.mesh.sizes, devices))
    held = _in_use(device) + mesh_lib.device_bytes(frozen)
    known = {"frozen": held, "capacity": device_memory(device, held)}
    found = estimate(config, devices, **known)
    if found.possible:
        return found

    def fits(changed: TrainConfig) -> bool:
        return estimate(changed, devices, **known).possible

    remedies = _remedies(config, devices)
    alone = [flags for flags, change in remedies.items() if fits(change(config))]
    advice = f"use one of {', '.join(alone)}"
    if not alone:
        for change in remedies.values():
            config = change(config)
        advice = "use more devices or a smaller model"
        if fits(config):
            advice = f"use several of {', '.join(remedies)}"
    raise InputError(f"run must fit the memory of a device, got {found}; {advice}")


def device_memory(device: jax.Device, held: int) -> int | None:
    """Returns the bytes that programs may use on a device, None if the platform does not say.

    CPU devices share what the host has available besides the `held` bytes of the first of them.
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


def _require_weights(config: TrainConfig) -> None:
    """Raises `ValueError` for a frozen network that is not named or not there."""
    task = config.system
    if not isinstance(task, DiffusionSystemConfig):
        return
    paths = {"vae_path": task.vae_path, "text.t5_path": task.text.t5_path}
    if text_to_video.uses_llm(task):
        paths["text.llm_path"] = task.text.llm_path
    for field, path in paths.items():
        if path is None:
            raise InputError(
                f"system.{field} must name a folder of weights, got None; set it with "
                f"{flag(f'system.{field}')}=FOLDER"
            )
        weights.resolve(path)


def _remedies(config: TrainConfig, devices: Sequence[jax.Device]) -> dict[str, Change]:
    """Returns what can be changed to save memory, by the flags that do it, cheapest first."""

    def optimizer(**fields: Any) -> Change:
        return lambda c: dataclasses.replace(
            c, optimizer=dataclasses.replace(c.optimizer, **fields)
        )

    def task(change: Callable[[Any], Any]) -> Change:
        return lambda c: dataclasses.replace(c, system=change(c.system))

    found: dict[str, Change] = {}
    video = isinstance(config.system, DiffusionSystemConfig)
    if video and config.system.dit.remat != "full":
        remat = flag(f"system.{config.system.dit_field}.remat")
        found[f"{remat}=full"] = task(lambda t: t.with_dit(remat="full"))
    if len(devices) > 1 and config.mesh.fsdp == 1:
        mesh = dataclasses.replace(config.mesh, data=1, fsdp=-1)
        found["--config.mesh.data=1 --config.mesh.fsdp=-1"] = lambda c: dataclasses.replace(
            c, mesh=mesh
        )
    shape = mesh_lib.make_mesh(config.mesh.sizes, devices).shape
    most = config.batch_size // (shape["data"] * shape["fsdp"])
    if most > config.optimizer.grad_accumulation and config.batch_size % most == 0:
        found[f"--config.optimizer.grad_accumulation={most}"] = optimizer(grad_accumulation=most)
    if config.optimizer.name == "adamw":
        flags = "--config.optimizer.name=adafactor --config.optimizer.b1=0.0"
        found[flags] = optimizer(name="adafactor", b1=0.0)
    if not config.optimizer.offload and devices[0].platform != "cpu":
        found["--config.optimizer.offload=True"] = optimizer(offload=True)
    if video and not config.system.lora.rank:
        lora = dataclasses.replace(config.system.lora, rank=16, base_dtype="bfloat16")
        flags = "--config.system.lora.rank=16 --config.system.lora.base_dtype=bfloat16"
        found[flags] = task(lambda t: dataclasses.replace(t, lora=lora))
    return found


def _activations(config: TrainConfig) -> int:
    """Returns the bytes kept for the backward pass on all devices, and of one block in full."""
    total = _kept(config)
    if isinstance(config.system, DiffusionSystemConfig) and config.system.dit.remat != "none":
        one = config.system.with_dit(num_layers=1, remat="none", unroll=1)
        total += _kept(dataclasses.replace(config, system=one))
    return total


def _kept(config: TrainConfig) -> int:
    """Returns the bytes that differentiating the loss keeps besides parameters and batch."""
    model, loss, batch = tasks.sketch(config)
    params = model.abstract_params
    trained = _trained(config, model, params)

    def backward(trained, params, batch):
        def run(trained):
            return loss(params_lib.replace(params, trained), batch, jax.random.key(0))

        return jax.vjp(run, trained, has_aux=True)[1]

    kept = jax.tree.leaves(jax.eval_shape(backward, trained, params, batch))
    inputs = collections.Counter(_kind(x) for x in jax.tree.leaves((params, batch)))
    kinds = collections.Counter(_kind(x) for x in kept) - inputs
    return sum(count * math.prod(shape) * dtype.itemsize for (shape, dtype), count in kinds.items())


def _trained(config: TrainConfig, model: Any, params: Any) -> Any:
    trainable = optimizer_lib.trainable(config.optimizer, model.axes, model.frozen)
    return params_lib.prune(params, trainable)


def _scores(config: TrainConfig, mesh: Mesh) -> int:
    """Returns the bytes of attention scores that a device holds at once and does not keep."""
    if not isinstance(config.system, DiffusionSystemConfig) or config.system.dit.attention != "xla":
        return 0
    cfg = config.system.dit
    shape = tasks.sketch(config).batch["mean"].shape
    frames = dit.padded_frames(shape[1], cfg)
    text = cfg.text_length
    if config.system.network.stabilizer.enabled:
        text += len(config.system.text.instructions)
    tokens = math.prod(dit.token_grid(cfg, (shape[0], frames, *shape[2:]))) + text
    around = context.num_shards(
        "act_queries"
    )  # the ring's queries meet a part of the keys at a time
    heads = cfg.num_heads + -cfg.num_heads % context.num_shards("act_heads")
    if around == 1 and kernels.num_chunks(shape[0], tokens, heads) == 1:
        return 0
    scores = shape[0] * heads * tokens**2 // (mesh.size * around)
    return 3 * 4 * min(scores, kernels.MAX_SCORES)


def _gathered(params: Any, axes: Any) -> int:
    """Returns the bytes of one layer's parameters made whole, and of their gradient."""
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
