# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train loop: mesh, system, step, encoder, data, state, loop, shutdown."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mimir_jax.config import TrainConfig
from mimir_jax.errors import DivergenceError
from mimir_jax.parallel import context, distributed
from mimir_jax.systems import base
from mimir_jax.training import checkpoint, interrupt, prefetch, samples
from mimir_jax.training import metrics as metrics_lib
from mimir_jax.training import setup as setup_lib
from mimir_jax.training import state as state_lib
from mimir_jax.weights import initialization


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: Completed steps.
        interrupted: True after Ctrl-C or SIGTERM; the checkpoint is saved all the same.
        before, after: Held-out metrics at the first and last step of this process.
        samples: Files of the last samples, the sheet first; none but on process 0.
        skipped: How often each unreadable record was replaced, by name, over all processes.
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
    check: setup_lib.Check = lambda system: None,
) -> Result:
    """Trains `config.system` in `workdir`, continuing the run that it holds.

    Args:
        config: The run.
        workdir: Receives config, checkpoints, metrics and samples.
        report: Called after every step with its number and, on logging steps, the metrics.
        check: Called with the system before any weights are read; raises to refuse the run.

    Raises:
        InputError: for input that cannot work, before any state is allocated.
        DivergenceError: if the loss stops being finite.
    """
    # The step compiles while frozen networks and held-out data load; until then nothing is written.
    setup = setup_lib.make_setup(config, workdir, check=check)

    # From here on the work directory is ours.
    checkpoint.claim_workdir(workdir, config)
    checkpointer = checkpoint.Checkpointer(workdir, keep=config.keep_checkpoints)
    state, position = _restore_or_init(config, setup, checkpointer)
    if position is not None:
        setup.loader.restore(position)
    if setup.compiling is None and int(state.step) < config.steps:  # its end was set aside
        setup = setup_lib.complete(config, setup)
    compiled, evaluators = setup.compiled, setup.evaluators

    draw = lambda: jax.random.fold_in(jax.random.key(config.seed), 1)  # noqa: E731
    key = jax.jit(draw, out_shardings=compiled.replicated)()

    # Loop. The step itself moves no data: its batch was encoded while the step before it ran. A
    # checkpoint names the batch after the last one trained on, so resuming repeats nothing.
    step = first = int(state.step)
    files: list[pathlib.Path] = []
    with (
        contextlib.closing(checkpointer),
        contextlib.closing(metrics_lib.Writer(workdir)) as writer,
        contextlib.closing(
            prefetch.Prefetcher(config, setup.encoder, setup.loader, compiled.batch)
        ) as batches,
        context.use_mesh(setup.mesh, compiled.rules),
        interrupt.watch_signals() as stop_requested,
    ):
        before = after = _evaluate(evaluators, state, writer, step) if step < config.steps else {}
        batches.start(config.steps - step)
        meter = _Meter(config, setup.mesh)
        stopped = False
        while step < config.steps and not (stopped := stop_requested(step)):
            batch = next(batches)
            if step == first:
                meter.flops = setup.compiling.result()
            with jax.transfer_guard("disallow"):
                state, values = compiled.step(state, batch, key)
            step += 1
            last = step == config.steps
            logged = {}
            if step == first + 1 or step % config.log_every == 0 or last:
                logged = meter.read(step, values)
                writer.write(step, logged)
            report(step, logged)
            if _is_due(step, config.eval_every) and not last:
                batches.wait()
                after = _evaluate(evaluators, state, writer, step)
            if _is_due(step, config.sample_every) and not last:
                batches.wait()
                files = samples.write(evaluators, state.eval_params, workdir, config, step)
            if _is_due(step, config.checkpoint_every) and not last:
                checkpointer.save(state, batches.position, config)

        # Shutdown.
        checkpointer.save(state, batches.position, config)
        batches.close()
        if step > first:
            after = _evaluate(evaluators, state, writer, step)
            if not stopped and not stop_requested(step):
                files = samples.write(evaluators, state.eval_params, workdir, config, step)
    counts = map(collections.Counter, distributed.gather(setup.loader.skipped))
    return Result(step, stopped, before, after, files, dict(sum(counts, collections.Counter())))


def _restore_or_init(
    config: TrainConfig, setup: setup_lib.Setup, checkpointer: checkpoint.Checkpointer
) -> tuple[state_lib.TrainState, dict[str, Any] | None]:
    """Restores or draws the state.

    Precedence: the checkpoint in the run's own work directory; then `resume_from` (state and data
    position of another run); then `init_from` (parameters only); then a fresh draw.
    """
    if checkpointer.latest_step is not None:
        logging.info("continuing at step %d", checkpointer.latest_step)
        return checkpointer.restore(setup.compiled.state)
    if config.resume_from is not None:
        return checkpoint.restore_from(pathlib.Path(config.resume_from), setup.compiled.state)
    shardings = setup.compiled.shardings
    params = initialization.start(config, setup.system.model, setup.init, shardings.params)
    make_state = jax.jit(setup.compiled.make_state, out_shardings=shardings, donate_argnums=0)
    return make_state(params), None


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _evaluate(
    evaluators: Sequence[base.Evaluator],
    state: state_lib.TrainState,
    writer: metrics_lib.Writer,
    step: int,
) -> dict[str, float]:
    params = state.eval_params
    values = {
        name: float(value)
        for evaluator in evaluators
        for name, value in evaluator.evaluate(params).items()
    }
    writer.write(step, {f"heldout/{name}": value for name, value in values.items()})
    return values


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
