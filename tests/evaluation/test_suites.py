# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import numpy as np
import pytest

from mimir_jax import evaluation, files
from mimir_jax.data import toyworld as world
from mimir_jax.evaluation import confidence, results
from mimir_jax.evaluation.judge import prompt_coverage
from mimir_jax.evaluation.suites import heldout, toyworld, vbench


class Renderer:
    """A model that knows the world: it renders the scene of each prompt, or one of other shapes."""

    fps = 8.0

    def __init__(self, asks, wrong=()):
        self.scenes = {ask.prompt: ask.scene for ask in asks}
        self.wrong = dict.fromkeys(wrong)
        self.calls = 0

    def generate(self, prompts, seeds, *, batch_size):
        self.calls += 1
        scenes = [self.scenes[prompt] for prompt in prompts]
        scenes = [
            unlike(scene) if p in self.wrong else scene
            for p, scene in zip(prompts, scenes, strict=True)
        ]
        return np.stack([world.render(scene) for scene in scenes])


def unlike(scene):
    """Returns a scene without any of the shapes of `scene`."""
    shapes = {group.shape for group in scene.groups}
    others = (world.sample(7, "validation", index) for index in range(1000))
    return next(o for o in others if not shapes & {group.shape for group in o.groups})


def test_long_captions_tell_everything_and_others_no_more_than_they_say():
    for index in range(60):
        scene = world.sample(1, "validation", index)
        for variant in range(6):
            long = prompt_coverage.mentioned_categories(
                scene, world.caption(scene, "long", variant)
            )
            assert long >= set(evaluation.CATEGORIES) - {"multiple_objects"}
            assert ("multiple_objects" in long) or len(scene.groups) < 2
            coarse = prompt_coverage.mentioned_categories(
                scene, world.caption(scene, "coarse", variant)
            )
            assert not coarse & {"size", "action_order"} or not scene.actions
    scene = world.sample(1, "validation", 0, "single")
    (group,) = scene.groups
    assert prompt_coverage.mentioned_categories(scene, f"a {group.colour} thing") == {
        "colour", "spatial_relation", "background_consistency", "imaging_quality",
        *({"count"} if group.count == 1 else set()),
        *({"action", "action_order"} if not scene.actions else set()),
    }  # fmt: skip


def test_wilson_interval_against_known_values():
    np.testing.assert_allclose(confidence.wilson_interval(0.5, 10), (0.2366, 0.7634), atol=1e-4)
    np.testing.assert_allclose(confidence.wilson_interval(0.0, 20), (0.0, 0.1611), atol=1e-4)
    assert confidence.wilson_interval(0.3, 0) == (0.0, 1.0)
    low, high = confidence.bootstrap_interval(np.arange(10.0), np.ones(10, int))
    assert 2.5 < low < 3.5 and 5.5 < high < 6.5
    # A large group weighs as much as its values do in the mean itself, 300 / 309.
    low, high = confidence.bootstrap_interval(
        np.array([300.0] + [0.0] * 9), np.array([300] + [1] * 9)
    )
    assert low < 300 / 309 <= high


def test_plan_covers_every_category_and_keeps_what_was_asked():
    asks = toyworld.plan(split="heldout", scenery="varied", scenes=3, seeds=2)
    assert len({ask.name for ask in asks}) == len(asks)
    for category in evaluation.CATEGORIES:
        scenes = {ask.index for ask in asks if ask.style == "long" and category in ask.categories}
        assert len(scenes) >= 3, category
    assert all(world.is_heldout(ask.scene) for ask in asks)
    later = toyworld.plan(split="heldout", scenery="varied", scenes=3, seeds=2, seed=5)
    assert {ask.seed for ask in asks} == {0, 1} and {ask.seed for ask in later} == {5, 6}
    assert [ask.prompt for ask in later] == [ask.prompt for ask in asks]
    for wrong in ({"scenes": 0}, {"scenes": 1, "seeds": 0}, {"scenes": 1, "styles": ()}):
        with pytest.raises(ValueError, match="must be at least 1 to evaluate any video, got 0"):
            toyworld.plan(split="heldout", scenery="single", **wrong)


