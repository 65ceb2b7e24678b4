# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of many processes: start-up, messages outside programs, and a common end.

    with distributed.session(launch, facts):   # all processes, running the same
        ...                                    # collectives; process 0 writes and prints

An error on one process ends all of them, each with one line: the others may be waiting inside a
collective for the failed one.
"""

import atexit
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

import mimir_jax
from mimir_jax import hashing
from mimir_jax.errors import InputError, require
from mimir_jax.parallel import jax_internals, rendezvous

T = TypeVar("T")

_FAILED = (
    "mimir_jax/failed"  # key-value folder: a line from a failed process, "" from one that read it
)
_LEFT = "mimir_jax/left"  # key-value folder: processes about to exit
_POLL_SECONDS = 1.0
_FAREWELL_SECONDS = 15.0
_DAY = 24 * 3600
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Launch:
    """How the processes of a run find each other.

    Attributes:
        coordinator: HOST:PORT of process 0; None asks the scheduler, as do the next two.
        num_processes: Number of processes; 1 with no other field asks no scheduler.
        process_id: Which one this is, from 0.
        join_seconds: How long to wait for all of them.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    join_seconds: float = 300.0

    def __post_init__(self):
        given = {
            "--coordinator": self.coordinator,
            "--num_processes": self.num_processes,
            "--process_id": self.process_id,
        }
        require(
            self.join_seconds > 0, f"--join_seconds must be positive, got {self.join_seconds:g}"
        )
        if self.alone or set(given.values()) == {None}:
            return
        missing = [name for name, value in given.items() if value is None]
        require(
            not missing,
            f"{', '.join(given)} must be given together, got no {' and no '.join(missing)}; give "
            "all, or none where the scheduler knows",
        )
        rendezvous.split_address(self.coordinator)
        require(
            0 <= self.process_id < self.num_processes,
            f"--process_id must be from 0 to --num_processes - 1, got {self.process_id} of "
            f"{self.num_processes}",
        )

    @property
    def alone(self) -> bool:
        """Whether the flags exclude other processes, so that no scheduler is asked."""
        return self.num_processes == 1 and self.coordinator is None and self.process_id in (None, 0)


