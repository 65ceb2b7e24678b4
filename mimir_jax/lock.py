# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One writer per folder: a lock that a dead process does not hold.

The kernel gives an advisory lock on `FOLDER/lock.json` back when its process ends, however it
ends. The file names the host and the process, and a thread renews its time: on storage that
carries no locks between hosts, a file of another host counts as held while it is fresh.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from mimir_jax import files
from mimir_jax.errors import InputError

FILE = "lock.json"
_BEAT_SECONDS = 10.0
_STALE_SECONDS = 60.0


@contextlib.contextmanager
def hold(folder: pathlib.Path, subject: str = "workdir") -> Iterator[None]:
    """Holds the lock of an existing folder.

    Args:
        folder: The folder.
        subject: What it is, for the message.

    Raises:
        InputError: if another process holds it, naming the process.
    """
    path = folder / FILE
    with files.writing(path, "lock"):
        file = path.open("a+")
    with file:
        _lock(file, path, subject)
        with files.writing(path, "lock"):
            _write(file)
        stop = threading.Event()
        thread = threading.Thread(target=_beat, args=(file, stop), name="lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            path.unlink(missing_ok=True)


def require_free(workdir: pathlib.Path) -> None:
    """Raises `InputError` if another process holds the lock; takes nothing."""
    path = workdir / FILE
    if path.exists():
        with contextlib.suppress(FileNotFoundError, PermissionError), path.open() as file:
            _lock(file, path, "workdir")


def owner() -> bytes:
    """Returns what this process writes into a lock."""
    facts = {"host": socket.gethostname(), "pid": os.getpid(), "beat": time.time()}
    return json.dumps(facts).encode()


def require_ended(content: bytes | None, place: str) -> None:
    """Raises `InputError` if the lock of a work directory in remote storage is held.

    That of this host counts while its process lives, that of another while its heartbeat is fresh.

    Args:
        content: Of the lock, None without one.
        place: Where it is, for the message.
    """
    found = _parse(content or b"")
    if not found:
        return
    if found.get("host") == socket.gethostname():
        held = found.get("pid") != os.getpid() and _is_alive(found.get("pid"))
    else:
        beat = found.get("beat", 0)
        held = isinstance(beat, int | float) and time.time() - beat < _STALE_SECONDS
    if held:
        raise _held("workdir", place, found)


def _is_alive(process: Any) -> bool:
    try:
        os.kill(int(process), 0)
    except (OSError, TypeError, ValueError, OverflowError) as error:
        return isinstance(error, PermissionError)  # which says that it is another user's
    return True


def _lock(file: IO[str], path: pathlib.Path, subject: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _held(subject, path.parent, _read(file)) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        # Its holder has just ended, and another process may begin.
        raise _held(subject, path.parent, {})
    found = _read(file)
    age = time.time() - found.get("beat", 0)
    if found.get("host", socket.gethostname()) != socket.gethostname() and age < _STALE_SECONDS:
        raise _held(subject, path.parent, found)


def _held(subject: str, place: pathlib.Path | str, found: dict[str, Any]) -> InputError:
    who = f"process {found.get('pid', '?')} on {found.get('host', 'this host')}"
    return InputError(
        f"{subject} {place} must have one writer, {who} is writing there; wait for it, stop it "
        f"or choose another {subject}"
    )


def _read(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    return _parse(file.read().encode())


def _parse(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:  # torn by a crash
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: IO[str]) -> None:
    file.seek(0)
    file.truncate(0)
    file.write(owner().decode())
    file.flush()


def _beat(file: IO[str], stop: threading.Event) -> None:
    while not stop.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a full disk; the kernel's lock still holds
            _write(file)
