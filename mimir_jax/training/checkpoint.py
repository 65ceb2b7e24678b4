# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: state, data position and config together, and the restore precedence."""

import contextlib
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from mimir_jax import files
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError
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
        """Saves under the step number of `state`; a step already saved is left alone."""
        step = int(jax.device_get(state.step))
        if step == self.latest_step:
            return
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave(data),
            config=ocp.args.JsonSave(json.loads(bridge.to_json(config))),
        )
        with self._writing():
            self._manager.save(step, args=args)

    def restore(
        self, abstract: state_lib.TrainState
    ) -> tuple[state_lib.TrainState, dict[str, Any]]:
        """Reads the newest checkpoint onto the shardings of `abstract`.

        Raises:
            ValueError: if it is damaged, or of a model of another shape.
        """
        step = self.latest_step
        args = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), data=ocp.args.JsonRestore()
        )
        with native.readable(
            pathlib.Path(self._manager.directory) / str(step), runs.DAMAGED_REMEDY
        ):
            restored = self._manager.restore(step, args=args)
        return restored["state"], restored["data"]

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
