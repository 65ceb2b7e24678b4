# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to `ConfigDict`s for the command line, and back with validation."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import ml_collections
from ml_collections import config_dict

from mimir_jax.errors import InputError


def to_config_dict(config: Any) -> ml_collections.ConfigDict:
    """Turns a dataclass into a `ConfigDict` that flags can override, field by field.

    Optional fields become typed placeholders, so that `--config.init_from=PATH` parses.
    """
    out = ml_collections.ConfigDict(convert_dict=False)
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_config_dict(value)
        elif value is None:
            value = config_dict.placeholder(_optional(hints[field.name]))
        out[field.name] = value
    return out


def pick_preset(presets: Mapping[str, Any], name: str) -> ml_collections.ConfigDict:
    """Returns the run `name` of a config file, or raises a `ValueError` naming the valid ones."""
    if name not in presets:
        raise InputError(f"preset must be one of {', '.join(presets)}, got {name!r}")
    return to_config_dict(presets[name])


def from_config_dict(cls: type, values: Mapping[str, Any] | ml_collections.ConfigDict) -> Any:
    """Builds the frozen dataclass `cls` from nested mappings; `__post_init__` validates.

    A missing key takes its default, as in a file older than the field.

    Raises:
        ValueError: for an unknown key, a value of the wrong type, or a failed check.
    """
    if isinstance(values, ml_collections.ConfigDict):
        values = values.to_dict()
    return _build(cls, dict(values), "config")


def to_json(config: Any) -> str:
    """Serialises a dataclass config, keys in field order."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(cls: type, text: str) -> Any:
    """Inverse of `to_json`."""
    return from_config_dict(cls, json.loads(text))


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


def missing_field(cls: type, dotted: str) -> list[str] | None:
    """Returns the fields that exist where `dotted` names one that does not; None if it exists."""
    classes = [cls]
    for part in dotted.split("."):
        hints = {}
        for option in classes:
            hints |= typing.get_type_hints(option) if dataclasses.is_dataclass(option) else {}
        if not hints:
            return None  # inside a plain value, a dict say
        if part not in hints:
            return list(hints)
        classes = list(typing.get_args(hints[part])) if _is_union(hints[part]) else [hints[part]]
    return None


def _build(cls: type, values: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    if unknown := sorted(set(values) - set(names)):
        raise InputError(f"{where} has no field {unknown[0]!r}; it has {', '.join(names)}")
    return cls(**{n: _value(hints[n], value, f"{where}.{n}") for n, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        value = dict(value)
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if (value is None or value == "None") and type(None) in options:
        return None  # a flag cannot say it in another way
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    if classes:
        if not isinstance(value, dict):
            raise InputError(f"{where} must be a mapping, got {value!r}")
        return _build(_pick(classes, value, where), value, where)
    options = [option for option in options if option is not type(None)]
    for option in options:
        ok, converted = _convert(option, value)
        if ok:
            return converted
    raise InputError(f"{where} must be {_describe(options)}, got {value!r}")


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


def _pick(classes: list[type], value: dict[str, Any], where: str) -> type:
    """Chooses among dataclasses by the `kind` literal, or by matching field names."""
    if len(classes) == 1:
        return classes[0]
    kinds: list[str] = []
    for cls in classes:
        hints = typing.get_type_hints(cls)
        if "kind" in hints:
            kinds += typing.get_args(hints["kind"])
            if value.get("kind") in typing.get_args(hints["kind"]):
                return cls
        elif set(value) <= {field.name for field in dataclasses.fields(cls)}:
            return cls
    if kinds:
        kind = value.get("kind")
        raise InputError(f"{where}.kind must be one of {', '.join(kinds)}, got {kind!r}")
    raise InputError(f"{where} must hold the fields of {' or '.join(c.__name__ for c in classes)}")


def _optional(hint: Any) -> type:
    """Returns the type that a field annotated `T | None` takes from a flag."""
    option = next(o for o in typing.get_args(hint) if o is not type(None))
    return typing.get_origin(option) or option


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)
