# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import re

import pytest

from mimir_jax.cli import command, configs
from mimir_jax.errors import InputError
from mimir_jax.preparation import recipe
from mimir_jax.systems import recipes
from tests import commands

STAGES = (
    recipes.Stage(
        name="runs/a", command=("train", "--config", "vae:tiny"), scaled=(("steps", 90),)
    ),
    recipes.Stage(name="a", command=("convert", "{out}/runs/a"), into=""),
    recipes.Stage(name="b", command=("precompute",), into="--out="),
)


class Commands:
    """Takes the place of processes; fails at the commands whose numbers are given."""

    def __init__(self, *failing):
        self.ran, self.failing = [], failing

    def __call__(self, words, seconds):
        self.ran.append(" ".join(words))
        return int(len(self.ran) in self.failing)


def run(out, spawn, **kwargs):
    return recipe.run(STAGES, out, spawn=spawn, tell=lambda line: None, **kwargs)


def test_a_recipe_goes_on_where_it_stopped(tmp_path):
    stopped = Commands(2)
    with pytest.raises(InputError, match="stage a must end well, it ended with exit code 1"):
        run(tmp_path / "r", stopped, scale=0.5)
    assert stopped.ran == [
        f"train --config vae:tiny --workdir={tmp_path}/r/runs/a --steps=45",
        f"convert {tmp_path}/r/runs/a {tmp_path}/r/a",
    ]
    rest = Commands()
    assert run(tmp_path / "r", rest, scale=0.5) == []
    assert rest.ran == [stopped.ran[1], f"precompute --out={tmp_path}/r/b"]
    assert set(json.loads((tmp_path / "r/recipe.json").read_text())) == {"runs/a", "a", "b"}
    assert run(tmp_path / "r", Commands(1), scale=0.5) == []
    with pytest.raises(InputError, match="must hold the same recipe, its stage runs/a was made by"):
        run(tmp_path / "r", Commands(), scale=0.4)


def test_an_export_that_is_there_is_kept(tmp_path):
    (tmp_path / "a").mkdir()
    ran = Commands()
    assert run(tmp_path, ran) == []
    assert [line.split()[0] for line in ran.ran] == ["train", "precompute"]


def test_time_that_is_up_leaves_the_rest(tmp_path):
    assert run(tmp_path, Commands(), minutes=1e-9) == ["runs/a", "a", "b"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipes.names())
def test_every_stage_is_a_command_that_parses(name):
    made = set()
    for stage in recipes.find_recipe(name):
        words = stage.words("OUT", 0.01)
        used = {path for word in words[1:] for path in re.findall(r"OUT/([\w/-]+)", word)}
        assert used - {stage.name} <= made, "a stage reads what an earlier one made"
        made.add(stage.name)
        program = command.Program(words[0])
        assert command.parse(program, words[1:]).program == program
        if words[0] == "train":
            assert configs.overrides(words[1:])


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "takes one of divot, mimir"),
        (["nothing"], "the recipe must be one of divot, mimir"),
        (["mimir"], "--out must name the folder"),
        (["mimir", "--out", "r", "--scale", "0"], "--scale must be above 0, got 0"),
    ],
)
def test_input_that_cannot_be_followed_is_one_line(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in commands.error_of("recipe", *args)
    assert not list(pathlib.Path().iterdir())


def test_its_commands_are_shown():
    code, out, _ = commands.call("recipe", "mimir", "--out", "r", "--show")
    assert code == 0 and len(out.splitlines()) == len(recipes.find_recipe("mimir"))
    assert "mimir-jax train --config language:t5 --workdir=r/runs/t5 --config.steps=2000" in out
