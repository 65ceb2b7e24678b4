# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run compiled for hardware that is not there: memory by part, FLOPs, traffic, least time.

Nothing is estimated that the compiler knows: memory and collectives are those of the compiled
program. FLOPs are counted from the model's own matrix products and convolutions. The bound on the
time is what the slower of arithmetic and links takes at the maker's figures, neither hiding in the
other's shadow perfectly nor waiting for it: no step is faster, real ones are slower.
"""

import dataclasses
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax import tables
from mimir_jax.config import TrainConfig
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context, hlo
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.parallel import topology as topology_lib
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.training import metrics, tasks
from mimir_jax.training import program as program_lib

What = Literal["train", "sample", "decode"]


@dataclasses.dataclass(frozen=True)
class Report:
    """What compiling told.

    Attributes:
        what: Train step, sampling loop, or decoding of one clip.
        topology: Its name.
        devices: Their number.
        mesh: Sizes of the mesh axes.
        batch_size: Clips of one execution over all devices.
        memory: Bytes on one device by part; `total` is their sum.
        capacity: Bytes that a device has, None where nobody said.
        flops: Operations of one execution over all devices, recomputation left out.
        executed_flops: With what rematerialisation computes twice.
        traffic: Collectives by kind.
        compute_seconds, link_seconds: Least time for the arithmetic and for the links of a device.
        compile_seconds: Time that lowering and compiling took here.
    """

    what: What
    topology: str
    devices: int
    mesh: dict[str, int]
    batch_size: int
    memory: dict[str, int]
    capacity: float | None
    flops: int
    executed_flops: int
    traffic: dict[str, hlo.Traffic]
    compute_seconds: float | None
    link_seconds: float | None
    compile_seconds: float

    @property
    def fits(self) -> bool | None:
        """Whether it fits, None where the capacity is unknown."""
        return None if self.capacity is None else self.memory["total"] <= self.capacity

    @property
    def least_seconds(self) -> float | None:
        """The bound on the time of one execution."""
        if self.compute_seconds is None or self.link_seconds is None:
            return None
        return max(self.compute_seconds, self.link_seconds)

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {
            **dataclasses.asdict(self),
            "fits": self.fits,
            "least_seconds": self.least_seconds,
        }


def compile_run(config: TrainConfig, topology: topology_lib.Topology, what: What) -> Report:
    """Compiles a run for a topology.

    Args:
        config: The run; its mesh sizes are laid over the devices.
        topology: Devices to compile for.
        what: `train`, one step; `sample`, the guided loop of a batch; `decode`, the VAE on the
            latents of one clip, in tiles on one device, else in bands of rows on all of them.

    Raises:
        ValueError: for a mesh or task that does not fit, or a batch that does not split.
    """
    sizes = (1, 1, -1, 1) if what == "decode" else config.mesh.sizes
    mesh = mesh_lib.make_mesh(sizes, topology.devices)
    program_lib.require_runnable(config, mesh)
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if what != "decode" and config.batch_size % ways:
        raise ValueError(
            f"batch_size must be a multiple of data x fsdp = {ways} devices, got "
            f"{config.batch_size}; set it with --config.batch_size"
        )
    start = time.monotonic()
    make = {"train": _train, "sample": _sample, "decode": _decode}[what]
    lowered, parts, flops, executed = make(config, mesh)
    compiled = lowered.compile()
    seconds = time.monotonic() - start
    analysis = compiled.memory_analysis()
    # Donated outputs live in their arguments; the rest comes on top.
    extra = max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
    memory = {name: mesh_lib.device_bytes(tree) for name, tree in parts.items()}
    memory["outputs"] = extra
    memory["temporary"] = analysis.temp_size_in_bytes
    memory["total"] = sum(memory.values())
    traffic = hlo.collectives(compiled.as_text())
    chip, number = topology.chip, len(topology.devices)
    sent = sum(kind.bytes for kind in traffic.values())
    return Report(
        what=what,
        topology=topology.name,
        devices=number,
        mesh=dict(mesh.shape),
        batch_size=1 if what == "decode" else config.batch_size,
        memory=memory,
        capacity=None if chip is None else chip.memory,
        flops=flops,
        executed_flops=executed,
        traffic=traffic,
        compute_seconds=None if chip is None else executed / (number * chip.flops),
        link_seconds=None if chip is None else sent / chip.link,
        compile_seconds=seconds,
    )


def text(report: Report) -> str:
    """Lays a report out for people."""
    size = ", ".join(f"{name} {n}" for name, n in report.mesh.items() if n > 1) or "one device"
    lines = [
        f"{report.what} on {report.topology}: {report.devices} devices ({size}), "
        f"batch {report.batch_size}, compiled in {report.compile_seconds:.0f} s",
        "",
        tables.align([
            ["memory of a device", "GB"],
            *([name, f"{value / 1e9:.2f}"] for name, value in report.memory.items()),
        ]),
    ]  # fmt: skip
    if report.capacity is not None:
        verdict = "fits" if report.fits else "does NOT fit"
        lines.append(f"{verdict} the {report.capacity / 1e9:.0f} GB of a chip")
    lines += [
        "",
        f"model FLOPs: {report.flops:.3e}, executed {report.executed_flops:.3e}",
    ]
    rows = [["collective", "runs", "GB a device", "overlapped"]]
    for name, kind in report.traffic.items():
        rows.append([name, str(kind.count), f"{kind.bytes / 1e9:.2f}", str(kind.overlapped)])
    lines += ["", tables.align(rows) if len(rows) > 1 else "no collectives"]
    if report.least_seconds is not None:
        bound = "arithmetic" if report.compute_seconds >= report.link_seconds else "links"
        best = report.flops / report.executed_flops * report.compute_seconds / report.least_seconds
        lines += [
            "",
            f"at least {report.least_seconds:.3f} s (arithmetic {report.compute_seconds:.3f} s, "
            f"links {report.link_seconds:.3f} s): bound by {bound}; model FLOP utilisation at most "
            f"{100 * best:.0f} %",
        ]
    return "\n".join(lines)


def _train(config: TrainConfig, mesh: jax.sharding.Mesh):
    model, loss, batch = tasks.sketch(config)
    program = program_lib.make(config, model, loss, mesh)
    batch = jax.tree.map(lambda x: program_lib.with_sharding(x, program.batch), batch)
    key = _key((), program.replicated)
    with context.use(mesh, program.rules):
        lowered = program.step.lower(program.state, batch, key)
        forward = metrics.count_flops(loss, program.state.params, batch, jax.random.key(0))
    state = program.state
    parts = {"parameters": state.params, "optimizer": state.opt_state, "batch": batch}
    if state.ema is not None:
        parts["average"] = state.ema
    key = jax.random.key(0)
    again = {
        "none": lambda: 0,
        "attention": lambda: metrics.count_flops(loss, state.params, batch, key, attention=False),
        "full": lambda: forward,
    }[_remat(config)]()
    return lowered, parts, 3 * forward, 3 * forward + again


def _sample(config: TrainConfig, mesh: jax.sharding.Mesh):
    if config.task.kind != "text_to_video":
        raise ValueError(
            f"--what sample needs a text_to_video run, got {config.task.kind!r}; choose another "
            "--config"
        )
    model, _, batch = tasks.sketch(config)
    rules = rules_lib.table(config.mesh.strategy, config.mesh.sequence)
    params = _on_mesh(model, rules, mesh)
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    batch = jax.tree.map(lambda x: program_lib.with_sharding(x, rows), batch)
    shape, keys = batch["mean"].shape, _key((config.batch_size,), rows)
    denoise = pipeline_lib.make_denoise(config.task, model)
    arguments = (params, batch["text"], batch.get("null"), shape, keys)
    with context.use(mesh, rules):
        lowered = denoise.lower(*arguments)
        flops = metrics.count_flops(
            lambda params, text, null, keys: denoise(params, text, null, shape, keys),
            params, batch["text"], batch.get("null"), jax.random.split(jax.random.key(0), shape[0]),
        )  # fmt: skip
    return lowered, {"parameters": params, "batch": batch["text"]}, flops, flops


def _decode(config: TrainConfig, mesh: jax.sharding.Mesh):
    if config.task.kind != "text_to_video":
        raise ValueError(
            f"--what decode needs a text_to_video run, got {config.task.kind!r}; choose another "
            "--config"
        )
    vae = functional.build(autoencoder.VAE, config.task.vae)
    everywhere = NamedSharding(mesh, P())
    dtype = jnp.dtype(config.task.vae.dtype)
    params = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=everywhere), vae.abstract_params
    )
    shape = (1, *tasks.sketch(config).batch["mean"].shape[1:])
    latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=everywhere)

    def decode(params, latents):
        return latents_lib.decode(vae, params, latents, tiled=mesh.size == 1)

    with context.use(mesh, rules_lib.table("fsdp")):
        lowered = jax.jit(decode).lower(params, latents)
    flops = metrics.count_flops(decode, params, latents)
    return lowered, {"parameters": params, "latents": latents}, flops, flops


def _on_mesh(model: functional.Model, rules: rules_lib.Rules, mesh: jax.sharding.Mesh) -> Any:
    shardings = rules_lib.param_shardings(model.abstract_params, model.axes, rules, mesh)
    return jax.tree.map(program_lib.with_sharding, model.abstract_params, shardings)


def _key(shape: tuple[int, ...], sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    dtype = jax.eval_shape(lambda: jax.random.key(0)).dtype
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _remat(config: TrainConfig) -> str:
    task = config.task
    return task.network.dit.remat if task.kind == "text_to_video" else "none"
