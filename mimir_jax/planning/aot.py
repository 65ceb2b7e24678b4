# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run compiled for hardware that is not there: memory by part, FLOPs, traffic, least time.

Nothing is estimated that the compiler knows: memory and collectives are those of the compiled
program. FLOPs are counted from the model's own matrix products and convolutions. The bound on the
time is the slowest of arithmetic, memory and links at the maker's figures, as if the others hid
behind it entirely; real steps are slower.

Of memory, each argument is read once, each result written once and each byte of scratch both: what
a program cannot do without. The compiler's own count of bytes takes a loop for one pass of it.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax import tables, weights
from mimir_jax.config import (
    DiffusionSystemConfig,
    LanguageSystemConfig,
    LLMConfig,
    T5Config,
    TrainConfig,
)
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.models.vae import autoencoder
from mimir_jax.parallel import context
from mimir_jax.parallel import hardware as topology_lib
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.parallel import rules as rules_lib
from mimir_jax.planning import collectives
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import pipeline as pipeline_lib
from mimir_jax.training import compiled_step as program_lib
from mimir_jax.training import flops as flops_lib
from mimir_jax.training import metrics, tasks
from mimir_jax.training.tasks import text_to_video
from mimir_jax.weights import opening

What = Literal["train", "sample", "decode"]


