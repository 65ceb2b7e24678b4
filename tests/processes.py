# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Two real processes on this machine, two fake devices each, over gloo."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


class Pair:
    """Both processes; killed at the end of the block.

    Args:
        command: `(address of process 0, index)` to the arguments of Python.
        folder: Where they run.
        environment: Variables of theirs.
    """

    def __init__(self, command, folder, **environment):
        with socket.create_server(("", 0)) as server:
            address = f"127.0.0.1:{server.getsockname()[1]}"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
            **environment,
        }
        self.all = [
            subprocess.Popen(
                [sys.executable, *command(address, index)],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in (0, 1)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.all:
            process.kill()
            process.communicate()

    def wait(self, seconds=1800):
        """Returns exit code, stdout and stderr of each."""
        outputs = [process.communicate(timeout=seconds) for process in self.all]
        return [(p.returncode, *o) for p, o in zip(self.all, outputs, strict=True)]
