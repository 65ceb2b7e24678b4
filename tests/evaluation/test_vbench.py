# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from mimir_jax.evaluation import config as config_lib
from mimir_jax.evaluation.suites import vbench, vbench_scores


def test_vbench_prompts_and_names(tmp_path):
    (tmp_path / "p.txt").write_text("a bear\na red car\n")
    (tmp_path / "e.txt").write_text("a large bear\na shiny red car\n")
    samples = vbench.plan_samples(tmp_path / "p.txt", enhanced=tmp_path / "e.txt", videos=2, seed=5)
    assert [(a.prompt, a.name, a.seed) for a in samples] == [
        ("a large bear", "a bear-0", 5), ("a large bear", "a bear-1", 6),
        ("a shiny red car", "a red car-0", 5), ("a shiny red car", "a red car-1", 6),
    ]  # fmt: skip
    entries = [
        {"prompt_en": "a bear", "dimension": ["object_class", "scene"]},
        {"prompt_en": "a bear", "dimension": ["overall_consistency"]},
        {"prompt_en": "someone runs", "dimension": ["human_action"]},
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    assert [a.name for a in vbench.plan_samples(tmp_path / "p.json", videos=1)] == ["a bear-0"]
    entries.insert(0, entries.pop())  # enhanced prompts are of all entries, in their order
    (tmp_path / "p.json").write_text(json.dumps(entries[:2]))
    (sample,) = vbench.plan_samples(tmp_path / "p.json", enhanced=tmp_path / "e.txt", videos=1)
    assert (sample.name, sample.prompt) == ("a bear-0", "a shiny red car")

    (tmp_path / "e.txt").write_text("\ufeffa large\u2028bear\r\na shiny red car\r\n", "utf-8")
    (first, _) = vbench.plan_samples(tmp_path / "p.txt", enhanced=tmp_path / "e.txt", videos=1)
    assert first.prompt == "a large\u2028bear"  # a line ends at a line feed alone

    before = vbench.describe_file(tmp_path / "e.txt")
    (tmp_path / "e.txt").write_text("a larger bear\na shiny red car\n")
    assert before["file"] == "e.txt" and before != vbench.describe_file(tmp_path / "e.txt")

    (tmp_path / "one.txt").write_text("one\n")
    (tmp_path / "slash.txt").write_text("a/b\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "unscored.json").write_text(json.dumps(entries[:1]))
    for name, extra, message in (
        ("p.txt", {"enhanced": tmp_path / "one.txt"}, "as many as the prompts"),
        ("slash.txt", {}, "must fit a file name"),
        ("none.txt", {}, "must hold at least one prompt"),
        ("absent.txt", {}, "must be readable: No such file"),
        ("unscored.json", {}, "must hold at least one prompt"),
    ):
        with pytest.raises(ValueError, match=message):
            vbench.plan_samples(tmp_path / name, **extra)
    (tmp_path / "p.json").write_text('[{"prompt": "a"}]')
    with pytest.raises(ValueError, match="must be VBench's JSON"):
        vbench.plan_samples(tmp_path / "p.json")


def test_vbench_videos_are_made_once(tmp_path):
    (tmp_path / "p.txt").write_text("a bear\na car\n")

    class Noise:
        fps, batch_multiple, settings = 8.0, 3, {}  # noqa: RUF012
        calls = 0

        def generate(self, requests, *, batch_size):
            self.calls += 1
            return np.zeros((len(requests), 9, 32, 48, 3), np.uint8)

        def truncated_text(self, request):
            return ""

    def evaluate(generator):
        config = config_lib.VBenchEvalConfig(
            checkpoint=str(tmp_path), prompts=str(tmp_path / "p.txt"), videos_per_prompt=2
        )
        return vbench.evaluate(config, generator, lambda done, total: None)

    generator = Noise()
    report = evaluate(generator)
    (tmp_path / "evaluation" / "vbench" / "videos" / "a car-1.mp4").unlink()
    assert evaluate(generator) == report and generator.calls == 3
    assert {path.name for path in report.paths[0].iterdir()} == {
        "a bear-0.mp4", "a bear-1.mp4", "a car-0.mp4", "a car-1.mp4"
    }  # fmt: skip
    assert json.loads(report.paths[1].read_text())["a car-1.mp4"] == 1


def test_vbench_results_in_the_layout_of_table_1(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(
        json.dumps({"object_class": [0.9, [{"video_results": 1}]], "color": [0.5, []]})
    )
    second.write_text(json.dumps({"temporal_style": [0.25, []], "dynamic_degree": [0.4, []]}))
    scores = vbench_scores.read_scores([first, second])
    assert scores == {"object_class": 90.0, "color": 50.0, "temporal_style": 25.0}
    lines = vbench_scores.format_table({"ours": scores}).splitlines()
    assert lines[6].split()[-4:] == ["85.29", "86.50", "78.67", "26.22"]  # Mimir, Table 1
    assert lines[7].split() == ["ours", "-", "-", "-", "90.00", "-", "50.00", "-", "25.00"]
    assert "+2.18" in lines[8]
    for content, message in (
        ("{}", "must hold scores of VBench"),
        ('{"color": ["high"]}', "must give a number for color"),
        ('{"color": [50.0]}', "scores of 0 to 1, got 50.0"),
        ('{"color": [NaN]}', "must give a number"),
        ('{"color": [0.6]}', "must agree with the others"),
        ("not json", "must be JSON"),
    ):
        second.write_text(content)
        with pytest.raises(ValueError, match=message):
            vbench_scores.read_scores([first, second])
