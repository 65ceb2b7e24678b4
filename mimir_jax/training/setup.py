# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Everything a run needs before its first step, read and checked without writing anything."""

import dataclasses
import pathlib
from collections.abc import Callable

from jax.sharding import Mesh

from mimir_jax import systems, weights
from mimir_jax.config import TrainConfig
from mimir_jax.data import buckets, sources
from mimir_jax.data import loader as loader_lib
from mimir_jax.errors import InputError
from mimir_jax.models import functional
from mimir_jax.parallel import distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.systems import base
from mimir_jax.training import checkpoint, compilation, compiled_step, samples
from mimir_jax.training import workdir as workdir_lib
from mimir_jax.weights import initialization, runs

Check = Callable[[base.System], None]


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run that is ready to start.

    Attributes:
        mesh: The devices.
        system: What trains.
        compiled: Its train step.
        compiling: Compiles it in the background; None for a run that has ended.
        encoder: Turns records into batches.
        evaluators: Held-out metrics and examples, their data read.
        loader: Yields the records of this process.
        init: Parameters of `init_from`; None for a run that has started, or starts without.
    """

    mesh: Mesh
    system: base.System
    compiled: compiled_step.CompiledStep
    compiling: compilation.Compilation | None
    encoder: base.Encoder
    evaluators: list[base.Evaluator]
    loader: loader_lib.Loader
    init: functional.Params | None


def make_setup(
    config: TrainConfig,
    workdir: pathlib.Path,
    *,
    check: Check = lambda system: None,
    writes: bool = True,
) -> Setup:
    """Reads and checks what the run `config` needs, while its first step compiles in a thread.

    Args:
        config: The run.
        workdir: Where it is to run; nothing is written there.
        check: Called with the system before any weights are read; raises to refuse the run.
        writes: Whether the work directory is still to be claimed.

    Raises:
        InputError: for input that cannot work, before any state is allocated.
    """
    if distributed.is_first():
        workdir_lib.require_same_run(workdir, config)
        if writes:
            workdir_lib.require_writable(workdir)
    mesh = mesh_lib.make_mesh(config.mesh.sizes)
    system = systems.make_system(config)
    compiled_step.require_runnable(config, system, mesh)
    check(system)
    compiled = compiled_step.make(config, system, mesh)
    started = runs.has_checkpoint(workdir)
    finished = started and runs.latest_step(workdir) >= config.steps
    compiling = None if finished else compilation.Compilation(config, system, compiled)
    if compiling and mesh.devices.flat[0].platform == "gpu":
        compiling.wait()  # XLA times kernels to choose among them: nothing else may run
    encoder = systems.make_encoder(config, system)
    evaluators = [
        *systems.make_evaluators(config, system, encoder),
        *samples.make_evaluators(config, system, encoder),
    ]
    source = encoder.source("train")
    _require_same_buckets(source)
    loader = loader_lib.make_loader(
        source,
        global_batch=_batches(config, system),
        seed=config.seed,
        num_workers=config.data.num_workers,
        sharding=compiled.batch,
    )
    if compiling:  # a resumed run orders again once its position is known
        compiling.order(loader.schedule.next_buckets(0, 1))
    init = None if started else _load_init(config, system)
    if not finished:
        for evaluator in evaluators:
            evaluator.read()
    return Setup(mesh, system, compiled, compiling, encoder, evaluators, loader, init)


def complete(config: TrainConfig, setup: Setup) -> Setup:
    """Compiles and reads what `make_setup` left out for a run that had ended."""
    compiling = compilation.Compilation(config, setup.system, setup.compiled)
    for evaluator in setup.evaluators:
        evaluator.read()
    return dataclasses.replace(setup, compiling=compiling)


def _load_init(config: TrainConfig, system: base.System) -> functional.Params | None:
    """Reads `init_from`; raises `InputError` if the run cannot start from it or `resume_from`."""
    if config.resume_from is not None:
        checkpoint.require_run(weights.resolve(config.resume_from))
    return initialization.read(config, system.model)


def _require_same_buckets(source: sources.Source) -> None:
    """Raises `InputError` unless all processes have the same clips in each bucket."""
    if not isinstance(source, buckets.Grouped):
        return
    seen = distributed.gather(repr(source))
    other = next((index for index, text in enumerate(seen) if text != seen[0]), None)
    if other is not None:
        raise InputError(
            f"processes must measure the same clips, process {other} sees others than process 0; "
            "put the data on storage that all processes share"
        )


def _batches(config: TrainConfig, system: base.System) -> int | list[int]:
    """Returns the clips of a batch; of each bucket, where the run has buckets."""
    if not config.data.buckets.sizes:
        return config.batch_size
    return [bucket.batch for bucket in system.buckets]
