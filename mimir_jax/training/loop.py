# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The one train loop: mesh, data, model, optimizer, state, step, loop, shutdown."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding

from mimir_jax import threads
from mimir_jax.config import LanguageSystemConfig, TrainConfig
from mimir_jax.data import loader as loader_lib
from mimir_jax.errors import DivergenceError
from mimir_jax.models import functional
from mimir_jax.parallel import context, distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import memory
from mimir_jax.training import checkpoint, flops, interrupt, tasks
from mimir_jax.training import compiled_step as program_lib
from mimir_jax.training import metrics as metrics_lib
from mimir_jax.training.task import Task
from mimir_jax.weights import initialization as init_lib


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: Completed steps.
        interrupted: True after Ctrl-C or SIGTERM; the checkpoint is saved all the same.
        before, after: Held-out metrics at the first and last step of this process.
        samples: Files of the last samples, the sheet first; none but on process 0.
        skipped: How often each record that could not be decoded was replaced, by name, over all
            processes.
    """

    step: int
    interrupted: bool
    before: dict[str, float]
    after: dict[str, float]
    samples: list[pathlib.Path]
    skipped: dict[str, int]


Report = Callable[[int, dict[str, float]], None]


def train(
    config: TrainConfig,
    workdir: pathlib.Path,
    *,
    report: Report = lambda step, metrics: None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Trains `config.system` in `workdir`, continuing the run that it holds.

    Args:
        config: The run.
        workdir: Receives config, checkpoints, metrics and samples.
        report: Called after every step with its number and, on logging steps, the metrics.
        say: Told what the run takes of a device's memory, before anything is read into it. A run
            that cannot fit is then refused; None starts it all the same.

    Raises:
        ValueError: for input that cannot work, before any state is allocated.
        FloatingPointError: if the loss stops being finite.
    """
    # The program is compiled while its task is read. Until all is read, nothing is written.
    if distributed.is_first():
        checkpoint.require_claimable(workdir, config)
    mesh = mesh_lib.make_mesh(config.mesh.sizes)
    program_lib.require_runnable(config, mesh)
    if say is not None and not isinstance(config.system, LanguageSystemConfig):
        say(str(memory.check(config, jax.devices())))
    sketch = tasks.sketch(config)
    program = program_lib.make(config, sketch.model, sketch.loss, mesh)
    started = checkpoint.has_checkpoint(workdir)
    finished = started and checkpoint.latest_step(workdir) >= config.steps
    compiling = None if finished else threads.submit(lambda: _compile(config, program, sketch))
    if compiling and mesh.devices.flat[0].platform == "gpu":
        compiling.result()  # XLA chooses its kernels by timing them: nothing else may run there
    task = tasks.make_task(config)
    data = loader_lib.make_loader(
        task.source(),
        global_batch=config.batch_size,
        seed=config.seed,
        num_workers=config.data.num_workers,
        sharding=program.batch,
    )

    loaded = None if started else _load_init(config, task)
    if not finished:
        task.read_heldout()

    # From here on the work directory is ours.
    checkpoint.claim_workdir(workdir, config)
    checkpointer = checkpoint.Checkpointer(workdir, keep=config.keep_checkpoints)
    state, position = _restore_or_init(config, task, checkpointer, program, loaded)
    if position is not None:
        data.restore(position)

    draw = lambda: jax.random.fold_in(jax.random.key(config.seed), 1)  # noqa: E731
    key = jax.jit(draw, out_shardings=program.replicated)()

    # Loop. The step itself moves no data: its batch was drawn and prepared while the step before it
    # ran. A checkpoint names the batch after the last one trained on, so resuming repeats nothing.
    step = first = int(state.step)
    samples: list[pathlib.Path] = []
    with (
        contextlib.closing(checkpointer),
        contextlib.closing(metrics_lib.Writer(workdir)) as writer,
        contextlib.closing(_Ahead(config, task, data, program.batch)) as batches,
        context.use_mesh(mesh, program.rules),
        interrupt.watched() as asked,
    ):
        before = after = _evaluate(task, state, writer, step) if step < config.steps else {}
        batches.start(config.steps - step)
        meter = _Meter(config, mesh)
        stopped = False
        while step < config.steps and not (stopped := asked(step)):
            batch = next(batches)
            if step == first:
                meter.flops = compiling.result()
            with jax.transfer_guard("disallow"):
                state, values = program.step(state, batch, key)
            step += 1
            last = step == config.steps
            logged = {}
            if step == first + 1 or step % config.log_every == 0 or last:
                logged = meter.read(step, values)
                writer.write(step, logged)
            report(step, logged)
            if _due(step, config.eval_every) and not last:
                batches.wait()
                after = _evaluate(task, state, writer, step)
            if _due(step, config.sample_every) and not last:
                batches.wait()
                samples = _sample(task, state, workdir, step)
            if _due(step, config.checkpoint_every) and not last:
                checkpointer.save(state, batches.position, config)

        # Shutdown.
        checkpointer.save(state, batches.position, config)
        batches.close()
        if step > first:
            after = _evaluate(task, state, writer, step)
            if not stopped and not asked(step):
                samples = _sample(task, state, workdir, step)
    skipped = sum(map(collections.Counter, distributed.gather(data.skipped)), collections.Counter())
    return Result(step, stopped, before, after, samples, dict(skipped))


