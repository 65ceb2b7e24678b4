# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Linear probes of clip tokens, and the classifier behind them."""

import dataclasses
import json

import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.data.toyworld import sampling, vocabulary
from mimir_jax.errors import InputError
from mimir_jax.evaluation import config as config_lib
from mimir_jax.evaluation.metrics import ridge
from mimir_jax.evaluation.suites import compare, probe
from tests import runs as tiny

TOKENIZER = "package:tiny/divot/clip_tokenizer"
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("width", [12, 200], ids=["narrow", "wider than the rows"])
def test_classes_that_a_line_separates_are_told_apart(width):
    index = RNG.integers(0, 3, 120)
    rows = RNG.normal(size=(120, width)).astype(np.float32)
    rows[:, : width // 4 * 3] += np.repeat(4 * np.eye(3)[index], width // 4, axis=1)
    rows[:, -1] = 7.0  # the same in all
    labels = [f"class {i}" for i in index]
    named = ridge.classify(rows[:90], labels[:90], rows[90:])
    assert np.mean([a == b for a, b in zip(named, labels[90:], strict=True)]) > 0.9


@pytest.mark.parametrize("penalties", [(1e1, 1e-4), (1e-4,), (1e1,)], ids=str)
def test_scores_are_those_of_ridge_regression_and_rows_left_out_choose(penalties, monkeypatch):
    """Against normal equations with an intercept, solved anew without each row."""
    rng = np.random.default_rng(3)
    rows, others = rng.normal(size=(24, 20)), rng.normal(size=(60, 20))
    labels = np.array(["a", "b", "c"])[(2 * rows[:, :2] + rng.normal(size=(24, 2))).argmax(1)]
    labels[:3] = "c"
    mean, std = rows.mean(0), rows.std(0)
    known, seen = (rows - mean) / std, (others - mean) / std
    targets = (labels[:, None] == np.array(["a", "b", "c"])).astype(float)

    def scores(keep, row, penalty):
        x = np.concatenate([known[keep], np.ones((len(keep), 1))], axis=1)
        amount = penalty * (known**2).sum() / 24
        left = x.T @ x + amount * np.diag([1.0] * 20 + [0.0])
        return np.append(row, 1) @ np.linalg.solve(left, x.T @ targets[keep])

    every = np.arange(24)
    right = [sum(scores(np.delete(every, i), known[i], p).argmax() == targets[i].argmax()
                 for i in every) for p in penalties]  # fmt: skip
    assert len(set(right)) == len(right)
    chosen = penalties[int(np.argmax(right))]
    expected = ["abc"[scores(every, row, chosen).argmax()] for row in seen]
    monkeypatch.setattr(ridge, "PENALTIES", penalties)
    assert ridge.classify(rows, labels.tolist(), others) == expected


def scenes(split, count):
    return [sampling.sample(0, split, i, "single") for i in range(count)]


def features(group):
    """Tokens that hold the colour alone, beside noise; pixels of noise."""
    colours = [list(vocabulary.COLOURS).index(scene.groups[0].colour) for scene in group]
    noise = RNG.normal(size=(len(group), 12))
    return {"tokens": np.concatenate([5 * np.eye(8)[colours], noise], axis=1), "pixels": noise}


def test_an_attribute_is_read_where_tokens_hold_it():
    fit, others = scenes("train", 160), scenes("validation", 80)
    probed = probe.probe(fit, others, features(fit), features(others))
    assert {"object_class", "colour", "count", "layout", "action", "background"} <= set(probed)
    assert "light" not in probed  # is day in all of them
    assert all(len(scene.actions) == 1 for i, scene in enumerate(others) if i in
               probed["action"].scenes)  # fmt: skip
    assert set(probed["count"].true) >= {"one", "two"}
    summary = probe.summarise(probed)
    assert summary["colour"]["tokens"] == 1.0 and summary["colour"]["scenes"] == 80
    assert summary["colour"]["pixels"] < 0.5 > summary["background"]["tokens"]
    low, high = summary["colour"]["interval"]
    assert 0.9 < low and high == pytest.approx(1.0)
    most = max(probed["colour"].true.count(value) for value in set(probed["colour"].true))
    assert summary["colour"]["chance"] == most / 80
    assert "100.0 (95 to 100)" in probe.format_table(summary)


def test_tokenizers_are_probed_and_set_side_by_side(tmp_path):
    made = dict(checkpoint=TOKENIZER, fit_scenes=60, scenes=24)
    for name in "ab":
        config = config_lib.ProbeEvalConfig(**made, out=str(tmp_path / name))
        report = probe.evaluate(config)
    found = json.loads((tmp_path / "a/results.json").read_text())
    assert found["attributes"]["background"]["tokens"] > 0.5 and found["variety"] == "single"
    lines = (tmp_path / "a/clips.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 24 and first["scores"]["colour"]["reason"].startswith("reads ")
    assert "60 scenes to fit, 24 to score, step " in report.text
    table = compare.evaluate(
        config_lib.CompareConfig(suite="probe"), [str(tmp_path / name) for name in "ab"]
    ).text
    assert "24 clips in common" in table and "(+0.0: +0.0 to +0.0)" in table


@pytest.mark.parametrize("kind", ["divot", "clip_captioning"])
def test_the_start_of_a_run_is_probed_too(kind, frozen, tmp_path):
    run = tiny.divot_run(frozen)
    if kind == "clip_captioning":
        llm = c.LLMConfig(
            vocab_size=2442, width=20, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8,
            mlp_dim=24,
        )  # fmt: skip
        model = c.ClipCaptionerConfig(tokenizer=run.system.model.tokenizer, llm=llm)
        system = c.ClipCaptioningSystemConfig(
            model=model, tokenizer_path="package:tiny/llm", max_length=40
        )
        run = dataclasses.replace(run, system=system)
    (tmp_path / "config.json").write_text(bridge.to_json(run))
    opened = probe.open_tokenizer(config_lib.ProbeEvalConfig(checkpoint=str(tmp_path), start=True))
    shape = (opened.frames, opened.height, opened.width, 3)
    tokenizer = run.system.model.tokenizer
    assert shape == (run.data.frames, run.data.height, run.data.width, 3) and opened.step == 0
    tokens = opened.tokens.encode(np.zeros(shape, np.uint8))
    assert tokens.shape == (1, tokenizer.num_tokens, tokenizer.token_width)


def test_what_has_no_tokens_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(bridge.to_json(tiny.vae_run()))
    config = config_lib.ProbeEvalConfig(checkpoint=str(tmp_path), start=True)
    with pytest.raises(InputError, match="must hold a tokenizer of clips, got a VAEConfig"):
        probe.evaluate(config)
    config = config_lib.ProbeEvalConfig(checkpoint="package:tiny/vae", start=True)
    with pytest.raises(InputError, match="--step and --start must be left out for .*vae, which"):
        probe.evaluate(config)
    config = config_lib.ProbeEvalConfig(
        checkpoint=TOKENIZER, fit_scenes=2, scenes=2, out=str(tmp_path / "few")
    )
    with pytest.raises(InputError, match="an attribute with two values and 8 scenes, got 2 and 2"):
        probe.evaluate(config)
    with pytest.raises(ValueError, match="fit_scenes must be at least 2, got 1"):
        config_lib.ProbeEvalConfig(fit_scenes=1)
