# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of all commands, flags and config fields:

python -m mimir_jax.cli.reference > docs/flags.md
"""

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from mimir_jax.cli import command, help_text, main
from mimir_jax.config import registry

_HEAD = """# Commands, flags and config fields

`python -m mimir_jax.cli.reference > docs/flags.md` writes this page; do not edit it.

`mimir-jax VERB` and `python launch/VERB.py` run the same code. `mimir-jax VERB --help` prints what
stands here, and the fields with the defaults of the run that `--config` names.
"""
_FIELDS = """## Config fields

`--config.PATH.FIELD=VALUE` overrides a field of the run that `--config` names. PATH is that of the
field's class, in the systems that are named. Defaults are those of the class; a preset has others.
`--print_config` prints the result. None is typed as `None`, a tuple as `"(1, 2)"`.
"""


def page() -> str:
    """Returns the page."""
    return "\n".join([_HEAD, *_commands(), *_presets(), _FIELDS, *_fields()])


def _commands() -> Iterator[str]:
    for verb in main.VERBS:
        subcommands = command.subcommands(verb)
        if subcommands:
            yield f"## {verb}\n"
            yield inspect.cleandoc(command.find_module(verb).__doc__) + "\n"
        for name, module in (subcommands or {"": command.find_module(verb)}).items():
            full = f"{verb} {name}".rstrip()
            yield f"{'###' if name else '##'} {full}\n"
            yield f"`{f'mimir-jax {full} {module.WORDS}'.rstrip()} [flags]`\n"
            yield inspect.cleandoc(module.__doc__) + "\n"
            values = command.flag_values(module)
            yield _table("flag", "--", help_text.flag_entries(values, config=module.CONFIG))


def _presets() -> Iterator[str]:
    yield "## Presets\n\n| `--config` | run |\n| --- | --- |"
    for name, summary in help_text.presets():
        yield f"| `{name}` | {_cell(summary)} |"
    yield ""


def _fields() -> Iterator[str]:
    """Yields each config class once, with the places that it has in the runs of the package."""
    for cls, places in _places().items():
        entries = [
            entry
            for entry, field in zip(
                help_text.field_entries(cls), dataclasses.fields(cls), strict=True
            )
            if not dataclasses.is_dataclass(field.default)
            and field.default is not dataclasses.MISSING
        ]
        if entries:
            where = ", ".join(f"`{path}` ({', '.join(kinds)})" for path, kinds in places.items())
            yield f"### {cls.__name__}\n\n{help_text.first_paragraph(cls)}"
            yield f"\nPath: {where}\n" if "" not in places else ""
            yield _table("field", "", entries)


def _places() -> dict[type, dict[str, list[str]]]:
    """Returns the config classes, with the kinds of systems by the path that a class has there."""
    places: dict[type, dict[str, list[str]]] = {}

    def walk(config: Any, path: str, kind: str) -> None:
        kinds = places.setdefault(type(config), {}).setdefault(path, [])
        kinds += [] if kind in kinds else [kind]
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                walk(value, f"{path}.{field.name}".lstrip("."), kind)

    for functions in registry.presets().values():
        for function in functions.values():
            run = function()
            walk(run, "", run.system.kind)
    return places


def _table(title: str, prefix: str, entries: Sequence[help_text.Entry]) -> str:
    rows = [f"| {title} | type | default | |", "| --- | --- | --- | --- |"]
    for entry in entries:
        default = f"`{_cell(entry.default)}`" if entry.default else ""
        cells = [f"`{prefix}{entry.name}`", f"`{_cell(entry.type)}`", default, _cell(entry.text)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
