# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The work directory of a run: who may write to it, with which config, and what happened in it.

WORKDIR/config.json     the config of the newest start
WORKDIR/history.jsonl   a line per start, with the fields it changed, per divergence, and per config
                        that was written, with its checksum
WORKDIR/lock.json       the process that writes, see `lock`
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import time
from collections.abc import Iterator
from typing import Any

from absl import logging

from mimir_jax import checksums, files, lock
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError
from mimir_jax.parallel import distributed
from mimir_jax.weights import runs

HISTORY = runs.HISTORY
_PROBE_BYTES = 1 << 20

# Fields that a resumed run may change. Some affect the machine or the reporting alone, the others
# what a diverging run is told to change. More `steps` stretch the cosine of the learning rate,
# which then rises again.
_RESUMABLE = re.compile(
    r"steps|(log|eval|sample|checkpoint|keep)_every|checkpoint_minutes|keep_(checkpoints|best)"
    r"|hang_seconds|resume_from|(system\.lora\.)?init_from|divergence\..*"
    r"|mesh\..*|data\.num_workers|data\.\w+\.path"
    r"|optimizer\.(offload|learning_rate|schedule|warmup_steps|end_fraction|clip_norm)"
    r"|system\.(.*\.)?dit\.(attention|remat|unroll)"
)


def require_same_run(workdir: pathlib.Path, config: TrainConfig) -> None:
    """Raises `ValueError` if `workdir` holds a run of another config, or other files."""
    path = workdir / runs.CONFIG_FILE
    if runs.is_released(workdir):
        raise InputError(
            f"workdir {workdir} must hold a run that can go on, got a released one, which has "
            f"weights alone; start another with --config.init_from={workdir}"
        )
    if path.exists():
        old = runs.read_config(workdir)
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
    elif workdir.exists() and (not workdir.is_dir() or _is_foreign(workdir)):
        raise InputError(
            f"workdir {workdir} must be empty or hold a run of mimir_jax, found other files; "
            "choose another --workdir"
        )


def require_writable(workdir: pathlib.Path) -> None:
    """Raises `InputError` if another process writes to `workdir`, or the system refuses to.

    A megabyte is written there, or where it will be made, flushed to the disk, renamed and removed:
    what a checkpoint needs.
    """
    lock.require_free(workdir)
    place = workdir.absolute()
    while not place.exists():
        place = place.parent
    with files.writing(workdir, "workdir"):
        path = place / f".probe-{secrets.token_hex(4)}"
        try:
            with path.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path = path.rename(path.with_suffix(".renamed"))
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def claimed(workdir: pathlib.Path, config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Holds a work directory, new or of the same run, and writes the config there.

    Process 0 does; the others check that they see the same folder.

    Yields:
        The fields that changed since the last start, each with both values.

    Raises:
        ValueError: if `workdir` holds a run of another config, another process writes there, or
            processes see different folders.
    """
    with contextlib.ExitStack() as stack:
        changed: dict[str, Any] = {}
        if distributed.is_first():
            require_same_run(workdir, config)
            require_writable(workdir)
            with files.writing(workdir, "workdir"):
                workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.hold(workdir))
            changed = _write_config(workdir, config)
        distributed.gather(None)
        path = workdir / runs.CONFIG_FILE
        own = path.is_file() and path.read_text() == bridge.to_json(config)
        everywhere = distributed.gather(own)
        if not all(everywhere):
            raise InputError(
                f"workdir {workdir} must be on storage that all processes share, process "
                f"{everywhere.index(False)} sees another folder; choose another --workdir"
            )
        yield changed


def record(workdir: pathlib.Path, event: str, step: int | None, **facts: Any) -> None:
    """Adds a line to the history of a run, on process 0."""
    if not distributed.is_first():
        return
    path = workdir / HISTORY
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    line = json.dumps({"time": now, "event": event, "step": step, **facts})
    torn = path.exists() and path.read_bytes()[-1:] not in (b"\n", b"")
    with files.writing(path, "history"), path.open("a") as file:
        file.write("\n" * torn + line + "\n")


def _write_config(workdir: pathlib.Path, config: TrainConfig) -> dict[str, Any]:
    """Writes the config and returns the fields that changed."""
    path = workdir / runs.CONFIG_FILE
    changed = {}
    if path.exists():
        old = runs.read_config(workdir)
        for name in bridge.differences(old, config):
            changed[name] = [_lookup(old, name), _lookup(config, name)]
    text = bridge.to_json(config)
    total = checksums.of_json(json.loads(text))
    if total not in runs.config_sums(workdir):
        record(workdir, "config", None, sum=total)  # first: a crash between leaves the old one good
    files.write_text(path, text)
    logging.info("config written to %s", path)
    return changed


def _is_foreign(workdir: pathlib.Path) -> bool:
    return any(path.name not in (lock.FILE, runs.HISTORY) for path in workdir.iterdir())


def _lookup(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config