def test_a_perfect_model_passes_a_wrong_one_fails_and_a_stopped_run_goes_on(tmp_path):
    asks = toyworld.plan(split="validation", scenery="single", scenes=2, styles=("long",))
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    toyworld.run(asks[:2], Renderer(asks), good, batch_size=2)
    with (good / toyworld.CLIPS).open("a") as file:
        file.write('{"name": "cut off')
    maker = Renderer(asks)
    lines = toyworld.run(asks, maker, good, batch_size=2)
    assert maker.calls == -(-(len(asks) - 2) // 2)
    assert [line["name"] for line in lines] == [ask.name for ask in asks]
    assert len(list((good / "videos").glob("*.mp4"))) == len(asks)
    summary = toyworld.summarise(lines)
    assert all(cells["all"]["passed"] == 1.0 for cells in summary.values())
    assert {"object_class", "colour", "count", "layout", "action"} <= set(summary)
    assert "colour" in toyworld.text(summary) and "100.0 (" in toyworld.text(summary)
    assert toyworld.csv_text(summary).startswith("category,style,scenes,clips,value,passed,")

    toyworld.run(asks, Renderer(asks, wrong=[a.prompt for a in asks]), bad, batch_size=2)
    assert toyworld.summarise(toyworld.read_clips(bad))["object_class"]["all"]["passed"] < 0.5
    result = toyworld.compare({n: toyworld.read_clips(tmp_path / n) for n in ("good", "bad")})
    row = result["categories"]["object_class"]
    assert result["clips"] == len(asks) and row["difference"]["bad"]["mean"] < -0.5
    assert toyworld.shares(result)["good"]["colour"][0] == 1.0
    assert "(-" in toyworld.comparison_text(result)
    with pytest.raises(ValueError, match="good and none share none"):
        toyworld.compare({"good": lines, "none": []})


def clip(**changed):
    score = {"value": 1.0, "passed": True, "reason": "seen"}
    line = {"name": "0-long-0", "index": 0, "style": "long", "prompt": "a ball", "seed": 0}
    return {**line, "scores": {"colour": score, "count": score}, **changed}


@pytest.mark.parametrize(
    "line, message",
    [
        ("[1]", "name must be a text, got null"),
        (json.dumps(clip(prompt=None)), "prompt must be a text, got null"),
        (json.dumps(clip(index="0")), 'index must be a whole number, got "0"'),
        (json.dumps(clip(scores={"colour": None})), "value of colour must be 0 to 1, got null"),
        (json.dumps(clip(scores={"size": {"value": 1.5, "passed": True}})), "0 to 1, got 1.5"),
        (json.dumps(clip(scores={"size": {"value": float("nan")}})), "must be 0 to 1, got NaN"),
        (json.dumps(clip(scores={"size": {"value": 1.0}})), "passed of size must be true or false"),
        ("{", "Expecting property name"),
    ],
    ids=["list", "prompt", "index", "score", "range", "nan", "passed", "json"],
)
def test_malformed_clips_are_named(tmp_path, line, message):
    (tmp_path / toyworld.CLIPS).write_text(json.dumps(clip()) + f"\n{line}\n")
    with pytest.raises(ValueError, match="line 2 must be a judged clip: ") as error:
        toyworld.read_clips(tmp_path)
    assert message in str(error.value) and str(error.value).endswith("evaluate again")


def test_clips_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"clips.jsonl must hold the judged clips: No such file"):
        toyworld.read_clips(tmp_path)
    (tmp_path / toyworld.CLIPS).write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match="must hold the judged clips: it is not UTF-8"):
        toyworld.read_clips(tmp_path)
    whole = json.dumps(clip()) + "\n"
    (tmp_path / toyworld.CLIPS).write_text(whole + '{"name": "cut')
    assert toyworld.read_clips(tmp_path) == [clip()]
    assert (tmp_path / toyworld.CLIPS).read_text() != whole  # a reader changes nothing


