# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import numpy as np
import pytest

from mimir_jax import evaluation, files
from mimir_jax.config import MimirSystemConfig, TrainConfig, bridge
from mimir_jax.data import toyworld as world
from mimir_jax.data.toyworld import captions, language
from mimir_jax.errors import InputError
from mimir_jax.evaluation import clips, confidence, results
from mimir_jax.evaluation import config as c
from mimir_jax.evaluation.judge import prompt_coverage
from mimir_jax.evaluation.suites import compare, features, loss, toyworld


class Renderer:
    """A model that knows the world: it renders the scene of each prompt, or one of other shapes."""

    fps, batch_multiple = 8.0, 2
    settings = {"checkpoint": "renderer", "step": 3}  # noqa: RUF012

    def __init__(self, samples, wrong=()):
        self.scenes = {sample.prompt: sample.scene for sample in samples}
        self.wrong = dict.fromkeys(wrong)
        self.calls = 0

    def generate(self, requests, *, batch_size):
        self.calls += 1
        prompts = [request.prompt for request in requests]
        scenes = [self.scenes[prompt] for prompt in prompts]
        scenes = [
            unlike(scene) if p in self.wrong else scene
            for p, scene in zip(prompts, scenes, strict=True)
        ]
        return np.stack([world.render(scene) for scene in scenes])

    def truncated_text(self, request):
        return ""


def unlike(scene):
    """Returns a scene without any of the shapes of `scene`."""
    shapes = {group.shape for group in scene.groups}
    others = (world.sample(7, "validation", index) for index in range(1000))
    return next(o for o in others if not shapes & {group.shape for group in o.groups})


def test_long_captions_tell_everything_and_others_no_more_than_they_say():
    for index in range(24):
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


@pytest.mark.parametrize(
    "make, fields, message",
    [
        (c.ToyworldEvalConfig, {}, "--checkpoint must name a run or the folder of a pipeline"),
        (c.ToyworldEvalConfig, {"scenes": 0}, "--scenes must be at least 1, got 0"),
        (c.ToyworldEvalConfig, {"styles": ()}, "--styles must be of short, .*, got none"),
        (c.ToyworldEvalConfig, {"styles": ("x",)}, "--styles must be of short, .*, got x"),
        (c.LossEvalConfig, {"start": True, "step": 7}, "--start excludes --step, got --step 7"),
        (c.VBenchEvalConfig, {}, "--prompts must name VBench's file of prompts"),
        (c.FeaturesEvalConfig, {"runs": 2}, "--runs must be at least 4, got 2"),
    ],
    ids=["checkpoint", "scenes", "none", "style", "start", "prompts", "runs"],
)
def test_settings_that_cannot_work_are_named(make, fields, message):
    checkpoint = "" if "checkpoint" in message else "a"
    with pytest.raises(InputError, match=message):
        make(checkpoint=checkpoint, **fields)


def test_styles_are_those_of_the_captions():
    assert set(c.ToyworldEvalConfig(checkpoint="a").styles) == set(captions.STYLES)
    assert c.WORDINGS == language.WORDINGS


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


@pytest.mark.slow
def test_plan_covers_every_category_and_keeps_what_was_asked():
    samples = toyworld.plan_samples(split="heldout", variety="varied", scenes=2, seeds=2)
    assert len({sample.name for sample in samples}) == len(samples)
    for category in evaluation.CATEGORIES:
        scenes = {
            sample.index
            for sample in samples
            if sample.style == "long" and category in sample.categories
        }
        assert len(scenes) >= 2, category
    assert all(world.is_heldout(sample.scene) for sample in samples)
    later = toyworld.plan_samples(split="heldout", variety="varied", scenes=2, seeds=2, seed=5)
    assert {sample.seed for sample in samples} == {0, 1} and {sample.seed for sample in later} == {
        5,
        6,
    }
    assert [sample.prompt for sample in later] == [sample.prompt for sample in samples]


