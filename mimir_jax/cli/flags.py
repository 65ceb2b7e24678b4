# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Command-line flags of the launch scripts: bad input becomes one line, never a traceback."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags, logging

from mimir_jax import threads
from mimir_jax.cli.host import prepare_host as prepare_host
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.errors import InputError

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
flags.disclaim_key_flags()  # what `define_...` defines is of the script: in its --help and `shared`
_PROCESSES = ("coordinator", "num_processes", "process_id", "join_seconds")
_JSON = (str, int, float, list, type(None))


def run(main: Callable[[Sequence[str]], None], *, config: str | None = None) -> None:
    """Runs `main` under absl; bad input ends it with one line and exit code 1.

    Args:
        main: Called with the arguments that are not flags.
        config: Value of the flag `--config` where the command line has none.
    """

    def parse(argv: list[str]) -> list[str]:
        if config and not any(
            a in ("--config", "-config") or a.startswith(("--config=", "-config=")) for a in argv
        ):
            argv = [argv[0], f"--config={config}", *argv[1:]]
        for flag, following in zip(argv, [*argv[1:], ""], strict=True):
            name, _, value = flag.partition("=")
            path = (value or following).partition(":")[0]
            if name in ("--config", "-config") and not os.path.isfile(path):
                raise InputError(f"--config must name FILE[:PRESET], found no file {path!r}")
        return flags.FLAGS(argv)

    def quietly(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # --verbosity=0 shows what libraries log
            logging.set_verbosity(logging.WARNING)
        return main(argv)

    app.run(_one_line(quietly), flags_parser=_one_line(parse))


def define_processes() -> Callable[[], dict[str, Any]]:
    """Defines the flags by which several processes find each other; call in a launch script.

    Returns:
        What gives their values, as arguments of `parallel.distributed.Launch`.
    """
    texts = {
        "coordinator": "HOST:PORT of process 0; TPU pods, Slurm, Open MPI and Kubernetes know it.",
        "num_processes": "Number of processes; 1 alone ignores the scheduler.",
        "process_id": "Which of them this is, from 0.",
    }
    flags.DEFINE_string("coordinator", None, texts["coordinator"])
    flags.DEFINE_integer("num_processes", None, texts["num_processes"], lower_bound=1)
    flags.DEFINE_integer("process_id", None, texts["process_id"], lower_bound=0)
    flags.DEFINE_float("join_seconds", 300.0, "How long to wait for all processes.")
    return lambda: {name: flags.FLAGS[name].value for name in _PROCESSES}


def define_mesh() -> Callable[[], str]:
    """Defines the flag by which a script splits a model that does not train.

    Returns:
        What gives its value, for `parallel.mesh.parse_sizes`.
    """
    flags.DEFINE_string(
        "mesh",
        "",
        "How the devices of a process split the model and its videos, such as fsdp=2,tensor=4; "
        "default: each holds the model and makes videos of its own.",
    )
    return lambda: flags.FLAGS.mesh


def shared() -> dict[str, Any]:
    """Returns the flags of the launch script that all processes must be given alike."""
    script = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    return {
        f"--{flag.name}": flag.value
        for flag in script
        if flag.name not in _PROCESSES and isinstance(flag.value, _JSON)
    }


def _one_line(call: Callable) -> Callable:
    def wrapped(argv):
        try:
            return call(argv)
        except (
            ValueError,
            ArithmeticError,
            AttributeError,
            KeyError,
            flags.Error,
            OSError,
        ) as error:
            if "--debug" in sys.argv:
                raise
            threads.leave(f"error: {_explain(error)} (--debug shows where)")
        except RuntimeError as error:  # of JAX, whose own class would import it here
            if "--debug" in sys.argv or "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].splitlines()[0]
            threads.leave(
                f"error: a device must have memory for the run, got: {reason[:200].rstrip('.')}; "
                "see docs/memory.md (--debug shows where)"
            )
        except KeyboardInterrupt:
            if "--debug" in sys.argv:
                raise
            threads.leave("stopped; the same command starts again")

    return wrapped


def _explain(error: Exception) -> str:
    """Returns one line for an error; a config field that does not exist is named."""
    for argument in sys.argv if isinstance(error, (AttributeError, KeyError)) else ():
        if match := re.match(r"--?config\.([\w.]+)", argument):
            names = bridge.missing_field(TrainConfig, match[1])
            if names is not None:
                return f"config has no field {match[1]!r}; there are {', '.join(names)}"
    text = " ".join(str(error).split())
    # ml_collections reports an error of the config file with its traceback inside.
    return text.rpartition("Error: ")[2] if "Traceback" in text else text
