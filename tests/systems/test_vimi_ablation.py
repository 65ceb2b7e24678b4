# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The ablation of VIMI: rows of both stages, judged by the grounding suite."""

import dataclasses

import jax
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.evaluation import CATEGORIES, judging, sweep, sweep_report
from mimir_jax.models import params as params_lib
from mimir_jax.systems import ablations
from mimir_jax.training import optimizer
from tests import runs

STAGES = ("tiny/stage1", "tiny/stage2")


def preset(stage):
    return c.from_config_dict(c.TrainConfig, c.find_config(f"vimi:{stage}"))


def rows():
    return [(x, name) for x in STAGES for name in ablations.find_ablation(preset(x).system).cells]


@pytest.mark.parametrize("stage, name", rows())
def test_every_row_is_a_run(stage, name):
    run = preset(stage)
    made = sweep.apply(run, ablations.find_ablation(run.system).cells[name])
    assert (made == run) == (name in ("retrieved", "mixture"))
    assert made.system.stage == run.system.stage


@pytest.mark.parametrize("name", ["retrieved", "direct", "beside", "trained_aligner"])
def test_parts_that_train_are_those_of_the_row(name):
    run = preset("tiny/stage1")
    made = sweep.apply(run, ablations.find_ablation(run.system).cells[name])
    axes = systems.make_system(made).model.abstract_params
    trained = params_lib.flatten(optimizer.trainable(made.optimizer, axes))
    parts = {path.split("/")[0] for path, trains in trained.items() if trains}
    bridges = {"direct": {"direct"}, "beside": {"beside"}, "trained_aligner": {"aligner"}}
    assert parts == {"dit"} | bridges.get(name, set())


def test_rows_share_features_where_their_prompts_are_equal():
    run = preset("tiny/stage1")
    settings = {
        name: str(sweep.apply(run, cell).system.feature_settings)
        for name, cell in ablations.find_ablation(run.system).cells.items()
    }
    assert settings["retrieved"] == settings["direct"] == settings["trained_aligner"]
    apart = ("retrieved", "no_retrieval", "random", "text", "image", "top_1", "beside")
    assert len({settings[name] for name in apart}) == len(apart)


@pytest.mark.parametrize("stage", STAGES)
def test_predictions_are_of_rows_and_conditions_that_exist(stage):
    ablation = ablations.find_ablation(preset(stage).system)
    styles = judging.make_judging(ablation.demos).styles
    names = {ablations.START, *ablation.cells}
    for prediction in ablation.predictions:
        assert {prediction.cell, prediction.other} <= names
        assert prediction.styles and set(prediction.styles) <= set(styles)
        assert prediction.category in (None, *CATEGORIES)
    assert set(ablation.select(None)) == set(ablation.cells)


def test_a_scene_is_asked_for_once_in_each_condition():
    run = sweep.apply(preset("tiny/stage2"), {"judge.scenes": 2})
    judged = judging.make_judging(("names", "subjects", "first_frames"))
    samples = judged.plan(run)
    assert [(s.index, s.style) for s in samples[:4]] == [
        (0, "names-document"), (0, "names-without"), (0, "names-wrong"), (0, "words")
    ]  # fmt: skip
    assert len(samples) == len({s.name for s in samples}) == 2 * len(judged.styles) == 14
    assert {s.style for s in samples} == set(judged.styles)
    assert judging.make_judging().styles == ("narrow", "wide", "reserved")


def test_the_report_is_by_condition(tmp_path):
    (tmp_path / "settings.json").write_text('{"steps": 2}')
    ablation = ablations.find_ablation(preset("tiny/stage1").system)
    lines = [["cell", "seed", "scene", "condition", *CATEGORIES]]
    passing = {"start": "0", "retrieved": "1", "no_retrieval": "0", "random": "1"}
    for cell, passes in passing.items():
        for style in judging.make_judging(ablation.demos).styles:
            for scene in range(8):
                marks = [passes if k in ("object_class", "count") else "" for k in CATEGORIES]
                lines.append([cell, "0", str(scene), style, *marks])
    (tmp_path / "clips.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    found = sweep_report.write_report(tmp_path, ablation)
    assert "## Condition names-document" in found and "(names-document.png)" in found
    claims = {line.split(" | ")[0]: line for line in found.splitlines() if " | names-doc" in line}
    trained = "| documents explain names to a network trained with them (object_class)"
    assert "| +100.0 | +100.0 to +100.0 | confirmed, one seed |" in claims[trained]
    assert "undecided, one seed" in claims["| random documents teach no names (object_class)"]
    again = (tmp_path / "clips.csv").read_text()
    assert again.startswith("cell,seed,scene,condition,object_class")
    assert sweep_report.write_report(tmp_path, ablation) == found


@pytest.mark.slow
def test_rows_are_trained_and_judged_by_images_and_documents(frozen, llava_folder, tmp_path):
    runs.write_memory(tmp_path / "memory", range(12))
    run = runs.vimi_run(frozen, llava_folder, tmp_path / "memory")
    toyworld = dataclasses.replace(run.data.toyworld, num_scenes=8, variety="single")
    run = dataclasses.replace(
        run,
        system=dataclasses.replace(run.system, sample_prompts=0, prompts_per_clip=1),
        data=dataclasses.replace(run.data, toyworld=toyworld),
        judge=c.JudgeConfig(scenes=1, steps=2, batch_size=7),
        steps=2,
        mesh=c.MeshConfig(data=len(jax.devices())),
    )
    ablation = ablations.find_ablation(run.system)
    cells = ablation.select(["mixture", "subjects", "trained_aligner"])
    sweep.run_sweep(run, cells, range(1), tmp_path / "s", demos=ablation.demos)
    assert len(list((tmp_path / "s/features").iterdir())) == 2
    text = sweep_report.write_report(tmp_path / "s", ablation)
    assert "| trained_aligner |" in text and "## Condition subjects-image" in text
    assert (tmp_path / "s/sheet-subjects-image.png").is_file()
    with pytest.raises(ValueError, match="demos"):
        sweep.run_sweep(run, cells, range(1), tmp_path / "s", demos=("names",))