def test_a_perfect_model_passes_a_wrong_one_fails_and_a_stopped_run_goes_on(tmp_path):
    samples = toyworld.plan_samples(
        split="validation", variety="single", scenes=2, styles=("long",)
    )
    config = {"split": "validation", "variety": "single", "scenes": 2, "styles": ("long",)}
    config["checkpoint"] = str(tmp_path)

    def evaluate(name, generator):
        folder = tmp_path / name
        settings = c.ToyworldEvalConfig(**config, out=str(folder))
        report = toyworld.evaluate(settings, generator, lambda done, total: None)
        assert all(path.exists() for path in report.paths) and len(report.paths) == 5
        return report.text, clips.read_clips(folder)

    class Stopped(Renderer):
        def generate(self, requests, *, batch_size):
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().generate(requests, batch_size=batch_size)

    with pytest.raises(KeyboardInterrupt):
        evaluate("good", Stopped(samples))
    with (tmp_path / "good" / clips.CLIPS).open("a") as file:
        file.write('{"name": "cut off')
    generator = Renderer(samples)
    text, judged = evaluate("good", generator)
    assert generator.calls == -(-(len(samples) - 2) // 2)
    assert [clip["name"] for clip in judged] == [sample.name for sample in samples]
    assert len(list((tmp_path / "good" / "videos").glob("*.mp4"))) == len(samples)
    summary = toyworld.summarise(judged)
    assert all(cells["all"]["passed"] == 1.0 for cells in summary.values())
    assert {"object_class", "colour", "count", "layout", "action"} <= set(summary)
    assert f"{len(samples)} clips of " in text and "step 3" in text and "100.0 (" in text
    table = (tmp_path / "good" / "results.csv").read_text()
    assert table.startswith("category,style,scenes,clips,value,passed,")

    evaluate("bad", Renderer(samples, wrong=[sample.prompt for sample in samples]))
    report = compare.evaluate(
        c.CompareConfig(out=str(tmp_path / "both")),
        [str(tmp_path / name) for name in ("good", "bad")],
    )
    assert f"{len(samples)} clips in common" in report.text and "(-" in report.text
    result = json.loads((tmp_path / "both" / results.RESULTS).read_text())
    row = result["categories"]["object_class"]
    assert row["passed"]["good"] == 1.0 and row["difference"]["bad"]["mean"] < -0.5
    assert compare.pass_shares(result)["good"]["colour"][0] == 1.0
    assert (tmp_path / "both" / "results.png").stat().st_size > 0
    for places, message in (
        (["good"], "compare needs two or more runs or folders of results, got 1"),
        (["good", "good"], "compare must be given each run once"),
        (["good", "other"], "other must hold results of the suite toyworld, found none; make"),
    ):
        with pytest.raises(InputError, match=message):
            compare.evaluate(c.CompareConfig(), [str(tmp_path / name) for name in places])


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
    (tmp_path / clips.CLIPS).write_text(json.dumps(clip()) + f"\n{line}\n")
    with pytest.raises(ValueError, match="line 2 must be a judged clip: ") as error:
        clips.read_clips(tmp_path)
    assert message in str(error.value) and str(error.value).endswith("evaluate again")


def test_clips_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"clips.jsonl must be readable: No such file"):
        clips.read_clips(tmp_path)
    (tmp_path / clips.CLIPS).write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match="must be UTF-8 text, got byte 0xff"):
        clips.read_clips(tmp_path)
    whole = json.dumps(clip()) + "\n"
    (tmp_path / clips.CLIPS).write_text(whole + '{"name": "cut')
    assert clips.read_clips(tmp_path) == [clip()]
    assert (tmp_path / clips.CLIPS).read_text() != whole  # a reader changes nothing


