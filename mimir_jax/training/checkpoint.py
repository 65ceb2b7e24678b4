# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: state, data position, config and the checksums of all of them.

What is read is compared with its checksums. A newest checkpoint that is damaged is set aside, and
the run goes on from the one before it.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from mimir_jax import checksums, files, threads
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import DivergenceError, InputError
from mimir_jax.parallel import distributed
from mimir_jax.training import state as state_lib
from mimir_jax.weights import native, runs


class Checkpointer:
    """Writes and reads `workdir/checkpoints/<step>` through Orbax.

    A checkpoint is complete or absent: Orbax writes a temporary folder and renames it. Saving runs
    in the background; `check` tells whether that failed, `close` waits for it.

    Attributes:
        heldout: Held-out loss by step, as far as it is known.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        *,
        keep: int | None = None,
        keep_every: int = 0,
        keep_best: bool = False,
        read_only: bool = False,
    ):
        """Opens or creates the folder.

        Args:
            workdir: The run.
            keep: Newest checkpoints to keep, None for all.
            keep_every: Keeps the multiples of this many steps too; 0 keeps none for that.
            keep_best: Keeps the one of the lowest held-out loss too.
            read_only: Creates and removes nothing; for reading alone.
        """
        native.silence_orbax()
        self.heldout: dict[int, float] = {}
        self._failed, self._read_only = False, read_only
        self._background: contextlib.ExitStack | None = None
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        if keep_every:
            policies.append(checkpoint_managers.EveryNSteps(keep_every))
        if keep_best:
            policies.append(_Best(self.heldout))
        with files.writing(workdir / runs.CHECKPOINTS, "checkpoint folder"):
            self._manager = ocp.CheckpointManager(
                (workdir / runs.CHECKPOINTS).absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                ),
            )

    @property
    def latest_step(self) -> int | None:
        """Newest complete checkpoint, None without one."""
        return self._manager.latest_step()

    def save(self, state: state_lib.TrainState, data: dict[str, Any], config: TrainConfig) -> None:
        """Saves under the step number of `state`; a step already saved is left alone.

        Raises:
            DivergenceError: if a leaf is not finite; nothing is written or deleted then.
            InputError: if this or the save before it could not be written.
        """
        step = int(jax.device_get(state.step))
        if step in self._manager.all_steps():
            return
        settings = json.loads(bridge.to_json(config))
        sums = require_finite(state) | {
            name: checksums.of_json(x) for name, x in (("data", data), ("config", settings))
        }
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(settings),
            **{runs.SUMS: ocp.args.JsonSave({"sums": sums, "checksum": checksums.of_json(sums)})},
        )
        if self._background is None:
            self._background = contextlib.ExitStack()
            self._background.enter_context(native.QUIET)
        with self._writing():
            self._manager.save(step, args=args, force=True)  # else skipped while one is under way

    def restore(
        self, abstract: state_lib.TrainState
    ) -> tuple[state_lib.TrainState, dict[str, Any]]:
        """Reads the newest whole checkpoint onto the shardings of `abstract`.

        Damaged ones that are newer are renamed to `<step>.damaged`, with a warning, once an older
        one was read. Of a run that is opened for reading alone, the newest must be whole.

        Raises:
            InputError: if none is whole, or they are of a model of another shape; about the newest.
        """
        with self._writing():
            self._manager.wait_until_finished()
        failures: dict[int, InputError | None] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            failure = found = None
            try:
                found = self.restore_step(step, abstract)
            except InputError as error:
                if self._read_only:
                    raise
                failure = error
            if any(distributed.gather(failure is not None)):
                failures[step] = failure
                continue
            for damaged, reason in failures.items():
                self._set_aside(damaged, reason)
            return found
        raise next(iter(failures.values())) or InputError(
            f"checkpoint {self._folder(max(failures))} must be whole, another process found it "
            "damaged; see its message"
        )

    def restore_step(
        self, step: int, abstract: state_lib.TrainState
    ) -> tuple[state_lib.TrainState, dict[str, Any]]:
        """Reads one checkpoint; see `restore`."""
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract),
            data=ocp.args.JsonRestore(),
            config=ocp.args.JsonRestore(),
        )
        folder = self._folder(step)
        sums = runs.read_sums(folder)
        with native.readable(folder, runs.DAMAGED_REMEDY):
            restored = self._manager.restore(step, args=args)
            found = state_sums(restored["state"]) | {
                name: checksums.of_json(restored[name]) for name in ("data", "config")
            }
            wrong = sorted(name for name in sums | found if sums.get(name) != found.get(name))
            if wrong:
                raise InputError(
                    f"{wrong[0]} has other values than were written"
                    + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")
                )
        return restored["state"], restored["data"]

    def _set_aside(self, step: int, reason: InputError | None) -> None:
        folder = self._folder(step)
        logging.warning(
            "%s; it is now %s.damaged, and the run goes on from the one before it",
            reason or f"checkpoint {folder} is damaged",
            folder.name,
        )
        if distributed.is_first():
            with files.writing(folder, "checkpoint folder"):
                folder.rename(files.free_name(folder.with_name(f"{folder.name}.damaged")))
        distributed.gather(None)
        self._manager.reload()

    def _folder(self, step: int) -> pathlib.Path:
        return pathlib.Path(self._manager.directory) / str(step)

    def check(self) -> None:
        """Raises `InputError` if a save in the background has failed."""
        with self._writing():
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits for saves under way; does nothing after a failed one, which has been reported."""
        if not self._failed:
            with self._writing():
                self._manager.wait_until_finished()
                self._manager.close()
            if self._background is not None:
                self._background.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        folder = pathlib.Path(self._manager.directory)
        try:
            with files.writing(folder, "checkpoint folder"), native.writing():
                yield
        except BaseException:
            self._failed = True
            threads.abandon()  # its writers may wait for each other without end
            raise