def test_systems_are_compared_where_all_were_judged():
    one = [clip(), clip(name="1-long-0", index=1)]
    other = [clip(), clip(name="1-long-0", index=1, scores={"count": one[0]["scores"]["count"]})]
    result = toyworld.compare({"one": one, "other": other})
    assert {name: row["scenes"] for name, row in result["categories"].items()} == {
        "colour": 1, "count": 2
    }  # fmt: skip
    for lacking in ([clip(scores={})], [clip(prompt="a box")], []):
        with pytest.raises(ValueError, match="one and other share none"):
            toyworld.compare({"one": one, "other": lacking})


def test_result_folders(tmp_path):
    assert not results.claim(tmp_path / "a", {"suite": "loss", "step": 1})
    assert results.claim(tmp_path / "a", {"suite": "loss", "step": 1})
    with pytest.raises(ValueError, match="another evaluation: step is 1 there and 2 here"):
        results.claim(tmp_path / "a", {"suite": "loss", "step": 2})
    results.claim(tmp_path / "c", {"batch_size": 4})
    with pytest.raises(ValueError, match="4 there and 8 here; give --batch_size 4, choose another"):
        results.claim(tmp_path / "c", {"batch_size": 8})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        results.claim(tmp_path / "b", {})
    with pytest.raises(ValueError, match="found none; make them with launch/evaluate.py"):
        results.find_results(tmp_path / "a", "loss")
    (tmp_path / "a" / results.RESULTS).write_text("[1]")
    with pytest.raises(ValueError, match="must hold a JSON object: it holds a list"):
        results.find_results(tmp_path / "a", "loss")
    with pytest.raises(ValueError, match="must be writable: Not a directory; choose another"):
        results.claim(tmp_path / "a" / results.SETTINGS / "x", {})
    files.write_json(tmp_path / "a" / results.RESULTS, {"suite": "loss"})
    with pytest.raises(ValueError, match='of the suite toyworld, got "loss"'):
        results.find_results(tmp_path / "a", "toyworld")

    for step in (300, 1000, None):
        place = results.default(tmp_path, "loss", step, start=step is None)
        place.mkdir(parents=True)
        files.write_json(place / results.RESULTS, {"suite": "loss", "step": step})
    assert results.find_results(tmp_path, "loss")[1]["step"] == 1000  # of a run, its newest


def test_heldout_losses():
    assert heldout.read({"heldout": {"loss": 0.5}}, pathlib.Path("x")) == {"loss": 0.5}
    for wrong in (None, [], {}, {"loss": None}, {"loss": "low"}):
        with pytest.raises(ValueError, match="results in x must hold held-out losses, got"):
            heldout.read({"heldout": wrong}, pathlib.Path("x"))
    text = heldout.text({"x": {"loss": 0.5}, "y": {"loss": 0.25, "psnr": 3.0}})
    assert text.splitlines()[1].split() == ["loss", "0.5000", "0.2500"]
    assert text.splitlines()[2].split() == ["psnr", "-", "3.0000"]


