# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from mimir_jax.cli import command, help_text, main, reference
from mimir_jax.config import registry

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "flags.md"


def test_the_page_of_flags_is_current():
    assert PAGE.read_text() == reference.page(), "run python -m mimir_jax.cli.reference"


@pytest.mark.parametrize("name", registry.presets())
def test_every_field_and_preset_has_a_line(name):
    for function in registry.presets()[name].values():
        assert help_text.first_paragraph(function)
        for section in help_text.sections(function()):
            assert section.text
            assert [entry.name for entry in section.entries if not entry.text] == []


@pytest.mark.parametrize("verb", main.VERBS)
def test_every_flag_has_a_line(verb):
    for module in command.subcommands(verb).values() or [command.find_module(verb)]:
        entries = help_text.flag_entries(command.flag_values(module), config=module.CONFIG)
        assert [entry.name for entry in entries if not entry.text] == []
    assert main.summary(verb).endswith(".")
