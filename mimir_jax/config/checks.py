# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of config fields, which name a field relative to the dataclass that checks it.

A dataclass does not know where it is mounted: `DiTConfig` is `system.dit` of one run and
`system.model.dit` of another. Its checks write fields in braces, `bridge` puts the mount in front.
"""

import dataclasses
import functools
import math
import string
from typing import Any, NamedTuple

from mimir_jax.errors import InputError


class Mount(NamedTuple):
    """Where a dataclass stands in the whole config.

    Attributes:
        path: Dotted path from the whole config, empty at its root.
        flags: Whether `--config.` flags set the config.
    """

    path: str = ""
    flags: bool = False

    def at(self, field: str) -> "Mount":
        """Returns the mount of `field`."""
        return self._replace(path=f"{self.path}.{field}" if self.path else field)

    def remedy(self, *fields: str) -> str:
        """Returns the end of a message that tells how to set `fields`, by default this mount.

        It is empty where no flags set the config.
        """
        if not self.flags:
            return ""
        options = [flag(self.at(field).path) for field in fields] or [flag(self.path)]
        return f"; set {'it' if len(options) == 1 else 'either'} with {' or '.join(options)}"


class FieldError(InputError):
    """A field of a config dataclass with a value that cannot work.

    The message of an error that was not mounted begins with the name of the class.

    Args:
        config: The dataclass that was checked.
        rule: Message up to the value, fields of `config` in braces.
        got: The value; None takes it from the fields of `rule`.
        remedy: What to do, fields in braces; None tells to set the fields of `rule`.
        values: What other braces of `rule` and `remedy` stand for.
    """

    def __init__(
        self,
        config: Any,
        rule: str,
        *,
        got: str | None = None,
        remedy: str | None = None,
        values: dict[str, Any] | None = None,
    ):
        self.config, self._rule, self._remedy, self._values = config, rule, remedy, values or {}
        self.fields = tuple(dict.fromkeys(n for n in _names(rule) if n not in self._values))
        if got is None:
            got = " and ".join(repr(_lookup(config, name)) for name in self.fields)
        self._got = got
        super().__init__(self._render(None))

    def mounted(self, mount: Mount) -> InputError:
        """Returns the error with the names that the fields have in the whole config."""
        return InputError(self._render(mount))

    def _render(self, mount: Mount | None) -> str:
        if mount is None:
            owner = type(self.config).__name__
            names = {name: name for name in self.fields}
            names |= {name: f"{owner}.{name}" for name in self.fields[:1]}
            settings, end = {}, ""
        else:
            names = {name: mount.at(name).path for name in self.fields}
            settings = {
                n: flag(mount.at(n).path) for n in _names(self._remedy or "") if mount.flags
            }
            end = mount.remedy(*self.fields)
        if self._remedy is not None:
            end = "; " + _fill(self._remedy, settings | self._values)
        return f"{_fill(self._rule, names | self._values)}, got {self._got}{end}"


def flag(field: str) -> str:
    """Returns the command-line flag of a field of the run's config."""
    return f"--config.{field}"


def check(
    config: Any,
    condition: bool,
    rule: str,
    *,
    got: str | None = None,
    remedy: str | None = None,
    **values: Any,
) -> None:
    """Raises `FieldError` unless `condition` holds.

    Args:
        config: The dataclass that is checked.
        condition: What must hold.
        rule: Subject and rule of the message, such as "{height} must be a multiple of {step}".
            Braces hold fields of `config`, dotted where nested, or a key of `values`.
        got: The offending value; by default those of all fields in `rule`.
        remedy: What to do about it; by default to set the fields in `rule`.
        **values: What braces stand for that hold no field.
    """
    if not condition:
        raise FieldError(config, rule, got=got, remedy=remedy, values=values)


def within(
    config: Any,
    field: str,
    low: int | float,
    high: int | float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Raises `FieldError` unless a field of `config` is None, or finite and in `[low, high]`.

    Args:
        config: The dataclass that is checked.
        field: Name of the field.
        low: Lower bound.
        high: Upper bound.
        above: Whether to exclude `low`.
        below: Whether to exclude `high`.
    """
    value = _lookup(config, field)
    if value is None:
        return
    finite = isinstance(value, int) or math.isfinite(value)  # an integer may exceed every float
    fine = finite and low <= value <= high
    fine = fine and not (above and value == low) and not (below and value == high)
    bounds = [f"{'above' if above else 'at least'} {low}"]
    if high < math.inf:
        bounds.append(f"{'below' if below else 'at most'} {high}")
    check(config, fine, f"{{{field}}} must be {' and '.join(bounds)}")


def positive_sizes(config: Any) -> None:
    """Raises `FieldError` unless every integer of `config` is at least 1, also inside tuples."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        sizes = [x for x in (value if isinstance(value, tuple) else (value,)) if type(x) is int]
        check(config, all(x >= 1 for x in sizes), f"{{{field.name}}} must be at least 1")


def changed_fields(config: Any) -> list[str]:
    """Returns the names of the fields that differ from their default."""
    return [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default]


def _lookup(config: Any, dotted: str) -> Any:
    return functools.reduce(getattr, dotted.split("."), config)


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]


def _fill(template: str, values: dict[str, Any]) -> str:
    parts = []
    for text, name, _, _ in string.Formatter().parse(template):
        parts += [text, "" if name is None else str(values.get(name, name))]
    return "".join(parts)