def test_vbench_prompts_and_names(tmp_path):
    (tmp_path / "p.txt").write_text("a bear\na red car\n")
    (tmp_path / "e.txt").write_text("a large bear\na shiny red car\n")
    asks = vbench.plan(tmp_path / "p.txt", enhanced=tmp_path / "e.txt", videos=2, seed=5)
    assert [(a.prompt, a.file, a.seed) for a in asks] == [
        ("a large bear", "a bear-0.mp4", 5), ("a large bear", "a bear-1.mp4", 6),
        ("a shiny red car", "a red car-0.mp4", 5), ("a shiny red car", "a red car-1.mp4", 6),
    ]  # fmt: skip
    entries = [
        {"prompt_en": "a bear", "dimension": ["object_class", "scene"]},
        {"prompt_en": "a bear", "dimension": ["overall_consistency"]},
        {"prompt_en": "someone runs", "dimension": ["human_action"]},
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    assert [a.file for a in vbench.plan(tmp_path / "p.json", videos=1)] == ["a bear-0.mp4"]
    entries.insert(0, entries.pop())  # enhanced prompts are of all entries, in their order
    (tmp_path / "p.json").write_text(json.dumps(entries[:2]))
    (ask,) = vbench.plan(tmp_path / "p.json", enhanced=tmp_path / "e.txt", videos=1)
    assert (ask.file, ask.prompt) == ("a bear-0.mp4", "a shiny red car")

    before = vbench.describe(tmp_path / "e.txt")
    (tmp_path / "e.txt").write_text("a larger bear\na shiny red car\n")
    assert before["file"] == "e.txt" and before != vbench.describe(tmp_path / "e.txt")

    (tmp_path / "one.txt").write_text("one\n")
    (tmp_path / "slash.txt").write_text("a/b\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "unscored.json").write_text(json.dumps(entries[:1]))
    for name, extra, message in (
        ("p.txt", {"enhanced": tmp_path / "one.txt"}, "as many as the prompts"),
        ("slash.txt", {}, "must fit a file name"),
        ("none.txt", {}, "must hold at least one prompt"),
        ("absent.txt", {}, "must be readable text"),
        ("unscored.json", {}, "must hold at least one prompt"),
        ("p.txt", {"videos": 0}, "at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            vbench.plan(tmp_path / name, **extra)
    (tmp_path / "p.json").write_text('[{"prompt": "a"}]')
    with pytest.raises(ValueError, match="must be VBench's JSON"):
        vbench.plan(tmp_path / "p.json")


def test_vbench_videos_are_made_once(tmp_path):
    (tmp_path / "p.txt").write_text("a bear\na car\n")
    asks = vbench.plan(tmp_path / "p.txt", videos=2)

    class Noise:
        fps = 8.0
        calls = 0

        def generate(self, prompts, seeds, *, batch_size):
            self.calls += 1
            return np.zeros((len(prompts), 9, 32, 48, 3), np.uint8)

    maker = Noise()
    vbench.run(asks[:1], maker, tmp_path, batch_size=3)
    vbench.run(asks, maker, tmp_path, batch_size=3)
    assert maker.calls == 2
    assert {p.name for p in (tmp_path / "videos").iterdir()} == {a.file for a in asks}
    assert json.loads((tmp_path / vbench.SEEDS).read_text())["a car-1.mp4"] == 1


def test_vbench_results_in_the_layout_of_table_1(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(
        json.dumps({"object_class": [0.9, [{"video_results": 1}]], "color": [0.5, []]})
    )
    second.write_text(json.dumps({"temporal_style": [0.25, []], "dynamic_degree": [0.4, []]}))
    scores = vbench.read_results([first, second])
    assert scores == {"object_class": 90.0, "color": 50.0, "temporal_style": 25.0}
    lines = vbench.text({"ours": scores}).splitlines()
    assert lines[6].split()[-4:] == ["85.29", "86.50", "78.67", "26.22"]  # Mimir, Table 1
    assert lines[7].split() == ["ours", "-", "-", "-", "90.00", "-", "50.00", "-", "25.00"]
    assert "+2.18" in lines[8]
    for content, message in (
        ("{}", "must hold scores of VBench"),
        ('{"color": ["high"]}', "must give a number for color"),
        ('{"color": [50.0]}', "scores of 0 to 1, got 50.0"),
        ('{"color": [NaN]}', "must give a number"),
        ('{"color": [0.6]}', "must agree with the others"),
        ("not json", "must hold a JSON object"),
    ):
        second.write_text(content)
        with pytest.raises(ValueError, match=message):
            vbench.read_results([first, second])
