# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Ahead-of-time compilation of a run for absent hardware: memory, FLOPs, traffic, least time.

Memory and collectives are those of the compiled program. FLOPs are counted from the model's matrix
products and convolutions. The least time is the slowest of arithmetic, memory and links at the
maker's figures, as if it hid the others entirely; real steps are slower.

Memory traffic counts each argument read once, each result written once and each byte of scratch
both: a lower bound for any program. The compiler's own count of bytes counts a loop as one pass.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax import systems, tables
from mimir_jax.config import Quantization, TrainConfig
from mimir_jax.diffusion import guidance
from mimir_jax.errors import InputError, require
from mimir_jax.parallel import context, hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.planning import collectives, memory
from mimir_jax.planning.config import Program
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.systems import base, quantized
from mimir_jax.training import compiled_step, metrics
from mimir_jax.training import flops as flops_lib


class DoesNotFitError(InputError):
    """The compiler found no way to run a program in the memory of its device."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Result of compiling one program.

    Attributes:
        program: Train step, sampling loop, or decoding of one clip.
        topology: Name of the topology.
        devices: Number of devices.
        mesh: Sizes of the mesh axes.
        bucket: Frames, height and width of the clips, such as 17x64x64.
        batch_size: Clips of one execution over all devices.
        memory: Bytes on the fullest device by part; `total` is their sum. The frozen networks of a
            run are a part of its train step and sampling loop, not of decoding alone.
        capacity: Bytes per device, None for a topology without a data sheet.
        flops: Operations of one execution over all devices, recomputation left out.
        executed_flops: Operations including rematerialisation.
        touched: Least number of bytes that a device reads from its memory or writes there.
        traffic: Collectives by kind.
        seconds: Least time of a device for `arithmetic`, `memory` and `links`; empty for a topology
            without a data sheet.
        compile_seconds: Time of lowering and compiling on this machine.
    """

    program: Program
    topology: str
    devices: int
    mesh: dict[str, int]
    bucket: str
    batch_size: int
    memory: dict[str, int]
    capacity: float | None
    flops: int
    executed_flops: int
    touched: int
    traffic: dict[str, collectives.Traffic]
    seconds: dict[str, float]
    compile_seconds: float

    @property
    def fits(self) -> bool | None:
        """Whether it fits, None where the capacity is unknown."""
        return None if self.capacity is None else self.memory["total"] <= self.capacity

    @property
    def bound(self) -> str | None:
        """The name of the largest of `seconds`."""
        return max(self.seconds, key=self.seconds.get) if self.seconds else None

    @property
    def least_seconds(self) -> float | None:
        """A lower bound on the time of one execution."""
        return self.seconds[self.bound] if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {
            **dataclasses.asdict(self),
            "fits": self.fits,
            "bound": self.bound,
            "least_seconds": self.least_seconds,
        }


def compile_run(
    config: TrainConfig,
    topology: hardware.Topology,
    program: Program,
    number: int = 0,
    *,
    quantize: Quantization = "off",
) -> Report:
    """Compiles a run for a topology.

    Args:
        config: The run; its mesh sizes are laid over the devices.
        topology: Devices to compile for.
        program: `train`, one step; `sample`, the guided loop of a batch; `decode`, the codec on the
            latents of one clip, in tiles on one device, split by rows over several.
        number: Which of the buckets of the run.
        quantize: Kernels of transformer and frozen encoders of `sample`; `off` keeps those encoders
            as the run has them.

    Raises:
        InputError: for a mesh or system that does not fit, or a batch that does not split.
        DoesNotFitError: where the compiler finds no memory for the program.
    """
    if quantize != "off":
        require(
            program == "sample",
            f"--quantize must be left out with --program {program}, got {quantize}; it quantises "
            "what samples",
        )
        config = quantized.with_frozen(config, quantize)
    system = quantized.with_network(systems.make_system(config), quantize)
    bucket = system.buckets[number]
    if program == "decode":
        mesh = _decode_mesh(system, bucket, topology.devices)
    else:
        mesh = mesh_lib.make_mesh(config.mesh.sizes, topology.devices)
        compiled_step.require_runnable(config, system, mesh)
    start = time.monotonic()
    lower = {"train": _lower_train, "sample": _lower_sample, "decode": _lower_decode}[program]
    lowered, parts, flops, executed = lower(config, system, bucket, mesh)
    compiled = compile_lowered(lowered.compile, program, topology)
    compile_seconds = time.monotonic() - start
    if program != "decode":
        parts = {**parts, "frozen networks": memory.describe_frozen(system.frozen, mesh)}
    touched = _touched_bytes(compiled)
    traffic = collectives.collectives(compiled.as_text())
    return Report(
        program=program,
        topology=topology.name,
        devices=len(topology.devices),
        mesh=dict(mesh.shape),
        bucket=bucket.name,
        batch_size=1 if program == "decode" else bucket.batch,
        memory=_memory_by_part(compiled, parts),
        capacity=None if topology.chip is None else topology.chip.memory,
        flops=flops,
        executed_flops=executed,
        touched=touched,
        traffic=traffic,
        seconds=_least_seconds(topology, executed, touched, traffic),
        compile_seconds=compile_seconds,
    )


