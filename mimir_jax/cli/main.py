# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The console command `mimir-jax VERB ...`; `launch/VERB.py` runs the same code."""

import io
import os
import pathlib
import sys
from collections.abc import Sequence

import mimir_jax
from mimir_jax import libraries, threads
from mimir_jax.cli import command

VERBS = (
    "train", "sample", "evaluate", "ablate", "prepare", "precompute", "convert", "compile", "study",
    "recipe", "tokenizer", "index", "cutouts",
)  # fmt: skip
_WITH_PLUGINS = ("prepare", "cutouts")  # which may use PyTorch


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb that the first argument names; without one, lists the verbs."""
    verb, *typed = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(overview())
    elif verb == "--version":
        print(f"mimir-jax {mimir_jax.__version__}")
    elif verb in VERBS:
        if argv is None and verb not in _WITH_PLUGINS:
            libraries.leave_out_torch()
        _run(command.Program(verb), typed)
    else:
        threads.leave(f"error: the command must be one of {', '.join(VERBS)}, got {verb!r}")


def script(*, config: str = "mimir") -> None:
    """Runs the verb that the running script is named after.

    Args:
        config: Default of `--config`.
    """
    path = pathlib.Path(sys.argv[0])
    if path.stem not in _WITH_PLUGINS:
        libraries.leave_out_torch()
    _run(command.Program(path.stem, path), sys.argv[1:], config=config)


def overview() -> str:
    """Returns the list of verbs with a line on each."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:{width}}  {summary(verb)}" for verb in VERBS]
    head, tail = "usage: mimir-jax VERB [flags]\n", "\nmimir-jax VERB --help lists its flags."
    return "\n".join([head, *lines, tail])


def summary(verb: str) -> str:
    """Returns the first sentence of a verb's help."""
    return " ".join(command.find_module(verb).__doc__.partition("\n\n")[0].split())


def _run(program: command.Program, typed: Sequence[str], *, config: str = "mimir") -> None:
    open_streams()
    if sys.flags.optimize > 1:
        threads.leave(
            "error: Python must keep docstrings, of which flags and help are made, got -OO or "
            f"PYTHONOPTIMIZE={sys.flags.optimize}; use -O at most"
        )
    try:
        os.getcwd()
    except OSError:
        threads.leave("error: the current folder must exist, it was removed; change to another")
    try:
        command.run(program, typed, config=config)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def open_streams() -> None:
    """Lets captions be printed in any locale, and nothing where a stream is closed.

    A file would take the descriptor of a closed stream, and what libraries print would go into it.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
