# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Background threads that cannot be interrupted, such as compilation, and exits that skip them."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn

_PREFIX = "background"
_abandoned = threading.Event()


def submit(work: Callable[[], Any]) -> futures.Future:
    """Starts `work` in a thread of its own."""
    executor = futures.ThreadPoolExecutor(1, _PREFIX)
    future = executor.submit(work)
    executor.shutdown(wait=False)
    return future


def wait() -> None:
    """Waits until every background thread has ended, and forgets those that were abandoned."""
    for thread in _threads():
        thread.join()
    _abandoned.clear()


def abandon() -> None:
    """Makes `leave` wait for no thread at all: some of a library may never end."""
    _abandoned.set()


def leave(text: str) -> NoReturn:
    """Prints a line to standard error and ends the process with exit code 1, at once.

    Python would wait for the background threads first. Call it only when no file is left to write.
    """
    if not _threads() and not _abandoned.is_set():
        sys.exit(text)
    print(text, file=sys.stderr)
    _exit(1)


def end(code: int) -> NoReturn:
    """Ends the process with an exit code; waits for threads unless they were abandoned."""
    if not _abandoned.is_set():
        sys.exit(code)
    _exit(code)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(_PREFIX)]
