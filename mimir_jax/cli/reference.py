# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The page of all commands, flags and config fields:

python -m mimir_jax.cli.reference > docs/flags.md
"""

import inspect
from collections.abc import Iterator, Sequence

from mimir_jax.cli import command, configs, help_text, main
from mimir_jax.config import TrainConfig, bridge, registry

_HEAD = """# Commands, flags and config fields

`python -m mimir_jax.cli.reference > docs/flags.md` writes this page; do not edit it.

`mimir-jax VERB` and `python launch/VERB.py` run the same code. `mimir-jax VERB --help` prints what
stands here, and the fields with the defaults of the run that `--config` names.
"""
_FIELDS = """## Config fields

`--config.FIELD=VALUE` overrides a field of the run that `--config` names. `--print_config` prints
the result. `None` is typed as `None`, a tuple as `"(1, 2)"`.
"""


def page() -> str:
    """Returns the page."""
    return "\n".join([_HEAD, *_commands(), *_presets(), _FIELDS, *_fields()])


def _commands() -> Iterator[str]:
    for verb in main.VERBS:
        module = command.find_module(verb)
        yield f"## {verb}\n"
        usage = f"mimir-jax {verb} {module.WORDS}".rstrip()
        yield f"`{usage} [flags]`\n"
        yield inspect.cleandoc(module.__doc__) + "\n"
        values = command.flag_values(module)
        yield _table("flag", "--", help_text.flag_entries(values, config=module.CONFIG))


def _presets() -> Iterator[str]:
    yield "## Presets\n\n| `--config` | run |\n| --- | --- |"
    for name, summary in help_text.presets():
        yield f"| `{name}` | {_cell(summary)} |"
    yield ""


def _fields() -> Iterator[str]:
    """Yields the fields of a run, then those of each system with its default preset."""
    runs = {name: _run(name) for name in registry.presets()}
    shared = next(iter(runs.values()))
    for section in help_text.sections(_with_defaults(shared)):
        if not section.name.startswith("system"):
            yield from _section(section)
    for name, run in runs.items():
        yield f"### The system {name}\n\nDefaults are those of `--config {name}`.\n"
        for section in help_text.sections(run.system, "system"):
            yield from _section(section)


def _section(section: help_text.Section) -> Iterator[str]:
    if section.entries:
        yield f"**{section.name or 'run'}**: {section.text}\n"
        yield _table("field", "", section.entries)


def _run(name: str) -> TrainConfig:
    return bridge.from_config_dict(TrainConfig, configs.load(name))


def _with_defaults(run: TrainConfig) -> TrainConfig:
    """Returns a run of the same system whose other fields have their defaults."""
    return TrainConfig(system=run.system)


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
