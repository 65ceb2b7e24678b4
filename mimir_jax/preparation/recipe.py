# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the stages of a recipe one after the other, each as a process of its own."""

import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from mimir_jax import files
from mimir_jax.errors import InputError
from mimir_jax.systems.recipes import Stage

DONE = "recipe.json"
"""File of the finished stages: the command of each, and its seconds."""

Spawn = Callable[[Sequence[str], float], int]


def run(
    stages: Sequence[Stage],
    out: pathlib.Path,
    *,
    scale: float = 1.0,
    minutes: float | None = None,
    tell: Callable[[str], None] = print,
    spawn: Spawn | None = None,
) -> list[str]:
    """Runs what is not finished, and returns the names of the stages that are left.

    A stage that is stopped by the end of `minutes` has saved what it could; the same call goes on.

    Args:
        stages: The recipe.
        out: Folder of the recipe; new, or one that the same recipe has begun.
        scale: Factor of the counts of steps and scenes.
        minutes: Time after which the running stage is told to stop; None for no limit.
        tell: Takes a line on each stage.
        spawn: Runs a command for at most some seconds and returns its exit code.

    Raises:
        InputError: if `out` was begun with other commands, or a stage fails.
    """
    commands = {stage.name: stage.words(str(out), scale) for stage in stages}
    done = _read(out, commands)
    deadline = time.monotonic() + (float("inf") if minutes is None else 60 * minutes)
    for number, (name, words) in enumerate(commands.items(), 1):
        if name in done:
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            break
        tell(f"stage {number} of {len(commands)}: mimir-jax {shlex.join(words)}")
        begun = time.monotonic()
        if _is_missing(words[0], out / name):
            code = (spawn or _spawn)(words, left)
            if time.monotonic() >= deadline:
                break
            if code:
                raise InputError(
                    f"stage {name} must end well, it ended with exit code {code}; see above, then "
                    "repeat the command"
                )
        done[name] = {"command": words, "seconds": round(time.monotonic() - begun, 1)}
        out.mkdir(parents=True, exist_ok=True)
        files.write_json(out / DONE, done)
    return [name for name in commands if name not in done]


def _read(out: pathlib.Path, commands: dict[str, list[str]]) -> dict[str, dict]:
    path = out / DONE
    if not path.exists():
        return {}
    done = files.read_json(path, "recipe")
    for name, entry in done.items():
        if commands.get(name) != entry["command"]:
            raise InputError(
                f"{out} must hold the same recipe, its stage {name} was made by mimir-jax "
                f"{shlex.join(entry['command'])}; use another folder"
            )
    return done


def _is_missing(verb: str, folder: pathlib.Path) -> bool:
    """Whether a stage must run; an export appears whole, other verbs complete what is there."""
    return verb != "convert" or not folder.exists()


def _spawn(words: Sequence[str], seconds: float) -> int:
    process = subprocess.Popen([sys.executable, "-m", "mimir_jax.cli.main", *words])
    try:
        return process.wait(None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        return process.wait()
    except BaseException:
        process.wait()  # it was interrupted as well, and saves
        raise
