# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The ablation of Divot's LLM: rows, numbers of clips, and runs judged by the clips they write."""

import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.evaluation import before_after, sweep, sweep_report
from mimir_jax.sampling.request import Request
from mimir_jax.systems import ablations
from tests import runs
from tests.systems import agents


@pytest.mark.parametrize("name", ablations.find_ablation(c.DivotLLMSystemConfig()).cells)
def test_every_cell_is_the_preset_of_its_row(name):
    run = c.from_config_dict(c.TrainConfig, c.find_config("divot_llm"))
    made = sweep.apply(run, ablations.find_ablation(run.system).cells[name])
    if name == "mixture":
        assert made == run
    else:
        assert made == c.from_config_dict(c.TrainConfig, c.find_config(f"divot_llm:tiny/{name}"))


def test_videos_have_any_number_of_clips():
    made = c.from_config_dict(c.TrainConfig, c.find_config("divot_llm:tiny/clips-3"))
    assert made.data.frames == 51 and made.system.num_clips(51) == 3
    assert made.system.max_length == 72 + 2 * 18
    paper = c.from_config_dict(c.TrainConfig, c.find_config("divot_llm:paper/clips-5"))
    assert paper.data.frames == 80 and paper.system.max_length == 1400 - 15 * 66
    with pytest.raises(ValueError, match="must hold at most 20 clips"):
        c.find_config("divot_llm:tiny/clips-21")
    with pytest.raises(ValueError, match="/clips-N, got 'tiny/clips-0'"):
        c.find_config("divot_llm:tiny/clips-0")


def test_what_decodes_no_clips_is_refused_before_training():
    before_after.check_config(agents.run("package:tiny/divot/clip_tokenizer"))
    rule = "--config.system.clip_tokenizer_path must be a run of divot, .* package:tiny/llm; name"
    with pytest.raises(ValueError, match=rule):
        before_after.check_config(agents.run("package:tiny/llm"))


@pytest.fixture(scope="module")
def run(frozen, tmp_path_factory):
    """A run of two steps that is judged on one scene, and the run of its de-tokenizer."""
    root = tmp_path_factory.mktemp("ablation")
    divot = runs.divot_run(frozen)
    params = jax.jit(systems.make_system(divot).model.init)(jax.random.key(0))
    agents.write_run(root / "divot", divot, params)
    config = agents.run(root / "divot", model={"token_width": 8})
    toyworld = dataclasses.replace(config.data.toyworld, num_scenes=8)
    data = dataclasses.replace(config.data, toyworld=toyworld, height=32, width=32)
    judge = c.JudgeConfig(scenes=1, steps=2, batch_size=3, shown=1)
    return dataclasses.replace(config, data=data, judge=judge, steps=2, mesh=c.MeshConfig(data=8))


@pytest.mark.slow
def test_a_table_of_heads_is_judged_by_the_clips_that_they_write(run, tmp_path):
    ablation = ablations.find_ablation(run.system)
    cells = ablation.select(["mixture", "regression"])
    said = []
    sweep.run_sweep(run, cells, range(1), tmp_path / "s", said.append)
    assert len(list((tmp_path / "s" / "features").iterdir())) == 1  # of all cells
    text = sweep_report.write_report(tmp_path / "s", ablation)
    assert "| regression |" in text and "| start |" in text
    assert "## Published, MSR-VTT" in text and "| mixture | 0.3265 | 366.6 |" in text
    start, end = before_after.open_sides(tmp_path / "s/runs/mixture-0")
    assert (start.settings["step"], end.settings["step"]) == (0, 2)
    asked = [Request("a red circle", seed=1)]
    assert (start.generate(asked, batch_size=1) != end.generate(asked, batch_size=1)).any()
    assert np.shape(end.answers(asked)) == (1, 0)