def test_systems_are_compared_where_all_were_judged():
    one = [clip(), clip(name="1-long-0", index=1)]
    other = [clip(), clip(name="1-long-0", index=1, scores={"count": one[0]["scores"]["count"]})]
    result = compare.compare_clips({"one": one, "other": other})
    assert {name: row["scenes"] for name, row in result["categories"].items()} == {
        "colour": 1, "count": 2
    }  # fmt: skip
    for lacking in ([clip(scores={})], [clip(prompt="a box")], []):
        with pytest.raises(ValueError, match="one and other share none"):
            compare.compare_clips({"one": one, "other": lacking})


def test_result_folders(tmp_path):
    assert not results.claim_results(tmp_path / "a", {"suite": "loss", "step": 1})
    assert results.claim_results(tmp_path / "a", {"suite": "loss", "step": 1})
    with pytest.raises(ValueError, match="another evaluation: step is 1 there and 2 here"):
        results.claim_results(tmp_path / "a", {"suite": "loss", "step": 2})
    results.claim_results(tmp_path / "c", {"batch_size": 4})
    with pytest.raises(ValueError, match="4 there and 8 here; give --batch_size 4, choose another"):
        results.claim_results(tmp_path / "c", {"batch_size": 8})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        results.claim_results(tmp_path / "b", {})
    with pytest.raises(ValueError, match="found none; make them with launch/evaluate.py"):
        results.find_results(tmp_path / "a", "loss")
    (tmp_path / "a" / results.RESULTS).write_text("[1]")
    with pytest.raises(ValueError, match="must be a JSON object, got a list"):
        results.find_results(tmp_path / "a", "loss")
    with pytest.raises(ValueError, match="must be writable: Not a directory; free space or choose"):
        results.claim_results(tmp_path / "a" / results.SETTINGS / "x", {})
    files.write_json(tmp_path / "a" / results.RESULTS, {"suite": "loss"})
    with pytest.raises(ValueError, match='of the suite toyworld, got "loss"'):
        results.find_results(tmp_path / "a", "toyworld")

    for step in (300, 1000, None):
        place = results.default_folder(tmp_path, "loss", step, start=step is None)
        place.mkdir(parents=True)
        files.write_json(place / results.RESULTS, {"suite": "loss", "step": step})
    assert results.find_results(tmp_path, "loss")[1]["step"] == 1000  # of a run, its newest


def test_heldout_losses():
    assert loss.read_losses({"heldout": {"loss": 0.5}}, pathlib.Path("x")) == {"loss": 0.5}
    for wrong in (None, [], {}, {"loss": None}, {"loss": "low"}):
        with pytest.raises(ValueError, match="results in x must hold held-out losses, got"):
            loss.read_losses({"heldout": wrong}, pathlib.Path("x"))
    text = loss.format_table({"x": {"loss": 0.5}, "y": {"loss": 0.25, "psnr": 3.0}})
    assert text.splitlines()[1].split() == ["loss", "0.5000", "0.2500"]
    assert text.splitlines()[2].split() == ["psnr", "-", "3.0000"]


@pytest.mark.parametrize(
    "suite, make_config, message",
    [
        (loss, c.LossEvalConfig, "vae_path must"),
        pytest.param(features, c.FeaturesEvalConfig, "7 is damaged", marks=pytest.mark.slow),
    ],
    ids=["loss", "features"],
)
def test_folders_are_claimed_before_anything_is_computed(suite, make_config, message, tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "7").mkdir(parents=True)  # empty: nothing can be computed
    (run / "config.json").write_text(bridge.to_json(TrainConfig(system=MimirSystemConfig())))
    (tmp_path / "file").touch()
    out = str(tmp_path / "file" / "x")
    with pytest.raises(InputError, match="x must be writable: Not a directory"):
        suite.evaluate(make_config(checkpoint=str(run), out=out))
    with pytest.raises(InputError, match=message):
        suite.evaluate(make_config(checkpoint=str(run)))
    assert not list((run / "evaluation").iterdir())
    with pytest.raises(InputError, match="--step must be a kept step of .*, one of 7, got 6"):
        suite.evaluate(make_config(checkpoint=str(run), step=6))
