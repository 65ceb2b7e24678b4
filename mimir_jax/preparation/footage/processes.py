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
from mimir_jax.preparation.footage import runner
from mimir_jax.preparation.footage.config import FootageConfig

_FRUITLESS = 12
"""Processes that may be killed one after another without a video finished between them."""


def run(
    root: pathlib.Path,
    out: pathlib.Path,
    config: FootageConfig,
    workers: int,
    report: runner.Report,
) -> None:
    """Works with several processes until nothing is left.

    Raises:
        InputError: with which a process ended.
    """
    context = multiprocessing.get_context("spawn")  # JAX and OpenCV have threads
    running: dict[Any, Any] = {}

    def start(number: int) -> None:
        here, there = context.Pipe(duplex=False)
        arguments = (root, out, config, number, there)
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
                    if process.exitcode < 0:  # killed; what it had claimed is free again
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
    root: pathlib.Path, out: pathlib.Path, config: FootageConfig, number: int, pipe: Any
) -> None:
    """Works in a process of its own."""

    def limit() -> None:
        clip_worker.limit_process(config.output.seconds, config.output.gigabytes)

    def send(kind: str, value: str) -> None:
        pipe.send((kind, value))

    try:
        runner.Preparation(root, out, config).work(send, limit, offset=number * 7919)
    except InputError as error:
        send("error", str(error))
    except KeyboardInterrupt:
        pass
