# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The flag `--config NAME[:PRESET]` or `--config FILE[:PRESET]`, and overrides of its fields."""

import importlib.util
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from mimir_jax import files
from mimir_jax.config import registry
from mimir_jax.errors import InputError

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)(=?)")


def split(typed: Sequence[str], *, default: str) -> tuple[str, list[str]]:
    """Takes `--config VALUE` out of the arguments.

    Returns:
        The last value, or `default`, and the other arguments.

    Raises:
        InputError: if the last argument is `--config`.
    """
    name, rest, words = default, [], iter(typed)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag not in ("--config", "-config"):
            rest.append(word)
            continue
        name = value if equals else next(words, "")
        if not name:
            raise InputError("--config must be NAME[:PRESET] or FILE[:PRESET], got none")
    return name, rest


def load(name: str) -> ml_collections.ConfigDict:
    """Returns the run that `NAME[:PRESET]` or `FILE[:PRESET]` names.

    A name with a slash or the ending .py is a file, whose `get_config` takes the preset.

    Raises:
        InputError: if there is no such system, file or preset.
    """
    path, _, preset = name.partition(":")
    if os.sep not in path and not path.endswith(".py"):
        return registry.find_config(name)
    file = files.expand_path(path)
    if not file.is_file():
        raise InputError(
            f"--config must name a file or one of {', '.join(registry.presets())}, found no file "
            f"{path!r}"
        )
    if file.suffix != ".py":
        raise InputError(
            f"--config must name a Python file with get_config(preset), got {path}; name one such "
            "as configs/mimir.py"
        )
    get_config = getattr(_import(file), "get_config", None)
    if get_config is None:
        raise InputError(f"--config {path} must define get_config(preset), found none")
    return get_config(preset) if preset else get_config()


def default_workdir(name: str) -> str:
    """Returns the folder of a run where none is given: `runs/NAME-PRESET`."""
    path, _, preset = name.partition(":")
    stem = pathlib.Path(path).stem
    return f"runs/{stem}-{preset.replace('/', '-')}" if preset else f"runs/{stem}"


def define(values: flags.FlagValues, name: str, typed: Sequence[str]) -> None:
    """Defines the flag `config` with the run `name`, and a flag for each field in `typed`.

    Raises:
        InputError: if there is no such run, or it has no such field.
    """
    config = load(name)
    for field in dict.fromkeys(field for field, _ in overrides(typed)):
        _require_field(config, field)
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=["", *typed], help_string="The run."
    )


def overrides(typed: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the arguments that override fields, each word with the name of its field."""
    field = None  # whose value may be the next word
    for word in typed:
        if match := _OVERRIDE.match(word):
            yield match[1], word
            field = None if match[2] else match[1]
        elif field is not None and not word.startswith("--"):
            yield field, word
            field = None
        else:
            field = None


def _require_field(config: Any, dotted: str) -> None:
    where = "config"
    for part in dotted.split("."):
        if not isinstance(config, ml_collections.ConfigDict):
            raise InputError(f"{where} has no fields, got --config.{dotted}")
        if part not in config:
            raise InputError(f"{where} has no field {part!r}; it has {', '.join(config)}")
        config, where = config[part], f"{where}.{part}"


def _import(file: pathlib.Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"mimir_jax_config_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
