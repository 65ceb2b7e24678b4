# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Stop requests by signal: every process stops after the same step and saves."""

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

_SAME_SECONDS = 1.0  # `timeout` and some shells send a signal twice: to the process and its group
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class Stop:
    """A wish to stop.

    Attributes:
        requested: `step` to whether to stop before that step. With many processes, all must call it
            at every step; a signal to one of them stops all after the same step.
        seen: Whether this process alone may stop at once, in the middle of waiting for input.
    """

    requested: Callable[[int], bool] = lambda step: False
    seen: Callable[[], bool] = lambda: False


@contextlib.contextmanager
def watch_signals() -> Iterator[Stop]:
    """Catches the first Ctrl-C, SIGTERM or hang-up; a second Ctrl-C interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield Stop()
    elif jax.process_count() > 1:
        # JAX's preemption service catches SIGTERM and makes the processes agree on a step.
        others = tuple(number for number in _SIGNALS if number != signal.SIGTERM)
        with _on(others, lambda: os.kill(os.getpid(), signal.SIGTERM)):
            yield Stop(multihost_utils.reached_preemption_sync_point)
    else:
        stop = threading.Event()
        with _on(_SIGNALS, stop.set):
            yield Stop(lambda step: stop.is_set(), stop.is_set)


@contextlib.contextmanager
def _on(signals: tuple[signal.Signals, ...], act: Callable[[], None]) -> Iterator[None]:
    """Calls `act` at the first of `signals`; restores their handlers for later ones."""
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
