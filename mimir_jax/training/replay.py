# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs one step of a run again, from the checkpoint before it and the same batches."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax

from mimir_jax import noise
from mimir_jax.config import TrainConfig
from mimir_jax.errors import InputError
from mimir_jax.parallel import context
from mimir_jax.training import checkpoint, divergence, prefetch
from mimir_jax.training import metrics as metrics_lib
from mimir_jax.training import setup as setup_lib
from mimir_jax.weights import runs


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What a step computed.

    Attributes:
        start: Step of the checkpoint that it was reached from.
        batch: Number of its batch.
        ids: Records of the batch.
        values: Its metrics.
        recorded: Those that `metrics.jsonl` has of it; empty where it has none.
        broken: Parameters that are not finite after it.
    """

    start: int
    batch: int
    ids: list[str]
    values: dict[str, float]
    recorded: dict[str, Any]
    broken: list[str]

    def lines(self, step: int) -> list[str]:
        """Returns the result as text."""
        numbers = ", ".join(f"{n} {self.values[n]:.6g}" for n in divergence.CHECKED)
        found = [f"step {step}, again from the checkpoint of step {self.start}: {numbers}"]
        if "loss" in self.recorded:
            same = self.recorded["loss"] == self.values["loss"]
            found.append(
                f"recorded loss {self.recorded['loss']:.6g}: {'the same' if same else 'another'}"
            )
        found.append(f"batch {self.batch}: {', '.join(self.ids)}")
        if self.broken:
            found.append(f"not finite after it: {', '.join(self.broken)}")
        return found


def replay(config: TrainConfig, workdir: pathlib.Path, step: int) -> Replayed:
    """Runs the steps from the newest checkpoint before `step` to `step`; writes nothing.

    A run that rolled back or changed its learning rate since goes on from its checkpoint as it
    would now.

    Args:
        config: The run; its steps may be fewer.
        workdir: Its work directory.
        step: The step, counted from 1.

    Raises:
        InputError: if no checkpoint is from before `step`.
    """
    kept = runs.steps(workdir) if runs.has_checkpoint(workdir) else []
    start = max((known for known in kept if known < step), default=None)
    if start is None:
        listed = ", ".join(map(str, kept)) or "none"
        raise InputError(
            f"--replay must name a step after a kept checkpoint of {workdir} ({listed}), got {step}"
        )
    config = dataclasses.replace(config, steps=max(config.steps, step))
    setup = setup_lib.make_setup(config, workdir, writes=False)
    with contextlib.ExitStack() as stack:
        closing = lambda thing: stack.enter_context(contextlib.closing(thing))  # noqa: E731
        state, position = checkpoint.restore_step(workdir, start, setup.compiled.state)
        setup.loader.restore(position)
        batches = closing(
            prefetch.Prefetcher(config, setup.encoder, setup.loader, setup.compiled.batch)
        )
        stack.enter_context(context.use_mesh(setup.mesh, setup.compiled.rules))
        draw = lambda: jax.random.fold_in(noise.make_key(config.seed), 1)  # noqa: E731
        key = jax.jit(draw, out_shardings=setup.compiled.replicated)()
        batches.start(step - start)
        for _ in range(step - start):
            batch = batches.take()
            weight = setup.system.buckets[batches.bucket].weight
            state, metrics = setup.compiled.step(state, batch, key, weight=weight)
        values = metrics_lib.to_floats(metrics)
        number = batches.position["batch"] - 1
    return Replayed(
        start=start,
        batch=number,
        ids=setup.loader.ids(number),
        values=values,
        recorded=_recorded(workdir, step),
        broken=checkpoint.not_finite(state.params),
    )


def _recorded(workdir: pathlib.Path, step: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in metrics_lib.read_records(workdir / metrics_lib.FILE):
        if record["step"] == step:
            found |= record
    return found
