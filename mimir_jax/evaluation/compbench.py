# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""CompBench-toy: the judge's categories under the names of compositionality benchmarks.

T2V-CompBench (arXiv 2407.14505) and VBench-2.0 (arXiv 2503.21755) test whether a video composes
objects, attributes and actions as its prompt says. Their questions that apply to Toyworld are
answered here exactly, from the scores of a clip; object interactions, people and physics have no
counterpart.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from mimir_jax import tables
from mimir_jax.data.toyworld import scene as scene_lib
from mimir_jax.evaluation import clips as clips_lib
from mimir_jax.evaluation import confidence

_MOVES = ("left", "right", "up", "down")
_CHANGES = ("grow", "shrink", "appear", "disappear")


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of a bench.

    Attributes:
        name: Its name there.
        bench: The bench, or both.
        needs: Categories that a clip must pass, those that its prompt tells; one at least.
        asks: Whether a scene asks the question.
        rule: When it does, in words.
    """

    name: str
    bench: str
    needs: tuple[str, ...]
    asks: Callable[[scene_lib.Scene], bool]
    rule: str


def _acts(verbs: Sequence[str]) -> Callable[[scene_lib.Scene], bool]:
    return lambda scene: any(action.verb in verbs for action in scene.actions)


QUESTIONS = (
    Question(
        "consistent attribute binding",
        "T2V-CompBench",
        ("object_class", "colour", "size"),
        lambda scene: len(scene.groups) > 1,
        "two or more kinds of object",
    ),
    Question(
        "dynamic attribute binding",
        "T2V-CompBench, VBench-2.0",
        ("action", "light"),
        lambda scene: _acts(_CHANGES)(scene) or scene.light not in ("day", "night"),
        "an object grows, shrinks, appears or disappears, or the light changes",
    ),
    Question(
        "spatial relationships",
        "T2V-CompBench",
        ("spatial_relation", "layout"),
        lambda scene: bool(scene.relations) or scene.place is not None,
        "a relation between objects, or the place of a lone one",
    ),
    Question(
        "motion binding",
        "T2V-CompBench, VBench-2.0",
        ("action",),
        _acts(_MOVES),
        "an object moves in a direction",
    ),
    Question(
        "action binding",
        "T2V-CompBench",
        ("object_class", "action"),
        lambda scene: len(scene.groups) > 1 and bool(scene.actions),
        "an object among others acts",
    ),
    Question(
        "generative numeracy",
        "T2V-CompBench",
        ("count",),
        lambda scene: any(group.count > 1 for group in scene.groups),
        "several equal objects",
    ),
    Question(
        "motion order understanding",
        "VBench-2.0",
        ("action_order",),
        lambda scene: scene.timing == "then",
        "two actions, one after the other",
    ),
    Question(
        "composition",
        "VBench-2.0",
        ("object_class", "multiple_objects", "colour", "size", "count", "layout", "action"),
        lambda scene: True,
        "every scene: all that its prompt tells, at once",
    ),
)

Row = dict[str, float]


def summarise(
    scenes: Mapping[int, scene_lib.Scene], judged: Sequence[clips_lib.JudgedClip]
) -> dict[str, Row]:
    """Returns for each question `{passed, low, high, scenes, clips}`, shares from 0 to 1.

    A question without clips is left out.

    Args:
        scenes: Scene of each `index` in `judged`.
        judged: The judged clips.
    """
    table = {}
    for question in QUESTIONS:
        answers = []
        for clip in judged:
            scores = clip["scores"]
            told = [scores[name]["passed"] for name in question.needs if name in scores]
            if told and question.asks(scenes[clip["index"]]):
                answers.append((clip["index"], all(told)))
        if answers:
            passed = sum(right for _, right in answers) / len(answers)
            count = len({index for index, _ in answers})
            low, high = confidence.wilson_interval(passed, count)
            table[question.name] = {
                "passed": passed, "low": low, "high": high, "scenes": count, "clips": len(answers)
            }  # fmt: skip
    return table


def format_table(table: Mapping[str, Row]) -> str:
    """Formats a summary: one row per question."""
    rows = [["CompBench-toy: passed, %", "scenes", "all", "bench"]]
    for question in QUESTIONS:
        if row := table.get(question.name):
            share = f"{100 * row['passed']:.1f} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
            rows.append([question.name, str(row["scenes"]), share, question.bench])
    return tables.align(rows)
