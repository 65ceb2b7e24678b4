# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to `ConfigDict`s and JSON, and back with validation."""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from mimir_jax.config import checks, registry, upgrade
from mimir_jax.errors import InputError

Presets = Mapping[str, Callable[[], Any]]
"""Functions that return a run, by name; docstrings tell command, hardware, time and result."""


def to_config_dict(config: Any) -> ml_collections.ConfigDict:
    """Turns a dataclass into a `ConfigDict` that flags can override, field by field.

    Optional fields become typed placeholders, so that `--config.init_from=PATH` parses.
    """
    out = ml_collections.ConfigDict(convert_dict=False)
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            value = config_dict.placeholder(_optional(hints[field.name]))
        out[field.name] = value
    return out


def pick_preset(presets: Presets, name: str) -> ml_collections.ConfigDict:
    """Returns the run `name` of a config file, or raises an `InputError` naming the valid ones."""
    if name not in presets:
        raise InputError(f"preset must be one of {', '.join(presets)}, got {name!r}")
    return to_config_dict(presets[name]())


def from_config_dict(cls: type, values: Mapping[str, Any] | ml_collections.ConfigDict) -> Any:
    """Builds the frozen dataclass `cls` from what flags have set; `__post_init__` validates.

    A missing key takes its default. Errors tell which flag sets a field.

    Raises:
        InputError: for an unknown key, a value of the wrong type, or a failed check.
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    return _build(cls, dict(values), checks.Mount(flags=True))


def replace_everywhere(section: Any, name: str, value: Any) -> Any:
    """Returns a dataclass with another value of every field `name` in it, at any depth."""
    values = {}
    for field in dataclasses.fields(section):
        part = getattr(section, field.name)
        if field.name == name:
            values[name] = value
        elif dataclasses.is_dataclass(part):
            values[field.name] = replace_everywhere(part, name, value)
    return dataclasses.replace(section, **values)


def to_json(config: Any) -> str:
    """Serialises a dataclass config, keys in field order; `from_values` reads it back."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_values(cls: type, values: Mapping[str, Any]) -> Any:
    """Builds the frozen dataclass `cls` from the parsed JSON of a file.

    Fields that were renamed since the file was written are upgraded; fields that are younger than
    it take their default.

    Raises:
        InputError: as `from_config_dict`.
    """
    return _build(cls, upgrade.upgrade(values), checks.Mount())


def differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    """Lists the dotted names of fields in which two dataclasses differ."""
    if not (dataclasses.is_dataclass(a) and type(a) is type(b)):
        return [] if a == b else [prefix]
    return [
        name
        for field in dataclasses.fields(a)
        for name in differences(
            getattr(a, field.name),
            getattr(b, field.name),
            f"{prefix}.{field.name}" if prefix else field.name,
        )
    ]


def _build(cls: type, values: dict[str, Any], mount: checks.Mount) -> Any:
    hints = _hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    where = f"config.{mount.path}" if mount.path else "config"
    if unknown := sorted(set(values) - set(fields)):
        raise InputError(f"{where} has no field {unknown[0]!r}; it has {', '.join(fields)}")
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing := sorted(set(required) - set(values)):
        raise InputError(f"{where} must have a field {missing[0]!r}, found none; add it")
    values = {name: _value(hints[name], value, mount.at(name)) for name, value in values.items()}
    try:
        return cls(**values)
    except checks.FieldError as error:
        if type(error.config) is not cls:  # of a config that a check made in Python
            raise
        raise error.mounted(mount) from None


def _value(hint: Any, value: Any, mount: checks.Mount) -> Any:
    if isinstance(value, Mapping):
        value = dict(value)
    options = _options(hint)
    if (value is None or value == "None") and type(None) in options:
        return None  # a flag cannot say it in another way
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    if classes:
        if not isinstance(value, dict):
            raise InputError(f"{mount.path} must be a mapping, got {value!r}")
        return _build(_pick(classes, value, mount), value, mount)
    options = [option for option in options if option is not type(None)]
    for option in options:
        ok, converted = _convert(option, value)
        if ok:
            return converted
    raise InputError(f"{mount.path} must be {_describe(options)}, got {value!r}{mount.remedy()}")


def _options(hint: Any) -> list[Any]:
    """Returns the types that a field takes; of a system, the config classes of all kinds."""
    if hint is registry.SystemConfig:
        return list(dict.fromkeys(registry.system_classes().values()))
    return list(typing.get_args(hint)) if _is_union(hint) else [hint]


def _convert(option: Any, value: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(option)
    if origin is typing.Literal:
        return value in typing.get_args(option), value
    if origin is tuple:
        return _convert_tuple(typing.get_args(option), value)
    if option is float and isinstance(value, int) and not isinstance(value, bool):
        return True, float(value)
    if option is int and isinstance(value, bool):
        return False, value
    return isinstance(value, option), value


def _convert_tuple(hints: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    if not isinstance(value, (tuple, list)):
        return False, value
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        return False, value
    converted = [_convert(hint, part) for hint, part in zip(hints, value, strict=True)]
    return all(ok for ok, _ in converted), tuple(part for _, part in converted)


def _describe(options: list[Any]) -> str:
    parts = []
    for option in options:
        origin = typing.get_origin(option)
        if origin is typing.Literal:
            parts.append("one of " + ", ".join(map(repr, typing.get_args(option))))
        else:
            parts.append(str(option) if origin else getattr(option, "__name__", str(option)))
    return " or ".join(parts)


def _pick(classes: list[type], value: dict[str, Any], mount: checks.Mount) -> type:
    """Chooses among dataclasses by the `kind` literal, or by matching field names."""
    if len(classes) == 1:
        return classes[0]
    kinds: list[str] = []
    for cls in classes:
        hints = _hints(cls)
        if "kind" in hints:
            kinds += typing.get_args(hints["kind"])
            if value.get("kind") in typing.get_args(hints["kind"]):
                return cls
        elif set(value) <= {field.name for field in dataclasses.fields(cls)}:
            return cls
    if kinds:
        kind = value.get("kind")
        raise InputError(f"{mount.path}.kind must be one of {', '.join(kinds)}, got {kind!r}")
    names = " or ".join(cls.__name__ for cls in classes)
    raise InputError(f"{mount.path} must hold the fields of {names}, got {', '.join(value)}")


def _optional(hint: Any) -> type:
    """Returns the type that a field annotated `T | None` takes from a flag."""
    option = next(o for o in typing.get_args(hint) if o is not type(None))
    if typing.get_origin(option) is typing.Literal:
        return type(typing.get_args(option)[0])
    return typing.get_origin(option) or option


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Returns the types of the fields of `cls`."""
    return typing.get_type_hints(cls)
