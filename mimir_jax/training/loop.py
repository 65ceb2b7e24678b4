# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The train loop: mesh, system, step, encoder, data, state, loop, shutdown."""

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh

from mimir_jax import files, noise, weights
from mimir_jax.config import TrainConfig
from mimir_jax.parallel import context, distributed
from mimir_jax.training import checkpoint, divergence, interrupt, prefetch, samples, watchdog
from mimir_jax.training import metrics as metrics_lib
from mimir_jax.training import setup as setup_lib
from mimir_jax.training import state as state_lib
from mimir_jax.training import workdir as workdir_lib
from mimir_jax.weights import initialization


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: Completed steps.
        interrupted: True after Ctrl-C, SIGTERM or SIGHUP; the checkpoint is saved all the same.
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
        DivergenceError: if a loss, gradient or update stops being finite.
    """
    workdir = files.expand_path(workdir)  # refuses addresses; `training.mirror` takes them
    # The step compiles while frozen networks and held-out data load; until then nothing is written.
    setup = setup_lib.make_setup(config, workdir, check=check)

    # From here on the work directory is ours, and nobody else's.
    with contextlib.ExitStack() as stack:
        changed = stack.enter_context(workdir_lib.claimed(workdir, config))
        setup.loader.quarantine(workdir)
        checkpointer = checkpoint.Checkpointer(
            workdir,
            keep=config.keep_checkpoints,
            keep_every=config.keep_every,
            keep_best=config.keep_best,
        )
        stack.enter_context(contextlib.closing(checkpointer))
        state, position = _restore_or_init(config, setup, checkpointer)
        if setup.compiling is None and int(state.step) < config.steps:
            setup = setup_lib.complete(config, setup)  # its end was set aside
        if position is not None:
            setup.loader.restore(position)
        workdir_lib.record(workdir, "start", int(state.step), changed=changed)
        run = stack.enter_context(_Run(config, workdir, setup, checkpointer, report, state))
        return run.train()


class _Run:
    """The loop of a run and what it holds open.

    The step itself moves no data: its batch was encoded while the step before it ran. A checkpoint
    names the batch after the last one trained on, so resuming repeats nothing.
    """

    def __init__(
        self,
        config: TrainConfig,
        workdir: pathlib.Path,
        setup: setup_lib.Setup,
        checkpointer: checkpoint.Checkpointer,
        report: Report,
        state: state_lib.TrainState,
    ):
        self._config, self._workdir, self._setup = config, workdir, setup
        self._checkpointer, self._report, self._state = checkpointer, report, state
        self._step = self._first = int(state.step)
        self._saved = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._heldout: dict[str, float] = {}  # of the last evaluation
        self._files: list[pathlib.Path] = []
        self._blocked = False  # input that gave no batch when a stop was asked for

    def __enter__(self) -> "_Run":
        config, setup = self._config, self._setup
        with contextlib.ExitStack() as stack:
            closing = lambda thing: stack.enter_context(contextlib.closing(thing))  # noqa: E731
            self._writer = closing(metrics_lib.Writer(self._workdir, self._step))
            self._batches = closing(
                prefetch.Prefetcher(config, setup.encoder, setup.loader, setup.compiled.batch)
            )
            self._dog = closing(watchdog.Watchdog(config.hang_seconds))
            stack.enter_context(context.use_mesh(setup.mesh, setup.compiled.rules))
            self._stop = stack.enter_context(interrupt.watch_signals())
            if setup.compiling is not None:
                closing(setup.compiling)
            self._stack = stack.pop_all()
        self._checkpointer.heldout |= metrics_lib.heldout_losses(self._workdir)
        self._monitor = divergence.Monitor(config.divergence, self._workdir, setup.loader.ids)
        self._meter = _Meter(setup.mesh)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def train(self) -> Result:
        """Takes the steps that are left, saves, and evaluates."""
        if self._step < self._config.steps:
            self._evaluate()
        before = self._heldout
        if self._config.divergence.policy == "rollback" and self._checkpointer.latest_step is None:
            self._save()
        self._start_input()
        stopped = self._take_steps()
        self._save()
        if self._end_input() and self._step > self._first:
            self._evaluate()
            stopped = stopped or self._stop.requested(self._step)
            if not stopped:
                self._write_samples()
        return Result(
            self._step, stopped, before, self._heldout, self._files, self._count_skipped()
        )

    def _start_input(self) -> None:
        """Orders the program of the first step alone, and starts on the first batch."""
        left = self._config.steps - self._step
        self._order_programs(min(left, 1))
        self._batches.start(left)

    def _order_programs(self, batches: int) -> None:
        """Orders the programs of the buckets of the next batches, in the order of their use."""
        if batches > 0:
            next_batch = self._batches.position["batch"]
            buckets = self._setup.loader.schedule.next_buckets(next_batch, batches)
            self._setup.compiling.order(buckets)

    def _take_steps(self) -> bool:
        """Takes the steps that are left, with what is due after each.

        Returns:
            Whether it was stopped before the last one.
        """
        draw = lambda: jax.random.fold_in(noise.make_key(self._config.seed), 1)  # noqa: E731
        key = jax.jit(draw, out_shardings=self._setup.compiled.replicated)()
        while self._step < self._config.steps:
            if self._stop.requested(self._step):
                return True
            self._dog.at(f"the input of step {self._step + 1}", prefetch.THREAD)
            batch = self._batches.take(self._stop.seen)
            if batch is None:
                self._blocked = True
                return True
            self._take_step(batch, key)
            if self._step == self._first + 1:  # earlier, they would delay the first step
                self._order_programs(self._config.steps - self._step)
            self._do_due()
            self._checkpointer.check()
            if found := self._monitor.read(wait=self._step == self._config.steps):
                self._roll_back(found)
        return False

    def _do_due(self) -> None:
        """Evaluates, writes samples and saves, where this is due after the last step."""
        config = self._config
        if self._is_due(config.eval_every):
            self._batches.wait()
            with self._meter.pause(self._state.step):
                self._evaluate()
        if self._is_due(config.sample_every):
            self._batches.wait()
            with self._meter.pause(self._state.step):
                self._write_samples()
        if self._is_due(config.checkpoint_every) or self._is_late():
            with self._meter.pause(self._state.step):
                self._save()

    def _end_input(self) -> bool:
        """Ends the input.

        Returns:
            Whether that of all processes ended, so that they can evaluate together.
        """
        blocked = not self._batches.close() or self._blocked
        blocked = any(distributed.gather(blocked))
        self._checkpointer.check()
        return not blocked

    def _count_skipped(self) -> dict[str, int]:
        """Returns the number of records that all processes left out, by reason."""
        counts = map(collections.Counter, distributed.gather(self._setup.loader.skipped))
        return dict(sum(counts, collections.Counter()))

    def _take_step(self, batch: Any, key: jax.Array) -> None:
        config, compiled = self._config, self._setup.compiled
        bucket = self._setup.system.buckets[self._batches.bucket]
        self._dog.at(None)
        flops = self._setup.compiling.flops(self._batches.bucket)
        self._dog.at(f"step {self._step + 1}")
        with jax.transfer_guard("disallow"):
            self._state, values = compiled.step(self._state, batch, key, weight=bucket.weight)
        self._step += 1
        self._meter.add(flops, bucket.batch)
        self._monitor.add(self._step, self._batches.position, values)
        logged = {}
        log = self._step == self._first + 1 or self._step % config.log_every == 0
        if log or self._step == config.steps:
            logged = self._meter.read(values)
            if len(self._setup.system.buckets) > 1:
                logged[f"loss/{bucket.name}"] = logged["loss"]
            self._writer.write(self._step, logged)
        self._report(self._step, logged)

    def _roll_back(self, found: divergence.Divergence) -> None:
        """Goes back to the newest checkpoint, and on with the batch after the one that diverged."""
        del self._state  # two would not fit
        self._state, position = self._checkpointer.restore(self._setup.compiled.state)
        self._step = int(self._state.step)
        self._writer.rewind(self._step)
        self._meter.forget()
        position = {**position, "batch": found.batch + 1}
        self._batches.restart(position, self._config.steps - self._step)
        workdir_lib.record(self._workdir, "rolled back", self._step, next_batch=found.batch + 1)

    def _save(self) -> None:
        """Saves the state once its numbers are known to be finite."""
        self._dog.at(f"the checkpoint of step {self._step}")
        if found := self._monitor.read(wait=True):
            self._roll_back(found)
        self._checkpointer.save(self._state, self._batches.position, self._config)
        self._saved = time.monotonic()

    def _is_due(self, every: int) -> bool:
        return every > 0 and self._step % every == 0 and self._step < self._config.steps

    def _is_late(self) -> bool:
        """Whether the time for a checkpoint has come; all processes call it after logging steps."""
        minutes, logged = self._config.checkpoint_minutes, self._step % self._config.log_every == 0
        if not minutes or not logged or self._step == self._config.steps:
            return False
        return distributed.from_first(lambda: time.monotonic() - self._saved > 60 * minutes)

    def _evaluate(self) -> None:
        self._dog.at(f"the evaluation of step {self._step}")
        params = self._state.eval_params
        values = {
            name: float(value)
            for evaluator in self._setup.evaluators
            for name, value in evaluator.evaluate(params).items()
        }
        self._writer.write(self._step, {f"heldout/{name}": x for name, x in values.items()})
        if "loss" in values:
            self._checkpointer.heldout[self._step] = values["loss"]
        self._heldout = values

    def _write_samples(self) -> None:
        self._dog.at(f"the samples of step {self._step}")
        params = self._state.eval_params
        evaluators, step = self._setup.evaluators, self._step
        self._files = samples.write(evaluators, params, self._workdir, self._config, step)


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
        return checkpoint.restore_from(weights.resolve(config.resume_from), setup.compiled.state)
    shardings = setup.compiled.shardings
    params = initialization.start(config, setup.system.model, setup.init, shardings.params)
    make_state = jax.jit(setup.compiled.make_state, out_shardings=shardings, donate_argnums=0)
    return make_state(params), None


class _Meter:
    """Step time, samples/s, model FLOP/s and MFU between logging steps, pauses left out."""

    def __init__(self, mesh: Mesh):
        self._peak = metrics_lib.peak_flops(mesh)
        self.forget()

    def add(self, flops: int, samples: int) -> None:
        """Counts a step, of so many model FLOPs and clips."""
        self._steps += 1
        self._flops += flops
        self._samples += samples

    @contextlib.contextmanager
    def pause(self, result: jax.Array) -> Iterator[None]:
        """Leaves out the time of a block, which begins when the step of a result has ended."""
        jax.block_until_ready(result)
        start = time.perf_counter()
        yield
        if self._then is not None:
            self._then += time.perf_counter() - start

    def read(self, values) -> dict[str, float]:
        """Fetches the metrics of the last step and adds the rates since the last reading."""
        values = metrics_lib.to_floats(values)
        now = time.perf_counter()
        if self._then is not None:
            seconds = now - self._then
            values["step_seconds"] = seconds / self._steps
            values["samples_per_second"] = self._samples / seconds
            values["model_tflops_per_second"] = self._flops / seconds / 1e12
            if self._peak is not None:
                values["mfu"] = self._flops / seconds / self._peak
        self.forget()
        self._then = now
        return values

    def forget(self) -> None:
        """Starts measuring afresh."""
        self._then: float | None = None
        self._steps = self._flops = self._samples = 0