def _memory_by_part(compiled: jax.stages.Compiled, parts: Mapping[str, Any]) -> dict[str, int]:
    """Returns the bytes on the fullest device: of the arguments in `parts`, and of the rest."""
    analysis = compiled.memory_analysis()
    used = {name: mesh_lib.device_bytes(tree) for name, tree in parts.items()}
    # Donated outputs reuse the memory of their arguments; the rest needs its own.
    used["outputs"] = max(0, analysis.output_size_in_bytes - analysis.alias_size_in_bytes)
    used["temporary"] = analysis.temp_size_in_bytes
    return {**used, "total": sum(used.values())}


def _touched_bytes(compiled: jax.stages.Compiled) -> int:
    """Returns the least bytes that a device reads and writes in one execution."""
    analysis = compiled.memory_analysis()
    scratch = 2 * analysis.temp_size_in_bytes
    return analysis.argument_size_in_bytes + analysis.output_size_in_bytes + scratch


def _least_seconds(
    topology: hardware.Topology,
    executed: int,
    touched: int,
    traffic: Mapping[str, collectives.Traffic],
) -> dict[str, float]:
    """Returns the least time by resource; empty for a topology without a data sheet."""
    chip = topology.chip
    if chip is None:
        return {}
    moved = sum(kind.moved for kind in traffic.values())
    return {
        "arithmetic": executed / (len(topology.devices) * chip.flops),
        "memory": touched / chip.bandwidth,
        "links": moved / (chip.link * max(1, topology.links)),
    }


def compile_lowered(
    run: Callable[[], jax.stages.Compiled], program: Program, topology: hardware.Topology
) -> jax.stages.Compiled:
    """Returns what `run` compiles; raises `DoesNotFitError` where its compiler lacks memory."""
    try:
        return run()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
        raise DoesNotFitError(
            f"{program} must fit the memory of a device of {topology.name}, got from its compiler: "
            f"{reason[:200].rstrip('.')}; split the mesh further, or see docs/memory.md"
        ) from None


def format_report(report: Report) -> str:
    """Formats a report as tables."""
    size = ", ".join(f"{name} {n}" for name, n in report.mesh.items() if n > 1) or "one device"
    lines = [
        f"{report.program} on {report.topology}: {report.devices} devices ({size}), "
        f"batch {report.batch_size} of {report.bucket}, compiled in {report.compile_seconds:.0f} s",
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
    if report.seconds:
        useful = report.flops / report.executed_flops
        best = useful * report.seconds["arithmetic"] / report.least_seconds
        listed = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in report.seconds.items())
        lines += [
            "",
            f"at least {report.least_seconds:.3f} s ({listed}): bound by {report.bound}; model "
            f"FLOP utilisation at most {100 * best:.0f} %",
        ]
    return "\n".join(lines)


