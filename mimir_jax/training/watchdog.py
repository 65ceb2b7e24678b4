# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Names what a run waits for when it makes no progress."""

import sys
import threading
import time
import traceback

from absl import logging

MAIN = "MainThread"
_FRAMES = 4  # innermost ones that a warning shows


class Watchdog:
    """A thread that warns when nothing has happened for a while; it ends nothing."""

    def __init__(self, seconds: float):
        """Starts the thread.

        Args:
            seconds: Time after which to warn, and to warn again; 0 never warns.
        """
        self._seconds = seconds
        self._at: tuple[str, str] | None = None
        self._since = self._told = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if seconds:
            self._thread.start()

    def at(self, what: str | None, thread: str = MAIN) -> None:
        """Notes progress.

        Args:
            what: What the run now waits for; None where any time is fine.
            thread: Prefix of the name of the thread that does it.
        """
        self._at = None if what is None else (what, thread)
        self._since = self._told = time.monotonic()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._seconds:
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(min(self._seconds / 4, 5.0)):
            now, at = time.monotonic(), self._at
            if at is not None and now - self._told > self._seconds:
                self._told = now
                logging.error("%s", _describe(*at, now - self._since))


def _describe(what: str, prefix: str, seconds: float) -> str:
    line = f"nothing has happened for {seconds:.0f} s: waiting for {what}"
    frames = sys._current_frames()
    for thread in threading.enumerate():
        if thread.name.startswith(prefix) and thread.ident in frames:
            stack = traceback.extract_stack(frames[thread.ident])[-_FRAMES:]
            where = " <- ".join(f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(stack))
            line += f"; thread {thread.name} is in {where}"
    return line
