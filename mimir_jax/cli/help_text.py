# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Help of a command: usage, flags, presets, and every config field with its type and default."""

import dataclasses
import inspect
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from mimir_jax.cli import configs
from mimir_jax.config import TrainConfig, bridge, registry

CONFIG = "NAME[:PRESET]|FILE[:PRESET]"
_COLUMN = 42
_ATTRIBUTE = re.compile(r"^ {4}(\w[\w, ]*): (.*?)(?=^ {4}\w[\w, ]*: |\Z)", re.M | re.S)


class Entry(NamedTuple):
    """A flag or a config field.

    Attributes:
        name: As typed, without dashes.
        type: What it takes.
        default: Its default as typed; empty for none.
        text: What it sets.
    """

    name: str
    type: str
    default: str
    text: str


class Section(NamedTuple):
    """Config fields of one dataclass.

    Attributes:
        name: Path of the dataclass below the config, empty for the run itself.
        text: First sentence of its docstring.
        entries: Its fields.
    """

    name: str
    text: str
    entries: list[Entry]


def command(text: str, values: flags.FlagValues, *, usage: str, run: str | None) -> str:
    """Returns the help of a command.

    Args:
        text: What the command does.
        values: Its flags.
        usage: The command and its words.
        run: Name of the run whose fields are listed; None for a command without config.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns, 160)
    config = "" if run is None else f" [--config {CONFIG}] [--config.FIELD=VALUE ...]"
    parts = [f"usage: {usage}{config} [flags]", inspect.cleandoc(text)]
    parts += [f"Flags:\n{_align(flag_entries(values, config=run is not None), '--', width)}"]
    if run is not None:
        rows = [Entry(name, "", "", text) for name, text in presets()]
        parts += [f"Presets, for --config:\n{_align(rows, '', width)}"]
        parts += [f"Fields, for --config.FIELD=VALUE, with the defaults of {run}:"]
        for section in sections(bridge.from_config_dict(TrainConfig, configs.load(run))):
            title = f"{section.name or 'run'}: {section.text}"
            parts.append(f"{title}\n{_align(section.entries, '', width)}".rstrip())
    return "\n\n".join(parts)


def flag_entries(values: flags.FlagValues, *, config: bool) -> list[Entry]:
    """Returns the flags of a command in the order of their definition."""
    entries = []
    if config:
        text = "Run: a preset of the package, or a Python file with get_config(preset)."
        entries.append(Entry("config", CONFIG, "mimir", text))
    for flag in (values[name] for name in _defined(values)):
        text = re.sub(r"^<.*?>: ", "", flag.help)  # absl's list of choices
        text = re.sub(r";\s+repeat this option.*", "", text)  # absl's note on lists
        default = "" if flag.boolean and not flag.default else _typed(flag.default)
        entries.append(Entry(flag.name, _flag_type(flag), default, text))
    return entries


def presets() -> Iterator[tuple[str, str]]:
    """Yields every preset of the package with what it trains, each system's default first."""
    for name, functions in registry.presets().items():
        for preset, function in functions.items():
            yield f"{name}:{preset}", first_paragraph(function)


def sections(config: Any, name: str = "") -> Iterator[Section]:
    """Yields the fields of a config with their values, a section per dataclass."""
    nested = {
        field.name: value
        for field in dataclasses.fields(config)
        if dataclasses.is_dataclass(value := getattr(config, field.name))
    }
    entries = [
        entry._replace(name=f"{name}.{entry.name}".lstrip("."))
        for entry in field_entries(type(config), vars(config))
        if entry.name not in nested
    ]
    yield Section(name, first_paragraph(type(config)), entries)
    for field, value in nested.items():
        yield from sections(value, f"{name}.{field}".lstrip("."))


def field_entries(cls: type, values: Mapping[str, Any] | None = None) -> list[Entry]:
    """Returns the fields of a config dataclass.

    Args:
        cls: The dataclass.
        values: Value of each field; None takes the defaults.
    """
    texts, hints = attribute_texts(cls), typing.get_type_hints(cls)
    entries = []
    for field in dataclasses.fields(cls):
        value = field.default if values is None else values[field.name]
        default = "" if value is dataclasses.MISSING else _typed(value)
        entries.append(
            Entry(field.name, _hint(hints[field.name]), default, texts.get(field.name, ""))
        )
    return entries


def _defined(values: flags.FlagValues) -> list[str]:
    return [name for name in values if values[name].name == name]


def _flag_type(flag: flags.Flag) -> str:
    if flag.boolean:
        return "bool"
    if choices := getattr(flag.parser, "enum_values", None):
        return "|".join(choices)
    kind = flag.flag_type().removeprefix("multi ")
    kind = {"string": "str", "comma separated list of strings": "str,..."}.get(kind, kind)
    return f"{kind} ..." if flag.flag_type().startswith("multi ") else kind


def _hint(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return "|".join(_hint(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if hint is type(None):
        return "None"
    return str(hint) if typing.get_origin(hint) else hint.__name__


def _typed(value: Any) -> str:
    """Returns a default as one would type it."""
    if isinstance(value, bool) or value is None:
        return str(value) if value is not None else ""
    if isinstance(value, tuple):
        return str(value) if value else ""
    return ",".join(value) if isinstance(value, list) else str(value)


def attribute_texts(cls: type) -> dict[str, str]:
    """Returns the `Attributes` of a dataclass's docstring and of those it inherits from."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        doc = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        doc = doc.partition("\n\n")[0]  # the next section
        for names, text in _ATTRIBUTE.findall(doc):
            texts |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return texts


def first_paragraph(documented: Any) -> str:
    """Returns the first paragraph of a docstring on one line."""
    return " ".join((documented.__doc__ or "").partition("\n\n")[0].split())


def _align(entries: Sequence[Entry], prefix: str, width: int) -> str:
    """Lays out entries in two columns: the name with its default, then type and text."""
    lines, indent = [], " " * _COLUMN
    for entry in entries:
        default = entry.default if len(entry.default) <= 60 else entry.default[:57] + "..."
        head = f"  {prefix}{entry.name}" + (f"={default}" if default else "")
        text = ". ".join(filter(None, (entry.type, entry.text)))
        fits = len(head) < _COLUMN - 1
        first = f"{head:<{_COLUMN}}" if fits else indent
        lines += [] if fits else [head]
        lines += textwrap.wrap(text, width, initial_indent=first, subsequent_indent=indent)
    return "\n".join(lines)