class _Best:
    """Orbax policy: keeps the step of the lowest held-out loss."""

    def __init__(self, heldout: dict[int, float]):
        self._heldout = heldout

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns which checkpoints to keep."""
        del context
        losses = {c.step: self._heldout.get(c.step, np.nan) for c in checkpoints}
        known = [step for step, loss in losses.items() if np.isfinite(loss)]  # NaN is never more
        best = min(known, key=losses.__getitem__, default=None)
        return [c.step == best for c in checkpoints]


def state_sums(state: state_lib.TrainState) -> dict[str, str]:
    """Returns the checksum of each leaf, by its `/`-joined path.

    The sums are those of `checksums.of_array`, computed where the leaves lie.
    """
    return {name: text for name, (text, _) in _sums(state).items()}


def require_finite(state: state_lib.TrainState) -> dict[str, str]:
    """Returns the checksum of each leaf; see `state_sums`.

    Raises:
        DivergenceError: if a leaf is not finite.
    """
    sums = _sums(state)
    if broken := [name for name, (_, finite) in sums.items() if not finite]:
        raise DivergenceError(
            f"the state must be finite to be saved, {broken[0]} is not after step "
            f"{int(jax.device_get(state.step))}, nor are {len(broken) - 1} more; lower "
            "optimizer.learning_rate or clip_norm and continue from the last checkpoint"
        )
    return {name: text for name, (text, _) in sums.items()}


def not_finite(tree: Any) -> list[str]:
    """Returns the paths of the leaves that hold NaN or infinity."""
    return [name for name, (_, finite) in _sums(tree).items() if not finite]


def _sums(tree: Any) -> dict[str, tuple[str, bool]]:
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    jax.block_until_ready(tree)
    return {name: _on_host(leaf) or _on_devices(leaf) for name, leaf in leaves.items()}


def _on_host(leaf: jax.Array) -> tuple[str, bool] | None:
    """Sums an array that lies in the memory of this process, for which nothing is compiled."""
    if not leaf.is_fully_addressable or next(iter(leaf.devices())).platform != "cpu":
        return None
    value = np.asarray(leaf)
    return checksums.of_array(value), bool(np.isfinite(value).all())


def _on_devices(leaf: jax.Array) -> tuple[str, bool]:
    # One after the other: collectives of programs that run at once can wait for each other on CPUs.
    total, finite = jax.device_get(sum_on_device(leaf))
    return checksums.as_text(int(total)), bool(finite)


@jax.jit
def sum_on_device(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the checksum of an array (`checksums.of_array`), and whether it is finite."""
    bits = x.astype(jnp.uint8) if x.dtype == bool else x
    if not jnp.issubdtype(bits.dtype, jnp.unsignedinteger):
        bits = jax.lax.bitcast_convert_type(bits, f"uint{8 * bits.dtype.itemsize}")
    mixed = bits.astype(jnp.uint32) * np.uint32(checksums.MIX)
    mixed ^= mixed >> np.uint32(checksums.SHIFT)
    place, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        count = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        place += count * np.uint32(stride % (1 << 32))
        stride *= x.shape[axis]
    total = jnp.sum(mixed * (2 * place + 1), dtype=jnp.uint32)
    return total, jnp.isfinite(x).all()


def require_run(workdir: pathlib.Path) -> None:
    """Raises `ValueError` unless `workdir` holds a run with a checkpoint."""
    if not runs.has_checkpoint(workdir):
        raise InputError(f"resume_from must be a work directory with checkpoints, got {workdir}")


def restore_from(
    workdir: pathlib.Path, abstract: state_lib.TrainState
) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """Reads the newest checkpoint of another run."""
    require_run(workdir)
    with contextlib.closing(Checkpointer(workdir, read_only=True)) as checkpointer:
        return checkpointer.restore(abstract)


def restore_step(
    workdir: pathlib.Path, step: int, abstract: state_lib.TrainState
) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """Reads one checkpoint of a run."""
    with contextlib.closing(Checkpointer(workdir, read_only=True)) as checkpointer:
        return checkpointer.restore_step(step, abstract)
