# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Shares of work that processes claim through a folder that all of them see, without a server.

    NAME.0           claim of a share: a file that one process alone can create
    NAME.0.killed    its process was killed while it worked, as the process that started it saw
    NAME.1           claim of the process that took the share over, and so on

A process renews the time of its claim while it works. A claim of this machine ends with its
process. That of another one ends when its time has stood still for `STALE_SECONDS` on the clock of
the process that looks: clocks of machines need not agree.

A process that was suspended may come back after its share was taken over. Two processes then do
the same work; what a share writes must therefore be a function of its inputs, in files that are
complete or absent.
"""

import contextlib
import functools
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from mimir_jax import files

BEAT_SECONDS = 10.0
"""Time between two renewals of a claim."""

STALE_SECONDS = 60.0
"""Time after which a claim that is not renewed counts as ended."""

_KILLED = ".killed"


class Claims:
    """The claims of a folder, as one process sees them.

    Args:
        folder: Holds the claims; must exist when one is made.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._seen: dict[pathlib.Path, tuple[int, float]] = {}  # time of a file, and since when

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[int | None]:
        """Claims a share until the context ends; a share that was done has no claims afterwards.

        Args:
            name: Of the share, a file name.

        Yields:
            How many processes were killed while they worked on it; None if another process does.

        Raises:
            InputError: if the folder cannot be written.
        """
        number = 0
        while (path := self._path(name, number)).exists():
            if not self._has_ended(path):
                yield None
                return
            number += 1
        with files.writing(path, "claim"):
            mine = _create(path)
        if not mine:  # another process was faster
            yield None
            return
        stop = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, stop), name="claim", daemon=True)
        beat.start()
        try:
            yield sum(self._killed(name, k).exists() for k in range(number))
        except BaseException:
            path.unlink(missing_ok=True)  # how earlier processes ended stays known
            raise
        else:
            for k in range(number, -1, -1):
                self._path(name, k).unlink(missing_ok=True)
                self._killed(name, k).unlink(missing_ok=True)
        finally:
            stop.set()

    def blame(self, process: int) -> None:
        """Notes that a process of this machine was killed while it worked on what it had claimed.

        Args:
            process: Its number; it has ended.
        """
        for path in self._folder.glob("*.*"):
            owner, _ = _read(path)
            if owner.get("place") == machine() and owner.get("process") == process:
                with files.writing(path, "claim"):
                    path.with_name(path.name + _KILLED).touch()

    def _has_ended(self, path: pathlib.Path) -> bool:
        """Whether the process of a claim is no more, or the claim itself."""
        owner, changed = _read(path)
        if changed is None:
            return False  # released between two looks; the share is done, or free the next time
        if owner.get("place") == machine():
            return _started(owner.get("process")) != owner.get("started")
        now = time.monotonic()
        known, since = self._seen.get(path, (None, now))
        if changed != known:
            self._seen[path] = (changed, now)
            return False
        return now - since >= STALE_SECONDS

    def _path(self, name: str, number: int) -> pathlib.Path:
        return self._folder / f"{name}.{number}"

    def _killed(self, name: str, number: int) -> pathlib.Path:
        return self._folder / f"{name}.{number}{_KILLED}"


def _create(path: pathlib.Path) -> bool:
    """Creates the claim of this process; returns whether it was not there."""
    try:
        with path.open("x") as file:
            me = os.getpid()
            owner = {"place": machine(), "process": me, "started": _started(me)}
            json.dump({**owner, "host": socket.gethostname()}, file)
    except FileExistsError:
        return False
    return True


def _read(path: pathlib.Path) -> tuple[dict[str, Any], int | None]:
    """Returns who owns a claim and when it was renewed; None for one that is gone."""
    try:
        with path.open() as file:  # network file systems ask their server when a file is opened
            return _parse(file.read()), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return {}, None


def _parse(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # its process has only just created it, or was killed then
        return {}
    return found if isinstance(found, dict) else {}


def _beat(path: pathlib.Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # gone, or a server that will answer again
            os.utime(path)


@functools.cache
def machine() -> str:
    """Returns where numbers of processes mean the same: a boot of a machine, and a container."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _started(process: Any) -> str | None:
    """Returns what tells a running process from an earlier one of its number; None if none runs."""
    stat = pathlib.Path(f"/proc/{process}/stat")
    try:
        if pathlib.Path("/proc/self").exists():
            state, *values = stat.read_text().rpartition(")")[2].split()
            return None if state in "ZX" else values[18]
        os.kill(int(process), 0)
    except (OSError, TypeError, ValueError) as error:
        return "runs" if isinstance(error, PermissionError) else None
    return "runs"
