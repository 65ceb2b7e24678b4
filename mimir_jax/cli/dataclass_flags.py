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

T = TypeVar("T")


def define(values: flags.FlagValues, cls: type, *, skip: Collection[str] = ()) -> None:
    """Defines a flag for each field of a dataclass.

    Fields are bool, int, float, str, `Literal`, a tuple of texts, or one of them or None.

    Args:
        values: Receives the flags.
        cls: The dataclass; the section `Attributes` of its docstring is the help.
        skip: Names of fields without a flag.
    """
    texts, hints = help_text.attribute_texts(cls), typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if field.name in skip:
            continue
        hint, text = _without_none(hints[field.name]), texts[field.name]
        if typing.get_origin(hint) is typing.Literal:
            flags.DEFINE_enum(field.name, field.default, typing.get_args(hint), text, values)
        elif typing.get_origin(hint) is tuple:
            default = None if field.default is None else list(field.default)
            flags.DEFINE_list(field.name, default, text, values)
        else:
            _DEFINE[hint](field.name, field.default, text, flag_values=values)


def read(values: flags.FlagValues, cls: type[T], **others: Any) -> T:
    """Returns the dataclass that the flags describe.

    Args:
        values: Parsed flags, of `define`.
        cls: The dataclass.
        **others: Values of the fields without a flag.

    Raises:
        InputError: as the dataclass, for values that it refuses.
    """
    names = [field.name for field in dataclasses.fields(cls) if field.name not in others]
    given = {name: values[name].value for name in names if name in values}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return cls(**{**given, **lists}, **others)


_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) not in (types.UnionType, typing.Union):
        return hint
    return next(option for option in typing.get_args(hint) if option is not type(None))
