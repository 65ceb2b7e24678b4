# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes of one command, replaced when one is killed."""

import multiprocessing
import pathlib
import signal
from multiprocessing import connection
from typing import Any

from mimir_jax.data import clip_worker
from mimir_jax.errors import InputError
from mimir_jax.preparation.footage import runner, store
from mimir_jax.preparation.footage.config import FootageConfig

_FRUITLESS = 12
"""Processes that may be killed one after another without a video finished between them."""


def run(
    root: pathlib.Path,
    out: pathlib.Path,
    config: FootageConfig,
    workers: int,
    report: runner.Report,
    place: tuple[int, int] = (0, 1),
    share: runner.Share | None = None,
) -> None:
    """Works with several processes until nothing is left.

    Args:
        root: Folder of raw videos.
        out: Folder of prepared clips.
        config: The preparation.
        workers: Processes.
        report: Called with a step and a video that a process has finished.
        place: Index and number of the commands that share the work.
        share: What to do; by default everything.

    Raises:
        InputError: with which a process ended.
    """
    context = multiprocessing.get_context("spawn")  # JAX and OpenCV have threads
    running: dict[Any, Any] = {}

    def start(number: int) -> None:
        here, there = context.Pipe(duplex=False)
        begin = (place[0] + number / workers) / place[1]
        arguments = (root, out, config, begin, share, there)
        process = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        there.close()
        running[here] = (process, number)

    try:
        for number in range(workers):
            start(number)
        fruitless = 0
        while running:
            for pipe in connection.wait(list(running)):
                process, number = running[pipe]
                try:
                    kind, value = pipe.recv()
                except EOFError:
                    process.join()
                    del running[pipe]
                    if process.exitcode > 0:
                        raise RuntimeError("a process of the preparation has failed") from None
                    if process.exitcode < 0:  # killed, perhaps by the video that it worked on
                        store.Store(out).claims.blame(process.pid)
                        fruitless += 1
                        _require_fruit(fruitless, signal.Signals(-process.exitcode).name)
                        start(number)
                    continue
                if kind == "error":
                    raise InputError(value)
                fruitless = 0
                report(kind, value)
    finally:
        for process, _ in running.values():
            process.kill()


def _require_fruit(killed: int, name: str) -> None:
    if killed > _FRUITLESS:
        raise InputError(
            f"a process must finish a video before it ends, {killed} were killed by {name}; give "
            "them memory, or start fewer with --workers"
        )


def _work(
    root: pathlib.Path,
    out: pathlib.Path,
    config: FootageConfig,
    begin: float,
    share: runner.Share | None,
    pipe: Any,
) -> None:
    """Works in a process of its own."""

    def limit() -> None:
        clip_worker.limit_process(config.output.seconds, config.output.gigabytes)

    def send(kind: str, value: str) -> None:
        pipe.send((kind, value))

    try:
        runner.Preparation(root, out, config).work(send, limit, begin, share)
    except InputError as error:
        send("error", str(error))
    except (KeyboardInterrupt, BrokenPipeError):  # the command was stopped, or killed
        pass
