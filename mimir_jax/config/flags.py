# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Command-line flags of the launch scripts: bad input becomes one line, never a traceback."""

import ctypes
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from mimir_jax.config import bridge
from mimir_jax.config.run import TrainConfig

_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


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
                raise ValueError(f"--config must name FILE[:PRESET], found no file {path!r}")
        return flags.FLAGS(argv)

    def quietly(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:  # --verbosity=0 shows what libraries log
            logging.set_verbosity(logging.WARNING)
        return main(argv)

    app.run(_one_line(quietly), flags_parser=_one_line(parse))


def prepare_host() -> None:
    """Caches compiled programs for the next run and reuses memory in this; call before JAX starts.

    XLA on a CPU takes and frees large buffers all the time, and glibc hands these back to the
    kernel, which zeroes every page again: a fifth of a small model's step. It is told to keep them.
    """
    cache = pathlib.Path.home() / ".cache" / "mimir_jax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):  # glibc alone has it
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
        mallopt(arena_max, 1)
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


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
            sys.exit(f"error: {_explain(error)} (--debug shows where)")

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
    return text.rpartition("ValueError: ")[2] if "Traceback" in text else text
