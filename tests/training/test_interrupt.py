# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Signals and what they ask of a run."""

import signal

import pytest

from mimir_jax.training import interrupt


@pytest.fixture(autouse=True)
def handler():
    """Python's own handler, which a process that was started in the background lacks."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_at_once_are_one_wish(number):
    with interrupt.watch_signals() as stop:
        assert not stop.requested(1) and not stop.seen()
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert stop.requested(2) and stop.seen()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_later_interrupt_ends_at_once(monkeypatch):
    monkeypatch.setattr(interrupt, "_SAME_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt), interrupt.watch_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested(1)
        signal.raise_signal(signal.SIGINT)