@contextlib.contextmanager
def session(launch: Launch, facts: Mapping[str, Any]) -> Iterator[None]:
    """Starts `jax.distributed` if there are several processes, and ends all of them together.

    Args:
        launch: Where the others are.
        facts: What must be the same on every process, as nested JSON values; the versions of
            this package and of JAX and a hash of every source file are added.

    Raises:
        ValueError: on every process, if one is missing or would run something else.
    """
    address = find_coordinator(launch)
    if address is None:
        yield
        return
    coordinator, count, index = address
    rendezvous.handshake(
        coordinator, count, index, {**_versions(), **facts}, seconds=launch.join_seconds
    )
    jax.distributed.initialize(
        coordinator,
        count,
        index,
        initialization_timeout=max(1, round(launch.join_seconds)),
        shutdown_timeout_seconds=_DAY,  # others may still write when this one is done
    )
    if index and logging.get_verbosity() == logging.WARNING:
        logging.set_verbosity(logging.ERROR)
    end = _End(index, count)
    try:
        yield
    except BaseException as error:
        end.stop_watching()
        if not (isinstance(error, SystemExit) and not error.code):
            end.fail(f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise
    end.stop_watching()
    jax.distributed.shutdown()


def place(index: int | None = None, count: int | None = None) -> tuple[int, int]:
    """Returns index and number of processes that work on their own and meet nowhere.

    Args:
        index: Which of them this is, from 0; None asks the scheduler.
        count: How many there are; 1 asks no scheduler.

    Raises:
        InputError: for one without the other, or an index beyond the number.
    """
    if count == 1 and index is None:
        return 0, 1
    if index is None and count is None:
        unused = "127.0.0.1:1"  # nobody connects; some schedulers would wait for process 0
        _, count, index = _detect(0, unused)
        return (0, 1) if index is None or count is None else (index, count)
    require(
        index is not None and count is not None and 0 <= index < count,
        f"--process_id must be from 0 to --num_processes - 1, got {index} of {count}; give both, "
        "or none where the scheduler knows",
    )
    return index, count


def is_first() -> bool:
    """Whether this process writes and prints."""
    return jax.process_index() == 0


def from_first(value: Callable[[], T]) -> T:
    """Returns on every process what `value` returns on process 0, a JSON value."""
    if jax.process_count() == 1:
        return value()
    client, key = jax_internals.key_value_client(), f"mimir_jax/first/{next(_numbers)}"
    if is_first():
        client.key_value_set(key, json.dumps(value()))
    return json.loads(client.blocking_key_value_get(key, 1000 * _DAY))


def gather(value: T) -> list[T]:
    """Returns the JSON values of all processes in order, once all have called it."""
    if jax.process_count() == 1:
        return [value]
    client, folder = jax_internals.key_value_client(), f"mimir_jax/gather/{next(_numbers)}"
    client.key_value_set(f"{folder}/{jax.process_index()}", json.dumps(value))
    processes = range(jax.process_count())
    keys = [f"{folder}/{index}" for index in processes]
    return [json.loads(client.blocking_key_value_get(key, 1000 * _DAY)) for key in keys]


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """Returns the whole of a global array, on every process; all must call it."""
    if isinstance(array, np.ndarray) or array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return multihost_utils.process_allgather(array, tiled=True)


def split_rows(count: int) -> list[int]:
    """Returns which of `count` rows this process makes: as many as any other, the last repeated."""
    each = -(-count // jax.process_count())
    first = jax.process_index() * each
    return [min(row, count - 1) for row in range(first, first + each)]


def join_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Returns, on every process, all `count` rows from what each made of its `split_rows`."""
    return multihost_utils.process_allgather(rows, tiled=True)[:count]


def find_coordinator(launch: Launch) -> tuple[str, int, int] | None:
    """Returns coordinator, number of processes and own index; None for a single process.

    Raises:
        InputError: if the scheduler does not tell where process 0 is.
    """
    if launch.coordinator is not None:
        return launch.coordinator, launch.num_processes, launch.process_id
    if launch.alone:
        return None
    coordinator, count, index = _detect(round(launch.join_seconds))
    return None if count in (None, 1) else (coordinator, count, index)


def _detect(seconds: int, address: str | None = None) -> tuple[str | None, int | None, int | None]:
    """Returns what `jax_internals.detect_cluster` does."""
    try:
        return jax_internals.detect_cluster(seconds, address)
    except RuntimeError as error:
        raise InputError(
            f"the scheduler must tell where process 0 is: {error}; or give --coordinator, "
            "--num_processes and --process_id"
        ) from None


def _versions() -> dict[str, Any]:
    root = pathlib.Path(mimir_jax.__file__).parent
    code = {
        str(file.relative_to(root)): hashing.sha256_file(file)[:12]
        for file in sorted(root.rglob("*.py"))
    }
    return {"mimir_jax": mimir_jax.__version__, "jax": jax.__version__, "code": code}


class _End:
    """The common end: a thread that ends this process, with a line, once another has failed."""

    def __init__(self, index: int, count: int):
        self._index, self._count = index, count
        self._client = jax_internals.key_value_client()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop_watching(self) -> None:
        """Returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()

    def fail(self, line: str) -> None:
        """Tells the others and waits until they know; skips JAX's own wait at exit."""
        self._client.key_value_set(f"{_FAILED}/{self._index}", line)
        self._wait(_FAILED)
        atexit.register(self._leave)

    def _watch(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            entries = self._client.key_value_dir_get(_FAILED)
            lines = {name.rpartition("/")[2]: line for name, line in entries if line}
            if lines:
                process, line = min(lines.items())
                print(f"error: stopped, as process {process} failed: {line}", file=sys.stderr)
                self.fail("")
                self._leave()

    def _leave(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._client.key_value_set(f"{_LEFT}/{self._index}", "")
        if self._index == 0:  # JAX aborts processes that outlive process 0
            self._wait(_LEFT)
        os._exit(1)

    def _wait(self, folder: str) -> None:
        """Waits for an entry of every process, up to a deadline."""
        deadline = time.monotonic() + _FAREWELL_SECONDS
        while time.monotonic() < deadline:
            complete = len(self._client.key_value_dir_get(folder)) == self._count
            time.sleep(_POLL_SECONDS / 10)
            if complete:
                return
