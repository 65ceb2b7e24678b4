# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Work in threads that nothing can stop, such as compilation, and commands that end meanwhile."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, NoReturn

_PREFIX = "background"


def submit(work: Callable[[], Any]) -> futures.Future:
    """Starts `work` in a thread of its own."""
    thread = futures.ThreadPoolExecutor(1, _PREFIX)
    done = thread.submit(work)
    thread.shutdown(wait=False)
    return done


def wait() -> None:
    """Returns when no such thread is left."""
    for thread in _threads():
        thread.join()


def leave(text: str) -> NoReturn:
    """Ends the process with a line on standard error and exit code 1, now.

    Python itself would wait for all threads first. Call it when nothing is left to be written.
    """
    if not _threads():
        sys.exit(text)
    print(text, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(_PREFIX)]
