# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
from mimir_jax.data import toyworld
from mimir_jax.evaluation import compbench
from mimir_jax.evaluation.suites import toyworld as suite


def verdicts(scenes, wrong=()):
    clips = []
    for index, scene in scenes.items():
        exercised = suite.exercised_categories(scene)
        scores = {name: {"passed": name not in wrong, "value": 1.0} for name in exercised}
        clips.append({"index": index, "style": "long", "scores": scores})
    return clips


def test_questions_are_asked_of_the_scenes_that_they_fit_and_need_all_they_name():
    scenes = {i: toyworld.sample(0, "validation", i) for i in range(12)}
    right = compbench.summarise(scenes, verdicts(scenes))
    assert set(right) == {question.name for question in compbench.QUESTIONS}
    assert all(row["passed"] == 1.0 and row["clips"] == row["scenes"] for row in right.values())
    assert right["composition"]["scenes"] == 12
    assert right["consistent attribute binding"]["scenes"] == sum(
        len(scene.groups) > 1 for scene in scenes.values()
    )
    wrong = compbench.summarise(scenes, verdicts(scenes, wrong=("colour",)))
    assert wrong["consistent attribute binding"]["passed"] == 0.0
    assert wrong["generative numeracy"]["passed"] == 1.0
    table = compbench.format_table(wrong)
    assert "motion order understanding" in table and "VBench-2.0" in table


def test_a_question_without_clips_is_left_out():
    scenes = {0: toyworld.sample(0, "validation", 0, "single")}
    found = compbench.summarise(scenes, verdicts(scenes))
    assert "consistent attribute binding" not in found
    assert "consistent attribute binding" not in compbench.format_table(found)
