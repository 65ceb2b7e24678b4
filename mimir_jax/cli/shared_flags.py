# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Flags that several commands share."""

from typing import Any

from absl import flags, logging

_PROCESSES = ("coordinator", "num_processes", "process_id", "join_seconds")
_COMMON = ("verbosity", "debug", "print_config")
_JSON = (str, int, float, list, type(None))


def define_common(values: flags.FlagValues, *, config: bool) -> None:
    """Defines the flags of every command.

    Args:
        values: Receives them.
        config: Whether the command reads the config of a run.
    """
    if config:
        text = "Print the resolved config as JSON; run nothing."
        flags.DEFINE_bool("print_config", False, text, values)
    levels = "-1 logs warnings, 0 also messages of libraries, 1 also debugging."
    flags.DEFINE_integer("verbosity", logging.WARNING, levels, flag_values=values)
    flags.DEFINE_bool("debug", False, "Show the traceback of bad input.", values)


def define_processes(values: flags.FlagValues) -> None:
    """Defines the flags by which several processes find each other."""
    text = "HOST:PORT of process 0; TPU pods, Slurm, Open MPI and Kubernetes set it."
    flags.DEFINE_string("coordinator", None, text, values)
    define_place(values)
    flags.DEFINE_float(
        "join_seconds", 300.0, "Seconds to wait for all processes.", flag_values=values
    )


def define_place(values: flags.FlagValues) -> None:
    """Defines the flags that tell which of several processes this one is."""
    text = "Number of processes; 1 ignores the scheduler."
    flags.DEFINE_integer("num_processes", None, text, lower_bound=1, flag_values=values)
    text = "Index of this process, from 0."
    flags.DEFINE_integer("process_id", None, text, lower_bound=0, flag_values=values)


def processes(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the arguments of `parallel.distributed.Launch` that the flags give."""
    return {name: values[name].value for name in _PROCESSES}


def define_mesh(values: flags.FlagValues) -> None:
    """Defines the flag by which a command splits a model that does not train.

    Its value is for `parallel.mesh.parse_sizes`.
    """
    text = (
        "Mesh over the devices of a process, such as fsdp=2,tensor=4; by default each device holds "
        "the whole model and generates its own videos."
    )
    flags.DEFINE_string("mesh", "", text, values)


def shared(values: flags.FlagValues) -> dict[str, Any]:
    """Returns the flags that all processes must be given alike, as JSON values."""
    return {
        f"--{name}": values[name].value
        for name in values
        if name not in (*_PROCESSES, *_COMMON) and isinstance(values[name].value, _JSON)
    }