def _lower_train(config: TrainConfig, system: base.System, bucket: base.Bucket, mesh: Mesh):
    step = compiled_step.make(config, system, mesh)
    batch = jax.tree.map(
        lambda x: compiled_step.with_sharding(x, step.batch), system.batch_spec(bucket)
    )
    lowered = compiled_step.lower(step, batch, bucket.weight)
    state = step.state
    parts = {"parameters": state.params, "optimizer": state.opt_state, "batch": batch}
    if state.ema is not None:
        parts["average"] = state.ema
    remat = "none" if system.backbone is None else system.backbone.remat
    recomputed = {
        "none": lambda: 0,
        "dots": lambda: 0,
        "attention": lambda: flops_lib.forward_flops(system, bucket, attention=False),
        "full": lambda: flops_lib.forward_flops(system, bucket),
    }[remat]()
    flops = flops_lib.step_flops(system, bucket, config.optimizer)
    return lowered, parts, flops, flops + recomputed


def _require_diffusion(system: base.System, program: Program) -> None:
    if not isinstance(system, base.DiffusionSystem):
        raise InputError(
            f"--program {program} needs a run of a diffusion system, got system.kind "
            f"{system.config.kind!r}; choose another --config"
        )


def _lower_sample(config: TrainConfig, system: base.System, bucket: base.Bucket, mesh: Mesh):
    _require_diffusion(system, "sample")
    rules = rules_lib.table(config.mesh.strategy, config.mesh.context_parallel)
    model = system.model
    shardings = rules_lib.param_shardings(model.abstract_params, model.axes, rules, mesh)
    params = jax.tree.map(compiled_step.with_sharding, model.abstract_params, shardings)
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    features = jax.tree.map(
        lambda x: compiled_step.with_sharding(x, rows), system.feature_spec(bucket.batch)
    )
    cfg, null, scales, text = system.config.sampler, None, None, None
    sampler = latents_lib.make_sampler(system.config)
    if guidance.guides(cfg):
        null = (features, jax.ShapeDtypeStruct((bucket.batch,), jnp.bool_, sharding=rows))
        table = guidance.scales(cfg, sampler.schedule, sampler.times())
        scales = jax.ShapeDtypeStruct(table.shape, jnp.float32, sharding=NamedSharding(mesh, P()))
        text = None if guidance.branches(cfg) < 3 else (features, scales)
    shape = system.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    shape = (bucket.batch, *shape)
    denoise = functools.partial(
        latents_lib.make_denoise(system),
        sampler=sampler,
        shape=shape,
        rescale=cfg.guidance_rescale,
        shortcuts=cfg.shortcuts,
    )
    inputs = (params, features, null, scales)
    drawn = (None, None, None)  # noise and latents come of the keys
    with context.use_mesh(mesh, rules):
        lowered = jax.jit(denoise).lower(*inputs, _key((bucket.batch,), rows), *drawn, text)
        keys = jax.random.split(jax.random.key(0), bucket.batch)
        flops = metrics.count_flops(denoise, *inputs, keys, *drawn, text)
    return lowered, {"parameters": params, "batch": features}, flops, flops


def _decode_mesh(system: base.System, bucket: base.Bucket, devices: Sequence[Any]) -> Mesh:
    _require_diffusion(system, "decode")
    height = bucket.height // system.codec.spatial_compression
    return latents_lib.height_mesh(height, devices)


def _lower_decode(
    config: TrainConfig, system: base.DiffusionSystem, bucket: base.Bucket, mesh: Mesh
):
    del config
    codec = system.codec
    replicated = NamedSharding(mesh, P())
    params = jax.tree.map(lambda x: compiled_step.with_sharding(x, replicated), codec.param_spec)
    shape = (1, *codec.latent_shape(bucket.frames, bucket.height, bucket.width))
    latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=replicated)

    def decode(params, latents):
        return codec.decode(params, latents, tiled=mesh.size == 1)

    with context.use_mesh(mesh):
        lowered = jax.jit(decode).lower(params, latents)
    flops = metrics.count_flops(decode, params, latents)
    return lowered, {"parameters": params, "latents": latents}, flops, flops


def _key(shape: tuple[int, ...], sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    dtype = jax.eval_shape(lambda: jax.random.key(0)).dtype
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
