# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: state, data position and config together, and the restore precedence."""

import contextlib
import json
import pathlib
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
from mimir_jax.weights import native

CONFIG_FILE = "config.json"
_REMEDY = "delete that folder to go on from the one before it"

# Fields a resumed run may change: they steer the machine or the reporting, not the mathematics; but
# more `steps` stretch the cosine of the learning rate, which then rises again.
RESUMABLE = (
    "steps", "log_every", "eval_every", "sample_every", "checkpoint_every", "keep_checkpoints",
    "mesh", "optimizer.offload", "data.num_workers", "data.folder.path", "data.tfds.path",
    "resume_from", "init_from",
    *(f"system.{part}.{name}" for part in ("dit", "model.dit")
      for name in ("attention", "remat", "unroll")),
)  # fmt: skip


class Checkpointer:
    """Writes and reads `workdir/checkpoints/<step>` through Orbax.

    A checkpoint is complete or absent: Orbax writes aside and renames. Saving runs in the
    background; `close` waits for it.
    """

    def __init__(self, workdir: pathlib.Path, *, keep: int | None = None):
        self._manager = ocp.CheckpointManager(
            (workdir / "checkpoints").absolute(),
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
        with native.readable(pathlib.Path(self._manager.directory) / str(step), _REMEDY):
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


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether `workdir` holds a run with a complete checkpoint."""
    steps = workdir.glob("checkpoints/*")
    return (workdir / CONFIG_FILE).is_file() and any(path.name.isdigit() for path in steps)


def require_run(workdir: pathlib.Path) -> None:
    """Raises `ValueError` unless `workdir` holds a run with a checkpoint."""
    if not has_checkpoint(workdir):
        raise InputError(f"resume_from must be a work directory with checkpoints, got {workdir}")


def restore_from(
    workdir: pathlib.Path, abstract: state_lib.TrainState
) -> tuple[state_lib.TrainState, dict[str, Any]]:
    """Reads the newest checkpoint of another run."""
    require_run(workdir)
    with contextlib.closing(Checkpointer(workdir)) as checkpointer:
        return checkpointer.restore(abstract)


def latest_step(workdir: pathlib.Path) -> int:
    """Returns the step of the newest checkpoint of a run.

    Raises:
        ValueError: if it has none.
    """
    steps = [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdigit()]
    if not steps:
        raise InputError(f"run {workdir} must have a checkpoint, found none; train it first")
    return max(steps)


def open_params(workdir: pathlib.Path) -> native.Stored:
    """Opens the newest parameters of a run: the average where there is one.

    Raises:
        ValueError: if the run has no checkpoint.
    """
    folder = workdir / "checkpoints" / str(latest_step(workdir))
    return native.open_checkpoint(folder, item="state", parts=("ema", "params"), remedy=_REMEDY)


def require_claimable(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Raises `ValueError` if `workdir` holds a run of another config, or other files."""
    path = workdir / CONFIG_FILE
    if path.exists():
        old = bridge.from_values(TrainConfig, files.read_json(path, "run config"))
        changed = [
            name
            for name in bridge.differences(old, config)
            if not any(name == r or name.startswith(r + ".") for r in RESUMABLE)
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

    Process 0 does, and the others look whether they see the same folder.

    Raises:
        ValueError: if `workdir` holds a run of another config, or processes see different folders.
    """
    if distributed.is_first():
        _claim(workdir, config)
    distributed.gather(None)
    path = workdir / CONFIG_FILE
    everywhere = distributed.gather(path.is_file() and path.read_text() == bridge.to_json(config))
    if not all(everywhere):
        raise InputError(
            f"workdir {workdir} must be on storage that all processes share, process "
            f"{everywhere.index(False)} sees another folder; choose another --workdir"
        )


def _claim(workdir: pathlib.Path, config: TrainConfig) -> None:
    require_claimable(workdir, config)
    path = workdir / CONFIG_FILE
    with files.writing(workdir, "workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
    files.write_text(path, bridge.to_json(config))
    logging.info("config written to %s", path)


def _lookup(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config