class DoesNotFitError(InputError):
    """The compiler found no way to run a program in the memory of its device."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What compiling told.

    Attributes:
        what: Train step, sampling loop, or decoding of one clip.
        topology: Its name.
        devices: Their number.
        mesh: Sizes of the mesh axes.
        batch_size: Clips of one execution over all devices.
        memory: Bytes on the fullest device by part; `total` is their sum. The frozen networks of a
            run are a part of its train step and sampling loop, not of decoding alone.
        capacity: Bytes that a device has, None where nobody said.
        flops: Operations of one execution over all devices, recomputation left out.
        executed_flops: With what rematerialisation computes twice.
        touched: Bytes that a device reads from its memory or writes there, at least.
        traffic: Collectives by kind.
        seconds: Least time of a device for `arithmetic`, `memory` and `links`; empty where nobody
            said what it can do.
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
        """What takes longest."""
        return max(self.seconds, key=self.seconds.get) if self.seconds else None

    @property
    def least_seconds(self) -> float | None:
        """The bound on the time of one execution."""
        return self.seconds[self.bound] if self.seconds else None

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {
            **dataclasses.asdict(self),
            "fits": self.fits,
            "bound": self.bound,
            "least_seconds": self.least_seconds,
        }


def compile_run(config: TrainConfig, topology: topology_lib.Topology, what: What) -> Report:
    """Compiles a run for a topology.

    Args:
        config: The run; its mesh sizes are laid over the devices.
        topology: Devices to compile for.
        what: `train`, one step; `sample`, the guided loop of a batch; `decode`, the VAE on the
            latents of one clip, in tiles on one device, else in bands of rows on several.

    Raises:
        ValueError: for a mesh or task that does not fit, or a batch that does not split.
        DoesNotFitError: where the compiler finds no memory for the program.
    """
    if what == "decode":
        mesh = _bands(config, topology.devices)
    else:
        mesh = mesh_lib.make_mesh(config.mesh.sizes, topology.devices)
        program_lib.require_runnable(config, mesh)
    start = time.monotonic()
    make = {"train": _train, "sample": _sample, "decode": _decode}[what]
    lowered, parts, flops, executed = make(config, mesh)
    compiled = _compile(lowered.compile, what, topology)
    compile_seconds = time.monotonic() - start
    analysis = compiled.memory_analysis()
    results, scratch = analysis.output_size_in_bytes, analysis.temp_size_in_bytes
    memory = {name: mesh_lib.device_bytes(tree) for name, tree in parts.items()}
    if what != "decode":
        memory["frozen networks"] = mesh_lib.device_bytes(frozen(config, mesh))
    # Donated outputs live in their arguments; the rest comes on top.
    memory["outputs"] = max(0, results - analysis.alias_size_in_bytes)
    memory["temporary"] = scratch
    memory["total"] = sum(memory.values())
    traffic = collectives.collectives(compiled.as_text())
    touched = analysis.argument_size_in_bytes + results + 2 * scratch
    chip, number = topology.chip, len(topology.devices)
    seconds = {}
    if chip is not None:
        seconds = {
            "arithmetic": executed / (number * chip.flops),
            "memory": touched / chip.bandwidth,
            "links": sum(x.moved for x in traffic.values()) / (chip.link * max(1, topology.links)),
        }
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
        touched=touched,
        traffic=traffic,
        seconds=seconds,
        compile_seconds=compile_seconds,
    )


def _compile(
    run: Callable[[], jax.stages.Compiled], what: What, topology: topology_lib.Topology
) -> jax.stages.Compiled:
    try:
        return run()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
        raise DoesNotFitError(
            f"{what} must fit the memory of a device of {topology.name}, got from its compiler: "
            f"{reason[:200].rstrip('.')}; split the mesh further, or see docs/scale.md on memory"
        ) from None


def frozen(config: TrainConfig, mesh: jax.sharding.Mesh) -> Any:
    """Describes the frozen networks of a run, as its first process keeps them.

    The VAE is whole on the first device, and so are the encoders without `mesh.shard_frozen`.
    Encoders whose folders are not here are taken to be the paper's, in 16 bits.
    """
    task = config.system
    if not isinstance(task, DiffusionSystemConfig):
        return {}
    devices = mesh.devices.flatten()
    own = [d for d in devices if d.process_index == devices[0].process_index]
    split = own if config.mesh.shard_frozen else own[:1]
    vae = functional.build(autoencoder.VAE, task.vae)
    networks = {
        "vae": _placed(vae, task.vae.dtype, own[:1]),
        "t5": _placed(*_encoder(task.text.t5_path, "t5", T5Config()), split),
    }
    if text_to_video.uses_llm(task):
        networks["llm"] = _placed(*_encoder(task.text.llm_path, "llm", LLMConfig()), split)
    return networks


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


def _train(config: TrainConfig, mesh: jax.sharding.Mesh):
    if isinstance(config.system, LanguageSystemConfig):
        raise InputError(
            "system.kind must not be of a text model to be compiled ahead of time, got "
            f"{config.system.kind!r}; choose another --config"
        )
    model, loss, batch = tasks.sketch(config)
    program = program_lib.make(config, model, loss, mesh)
    batch = jax.tree.map(lambda x: program_lib.with_sharding(x, program.batch), batch)
    lowered = program_lib.lower(program, batch)
    state = program.state
    parts = {"parameters": state.params, "optimizer": state.opt_state, "batch": batch}
    if state.ema is not None:
        parts["average"] = state.ema
    again = {
        "none": lambda: 0,
        "dots": lambda: 0,
        "attention": lambda: flops_lib.forward_flops(config, attention=False),
        "full": lambda: flops_lib.forward_flops(config),
    }[_remat(config)]()
    flops = flops_lib.step_flops(config)
    return lowered, parts, flops, flops + again


def _sample(config: TrainConfig, mesh: jax.sharding.Mesh):
    if not isinstance(config.system, DiffusionSystemConfig):
        raise InputError(
            f"--what sample needs a text-to-video system, got {config.system.kind!r}; "
            "choose another --config"
        )
    model, _, batch = tasks.sketch(config)
    rules = rules_lib.table(config.mesh.strategy, config.mesh.context_parallel)
    params = _on_mesh(model, rules, mesh)
    rows = NamedSharding(mesh, P(("data", "fsdp")))
    batch = jax.tree.map(lambda x: program_lib.with_sharding(x, rows), batch)
    shape, keys = batch["mean"].shape, _key((config.batch_size,), rows)
    denoise = pipeline_lib.make_denoise(config.system, model)
    arguments = (params, batch["text"], batch.get("null"), shape, keys)
    with context.use_mesh(mesh, rules):
        lowered = denoise.lower(*arguments)
        flops = metrics.count_flops(
            lambda params, text, null, keys: denoise(params, text, null, shape, keys),
            params, batch["text"], batch.get("null"), jax.random.split(jax.random.key(0), shape[0]),
        )  # fmt: skip
    return lowered, {"parameters": params, "batch": batch["text"]}, flops, flops


def _bands(config: TrainConfig, devices: Sequence[Any]) -> jax.sharding.Mesh:
    if not isinstance(config.system, DiffusionSystemConfig):
        raise InputError(
            f"--what decode needs a text-to-video system, got {config.system.kind!r}; "
            "choose another --config"
        )
    return latents_lib.bands(config.data.height // config.system.vae.spatial_compression, devices)


def _decode(config: TrainConfig, mesh: jax.sharding.Mesh):
    vae = functional.build(autoencoder.VAE, config.system.vae)
    everywhere = NamedSharding(mesh, P())
    params = jax.tree.map(
        lambda x: program_lib.with_sharding(x, everywhere), _shapes(vae, config.system.vae.dtype)
    )
    shape = (1, *tasks.sketch(config).batch["mean"].shape[1:])
    latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=everywhere)

    def decode(params, latents):
        return latents_lib.decode(vae, params, latents, tiled=mesh.size == 1)

    with context.use_mesh(mesh, rules_lib.table("fsdp")):
        lowered = jax.jit(decode).lower(params, latents)
    flops = metrics.count_flops(decode, params, latents)
    return lowered, {"parameters": params, "latents": latents}, flops, flops


def _on_mesh(model: functional.Model, rules: rules_lib.Rules, mesh: jax.sharding.Mesh) -> Any:
    shardings = rules_lib.param_shardings(model.abstract_params, model.axes, rules, mesh)
    return jax.tree.map(program_lib.with_sharding, model.abstract_params, shardings)


def _encoder(path: str | None, kind: str, default: Any) -> tuple[functional.Model, str]:
    try:
        place = weights.resolve(path or "-")
    except ValueError:
        return opening.FAMILIES[kind].build(default), "bfloat16"
    opened = weights.open_weights(place)
    return opened.family.build(opened.config), opened.config.dtype


def _placed(model: functional.Model, dtype: str, devices: Sequence[Any]) -> Any:
    """Describes parameters in `dtype`, split over `devices` as `weights.load` splits them."""
    shapes = _shapes(model, dtype)
    mesh = mesh_lib.line("fsdp", devices)
    places = rules_lib.param_shardings(shapes, model.axes, rules_lib.table("fsdp"), mesh)
    return jax.tree.map(program_lib.with_sharding, shapes, places)


def _shapes(model: functional.Model, dtype: str) -> Any:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype)), model.abstract_params
    )


def _key(shape: tuple[int, ...], sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    dtype = jax.eval_shape(lambda: jax.random.key(0)).dtype
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _remat(config: TrainConfig) -> str:
    task = config.system
    return task.network.dit.remat if isinstance(task, DiffusionSystemConfig) else "none"
