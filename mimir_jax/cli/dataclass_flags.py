# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""One flag per field of a settings dataclass: name, type, default and help come from it."""

import dataclasses
import types
import typing
from collections.abc import Collection
from typing import Any, TypeVar

from absl import flags

from mimir_jax.cli import help_text
from mimir_jax.config import checks
from mimir_jax.errors import InputError

T = TypeVar("T")


def define(
    values: flags.FlagValues, cls: type, *, skip: Collection[str] = (), prefix: str = ""
) -> None:
    """Defines a flag for each field of a dataclass.

    Fields are bool, int, float, str, `Literal`, a tuple of texts or numbers, one of them or None,
    or a dataclass of such fields.

    Args:
        values: Receives the flags.
        cls: The dataclass; the section `Attributes` of its docstring is the help.
        skip: Names of fields without a flag.
        prefix: Put before the name of a field, as those of the dataclasses around it are.
    """
    texts, hints = help_text.attribute_texts(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in skip:
            continue
        hint, text = _without_none(hints[field.name]), texts[field.name]
        name = prefix + field.name
        if dataclasses.is_dataclass(hint):
            define(values, hint, prefix=f"{name}.")
        elif typing.get_origin(hint) is typing.Literal:
            flags.DEFINE_enum(name, field.default, typing.get_args(hint), text, values)
        elif typing.get_origin(hint) is tuple:
            default = None if field.default is None else list(map(str, field.default))
            flags.DEFINE_list(name, default, text, values)
        else:
            _DEFINE[hint](name, field.default, text, flag_values=values)


def read(values: flags.FlagValues, cls: type[T], *, prefix: str = "", **others: Any) -> T:
    """Returns the dataclass that the flags describe.

    Args:
        values: Parsed flags, of `define`.
        cls: The dataclass.
        prefix: As of `define`.
        **others: Values of the fields without a flag.

    Raises:
        InputError: as the dataclass, for values that it refuses.
    """
    hints = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        name, hint = prefix + field.name, _without_none(hints[field.name])
        if dataclasses.is_dataclass(hint):
            given[field.name] = read(values, hint, prefix=f"{name}.")
        elif field.name not in others and name in values:
            value = values[name].value
            listed = isinstance(value, list)
            given[field.name] = _items(name, value, hint) if listed else value
    try:
        return cls(**given, **others)
    except checks.FieldError as error:
        if not prefix.startswith("config."):
            raise InputError(f"--{error.mounted(checks.Mount())}; change it") from None
        path = prefix.removeprefix("config.").rstrip(".")
        raise error.mounted(checks.Mount(path, flags=True)) from None


_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def _items(name: str, values: list[str], hint: Any) -> tuple[Any, ...]:
    """Returns the values of a list flag, of the type that the tuple holds."""
    kind = typing.get_args(hint)[0]
    if kind is str:
        return tuple(values)
    try:
        return tuple(kind(value) for value in values)
    except ValueError:
        raise InputError(
            f"--{name} must be numbers with commas between them, got {','.join(values)[:60]}; "
            "correct it"
        ) from None


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))