def _load_init(config: TrainConfig, task: Task) -> functional.Params | None:
    """Reads `init_from`; `ValueError` if the run cannot start from where its config says."""
    if config.resume_from is not None:
        checkpoint.require_run(pathlib.Path(config.resume_from))
    if config.init_from is None:
        return None
    return init_lib.read_init(config.init_from, task.model)


def _restore_or_init(config, task, checkpointer, program, loaded):
    """Restores or draws the state.

    Precedence: the checkpoint in the run's own work directory; then `resume_from` (state and data
    position of another run); then `init_from` (parameters only); then a fresh draw.
    """
    if checkpointer.latest_step is not None:
        logging.info("continuing at step %d", checkpointer.latest_step)
        return checkpointer.restore(program.state)
    if config.resume_from is not None:
        return checkpoint.restore_from(pathlib.Path(config.resume_from), program.state)
    shardings = program.shardings
    params = init_lib.start(config, task.model, loaded, shardings.params)
    return jax.jit(program.make_state, out_shardings=shardings, donate_argnums=0)(params), None


def _compile(config: TrainConfig, program: program_lib.Program, sketch: tasks.Sketch) -> int:
    """Compiles the step and returns its FLOPs."""
    program_lib.lower(program, sketch.batch).compile()
    return flops.step_flops(config)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(task: Task, state, writer: metrics_lib.Writer, step: int) -> dict[str, float]:
    values = {k: float(v) for k, v in task.evaluate(state.eval_params).items()}
    writer.write(step, {f"heldout/{name}": value for name, value in values.items()})
    return values


def _sample(task: Task, state, workdir: pathlib.Path, step: int) -> list[pathlib.Path]:
    return task.sample(state.eval_params, workdir / "samples" / f"{step:07d}")


class _Ahead:
    """Batches on the devices, each drawn and prepared in a thread while the step before it runs.

    A thread starts with none of the contexts of the one that starts it: no mesh in force and no
    transfer guard, which is what `Task.prepare` is to see. Encoders that are split over devices run
    collectives, which two threads could start in another order on each device, and all would wait:
    then batches are prepared between steps.

    Attributes:
        position: Where the loader's next batch stands after the last one given out.
    """

    def __init__(
        self, config: TrainConfig, task: Task, data: loader_lib.Loader, sharding: NamedSharding
    ):
        self._task, self._data, self._sharding = task, data, sharding
        self._threaded = not config.mesh.shard_frozen or config.data.features is not None
        self._thread = futures.ThreadPoolExecutor(1, "batches")
        self._coming: futures.Future | None = None
        self._left = 0
        self.position = data.state()

    def start(self, count: int) -> None:
        """Starts on the first of `count` batches; none is drawn beyond them."""
        self._left = count
        self._submit()

    def __next__(self) -> Any:
        """Returns the next batch, and starts on the one after it."""
        batch, self.position = self._coming.result() if self._threaded else self._make()
        self._submit()
        return batch

    def wait(self) -> None:
        """Returns when nothing runs in the thread: the task is not used by two at once."""
        if self._coming is not None:
            futures.wait([self._coming])

    def close(self) -> None:
        """Ends the thread, after the batch that it is at, and the loader."""
        self._thread.shutdown(cancel_futures=True)
        self._data.close()

    def _submit(self) -> None:
        if self._threaded:
            self._coming = self._thread.submit(self._make) if self._left > 0 else None
            self._left -= 1

    def _make(self) -> tuple[Any, dict[str, Any]]:
        records, position = next(self._data), self._data.state()
        return loader_lib.device_put(self._task.prepare(records), self._sharding), position


class _Meter:
    """Step time, samples/s, model FLOP/s and MFU between logging steps; stops a diverged run.

    Attributes:
        flops: Model FLOPs of a step.
    """

    def __init__(self, config: TrainConfig, mesh: Mesh):
        self.flops = 0
        self._peak = metrics_lib.peak_flops(mesh)
        self._batch_size = config.batch_size
        self._last = (None, time.perf_counter())

    def read(self, step: int, values) -> dict[str, float]:
        """Fetches the metrics of `step` and adds the rates since the last reading."""
        values = metrics_lib.to_floats(values)
        now = time.perf_counter()
        since, then = self._last
        if not np.isfinite(values["loss"]):
            raise DivergenceError(
                f"loss must stay finite, got {values['loss']} between steps {since or 0} and "
                f"{step}; lower optimizer.learning_rate or clip_norm and continue from the last "
                "checkpoint"
            )
        if since is not None and step > since:
            seconds = (now - then) / (step - since)
            values["step_seconds"] = seconds
            values["samples_per_second"] = self._batch_size / seconds
            values["model_tflops_per_second"] = self.flops / seconds / 1e12
            if self._peak is not None:
                values["mfu"] = self.flops / seconds / self._peak
        self._last = (step, now)
        return values
