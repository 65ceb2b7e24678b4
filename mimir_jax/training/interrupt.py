# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Stopping a run from outside: every process stops after the same step, so that it can be saved."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

Asked = Callable[[int], bool]
_SAME_SECONDS = 1.0  # `timeout` and some shells signal the process and its group: that is one wish


@contextlib.contextmanager
def watched() -> Iterator[Asked]:
    """Turns the first Ctrl-C or SIGTERM into a question; a second Ctrl-C interrupts as usual.

    Yields:
        `asked(step)`, whether to stop before doing step number `step`. Many processes must ask at
        every step; a signal to one of them stops all after the same one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False
    elif jax.process_count() > 1:
        # JAX's preemption service listens to SIGTERM and has the processes agree on a step.
        with _on((signal.SIGINT,), lambda: os.kill(os.getpid(), signal.SIGTERM)):
            yield multihost_utils.reached_preemption_sync_point
    else:
        stop = threading.Event()
        with _on((signal.SIGINT, signal.SIGTERM), stop.set):
            yield lambda step: stop.is_set()


@contextlib.contextmanager
def _on(signals: tuple[signal.Signals, ...], act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` at the first of `signals`; a later one means again what it meant before."""
    first: list[float] = []

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def on_signal(signum, frame) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            act()
        elif now - first[0] > _SAME_SECONDS:
            restore()
            signal.raise_signal(signum)

    previous = {number: signal.signal(number, on_signal) for number in signals}
    try:
        yield
    finally:
        restore()
