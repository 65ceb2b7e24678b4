# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: state, data position, config and the checksums of all of them.

What is read is compared with its checksums. A newest checkpoint that is damaged is set aside, and
the run goes on from the one before it.
"""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from mimir_jax import checksums, files
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import DivergenceError, InputError
from mimir_jax.parallel import distributed
from mimir_jax.training import state as state_lib
from mimir_jax.weights import native, runs

# Fields that a resumed run may change: they affect the machine or the reporting, not the numbers.
# One exception: more `steps` stretch the cosine of the learning rate, which then rises again.
_RESUMABLE = re.compile(
    r"steps|(log|eval|sample|checkpoint)_every|keep_checkpoints|resume_from|init_from"
    r"|mesh\..*|optimizer\.offload|data\.num_workers|data\.\w+\.path"
    r"|system\.(.*\.)?dit\.(attention|remat|unroll)"
)


class Checkpointer:
    """Writes and reads `workdir/checkpoints/<step>` through Orbax.

    A checkpoint is complete or absent: Orbax writes a temporary folder and renames it. Saving runs
    in the background; `close` waits for it.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int | None = None):
        self._manager = ocp.CheckpointManager(
            (workdir / runs.CHECKPOINTS).absolute(),
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
        )

    @property
    def latest_step(self) -> int | None:
        """Newest complete checkpoint, None without one."""
        return self._manager.latest_step()

    def save(self, state: state_lib.TrainState, data: dict[str, Any], config: TrainConfig) -> None:
        """Saves under the step number of `state`; a step already saved is left alone.

        Raises:
            DivergenceError: if a leaf is not finite; nothing is written then.
        """
        step = int(jax.device_get(state.step))
        if step == self.latest_step:
            return
        settings = json.loads(bridge.to_json(config))
        sums = state_sums(state) | {
            name: checksums.of_json(x) for name, x in (("data", data), ("config", settings))
        }
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(settings),
            **{runs.SUMS: ocp.args.JsonSave({"sums": sums, "checksum": checksums.of_json(sums)})},
        )
        with self._writing():
            self._manager.save(step, args=args)

    def restore(
        self, abstract: state_lib.TrainState
    ) -> tuple[state_lib.TrainState, dict[str, Any]]:
        """Reads the newest whole checkpoint onto the shardings of `abstract`.

        Damaged ones that are newer are renamed to `<step>.damaged`, with a warning, once an older
        one was read.

        Raises:
            InputError: if none is whole, or they are of a model of another shape; about the newest.
        """
        failures: dict[int, InputError | None] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            failure = found = None
            try:
                found = self._read(step, abstract)
            except InputError as error:
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

    def _read(
        self, step: int, abstract: state_lib.TrainState
    ) -> tuple[state_lib.TrainState, dict[str, Any]]:
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
                folder.rename(folder.with_name(f"{folder.name}.damaged"))
        distributed.gather(None)
        self._manager.reload()

    def _folder(self, step: int) -> pathlib.Path:
        return pathlib.Path(self._manager.directory) / str(step)

    def close(self) -> None:
        """Waits for saves under way."""
        with self._writing():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        folder = pathlib.Path(self._manager.directory)
        with files.writing(folder, "checkpoint folder"), native.writing():
            yield


def state_sums(state: state_lib.TrainState) -> dict[str, str]:
    """Returns the checksum of each leaf, by its `/`-joined path.

    The sums are those of `checksums.of_array`, computed where the leaves lie.

    Raises:
        DivergenceError: if a leaf is not finite.
    """
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    results = jax.device_get({name: _sum(leaf) for name, leaf in leaves.items()})
    broken = [name for name, (_, finite) in results.items() if not finite]
    if broken:
        raise DivergenceError(
            f"the state must be finite to be saved, {broken[0]} is not after step "
            f"{int(jax.device_get(state.step))}, nor are {len(broken) - 1} more; lower "
            "optimizer.learning_rate or clip_norm and continue from the last checkpoint"
        )
    return {name: checksums.as_text(int(total)) for name, (total, _) in results.items()}


@jax.jit
def _sum(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the checksum of an array, and whether it is finite."""
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
    with contextlib.closing(Checkpointer(workdir)) as checkpointer:
        return checkpointer.restore(abstract)


def require_claimable(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Raises `ValueError` if `workdir` holds a run of another config, or other files."""
    path = workdir / runs.CONFIG_FILE
    if runs.is_released(workdir):
        raise InputError(
            f"workdir {workdir} must hold a run that can go on, got a released one, which has "
            f"weights alone; start another with --config.init_from={workdir}"
        )
    if path.exists():
        old = bridge.from_values(TrainConfig, files.read_json(path, "run config"))
        changed = [
            name for name in bridge.differences(old, config) if not _RESUMABLE.fullmatch(name)
        ]
        if changed:
            name = changed[0]
            raise InputError(
                f"workdir {workdir} holds a run with another config: {name} is "
                f"{_lookup(old, name)!r} there and {_lookup(config, name)!r} here"
                + (f" ({len(changed) - 1} more fields differ)" if len(changed) > 1 else "")
                + "; choose another --workdir or delete that one"
            )
    elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(
            f"workdir {workdir} must be empty or hold a run of mimir_jax, found other files; "
            "choose another --workdir"
        )


def claim_workdir(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Writes the config of a new work directory, or checks that of an old one.

    Process 0 does; the others check that they see the same folder.

    Raises:
        ValueError: if `workdir` holds a run of another config, or processes see different folders.
    """
    if distributed.is_first():
        _claim(workdir, config)
    distributed.gather(None)
    path = workdir / runs.CONFIG_FILE
    everywhere = distributed.gather(path.is_file() and path.read_text() == bridge.to_json(config))
    if not all(everywhere):
        raise InputError(
            f"workdir {workdir} must be on storage that all processes share, process "
            f"{everywhere.index(False)} sees another folder; choose another --workdir"
        )


def _claim(workdir: pathlib.Path, config: TrainConfig) -> None:
    require_claimable(workdir, config)
    path = workdir / runs.CONFIG_FILE
    with files.writing(workdir, "workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(path, bridge.to_json(config))
    logging.info("config written to %s", path)


def _lookup(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config
