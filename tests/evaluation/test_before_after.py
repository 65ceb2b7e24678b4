# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs judged before and after, and tables of such runs."""

import dataclasses
import json
import pathlib
import shutil
import types

import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.errors import InputError
from mimir_jax.evaluation import CATEGORIES, before_after, confidence, sweep, sweep_report
from mimir_jax.evaluation.config import WORDINGS
from mimir_jax.systems import ablations
from mimir_jax.training import loop


@pytest.fixture
def run(mimir_run, replace):
    """A run of two steps that is judged on two scenes, on one device."""
    data = replace(mimir_run.data, toyworld=c.ToyworldConfig(num_scenes=8, variety="single"))
    judge = c.JudgeConfig(scenes=2, steps=2, batch_size=4, shown=1)
    text = replace(mimir_run.system.text, length=48)
    system = replace(mimir_run.system, sample_prompts=0, text=text)
    model = replace(system.model, dit=replace(system.model.dit, text_length=48))
    system = replace(system, model=model)
    return replace(
        mimir_run, system=system, data=data, judge=judge, steps=2, mesh=c.MeshConfig(data=8)
    )


@pytest.mark.slow
def test_a_run_is_judged_before_and_after_and_a_longer_one_at_its_end_alone(
    run, tmp_path, replace, monkeypatch
):
    loop.train(run, tmp_path)
    seen = []
    report = before_after.judge_run(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12) and "held-out scenes" in report.text
    assert [path.name for path in report.paths] == ["before_after.png", "judge.json"]
    table = json.loads((tmp_path / "judge.json").read_text())
    assert set(table) == set(WORDINGS)
    for cell in (cell for row in table.values() for cell in row.values()):
        assert 0 <= cell["before_low"] <= cell["before"] <= cell["before_high"] <= 100
        assert 0 <= cell["after_low"] <= cell["after"] <= cell["after_high"] <= 100
        assert cell["scenes"] in (1, 2)
    assert (tmp_path / "before_after.png").stat().st_size > 0

    loop.train(replace(run, steps=3), tmp_path)
    judged = []
    judge = before_after.toyworld.judge_samples

    def counted(samples, pipeline, folder, **options):
        judged.append((folder.name, (folder / "clips.jsonl").exists()))
        return judge(samples, pipeline, folder, **options)

    monkeypatch.setattr(before_after.toyworld, "judge_samples", counted)
    before_after.judge_run(tmp_path, lambda done, total: None)
    assert judged == [("0", True), ("3", False)]


def test_systems_that_make_no_videos_are_not_judged(vae_run, replace):
    with pytest.raises(
        InputError, match="judge.scenes must be 0 for a system that makes no videos"
    ):
        replace(vae_run, judge=c.JudgeConfig(scenes=1))


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_stop_and_reports(run, tmp_path, monkeypatch):
    cells = ablations.find_ablation(run.system).select(["baseline", "mimir"])
    train, trained = loop.train, []

    def stopping(config, workdir, **options):
        trained.append(workdir.name)
        if trained == ["baseline-0", "mimir-0"]:
            raise KeyboardInterrupt
        return train(config, workdir, **options)

    monkeypatch.setattr(loop, "train", stopping)
    said = []
    with pytest.raises(KeyboardInterrupt):
        sweep.run_sweep(run, cells, range(2), tmp_path / "s", said.append)
    sweep.run_sweep(run, cells, range(2), tmp_path / "s", said.append)
    assert trained == ["baseline-0", "mimir-0", "mimir-0", "baseline-1", "mimir-1"]
    assert len(list((tmp_path / "s" / "features").iterdir())) == 2  # shared by cells of a seed

    text = sweep_report.write_report(tmp_path / "s", ablations.find_ablation(run.system))
    assert "| mimir |" in text and "| start |" in text and "not run" in text
    assert "| decoder_only | 94.66 |" in text
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert {"report.md", "table.csv", "clips.csv", "wide.png", "sheet-wide.png"} <= names

    changed = dataclasses.replace(run, batch_size=16)
    with pytest.raises(InputError, match="config.batch_size is 8 there and 16 here"):
        sweep.run_sweep(changed, cells, range(2), tmp_path / "s")
    with pytest.raises(InputError, match="must hold a judged run, found none"):
        (tmp_path / "t").mkdir()
        (tmp_path / "t" / "settings.json").write_text('{"steps": 2}')
        sweep_report.write_report(tmp_path / "t", ablations.find_ablation(run.system))

    # Settings and verdicts alone go on with another seed and another cell.
    (tmp_path / "u").mkdir()
    for name in ("settings.json", "clips.csv"):
        shutil.copy(tmp_path / "s" / name, tmp_path / "u")
    trained.clear()
    sweep.run_sweep(run, cells, range(2), tmp_path / "u")
    assert not trained
    more = ablations.find_ablation(run.system).select(["mimir", "query"])
    with sweep.claims_lib.Claims(tmp_path / "u/claims").claim("mimir-2"):  # by another process
        monkeypatch.setattr(sweep.time, "sleep", lambda seconds: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sweep.run_sweep(run, more, range(3), tmp_path / "u")
    assert trained == ["query-0", "query-1", "query-2"]
    found = sweep_report.write_report(tmp_path / "u", ablations.find_ablation(run.system))
    assert "baseline 2, mimir 2, query 3." in found
    other = {"query": {"system.text.llm_tokens": "answer"}}
    with pytest.raises(InputError, match="cell query is .*query.* there and .*answer.* here"):
        sweep.run_sweep(run, other, range(1), tmp_path / "u")


def test_the_start_of_a_sweep_is_judged_by_one_process(tmp_path, monkeypatch):
    run = c.from_config_dict(c.TrainConfig, c.find_config("mimir"))
    run = sweep.apply(run, {"judge.scenes": 2})
    plan = before_after.plan(run.judge, run.data.toyworld.variety)
    line = {"name": "a", "index": 0, "style": "wide", "prompt": "a", "scores": {}}
    ran = []

    def stand_in(variant, workdir, start, judging, say):
        ran.append((workdir.name, start is not None))
        for folder in filter(None, (start, sweep.judged_folder(workdir, variant))):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "clips.jsonl").write_text(f"{json.dumps(line)}\n" * len(plan))

    monkeypatch.setattr(sweep, "train_and_judge", stand_in)
    monkeypatch.setattr(sweep, "with_features", lambda variant, *rest: variant)
    monkeypatch.setattr(sweep.time, "sleep", lambda seconds: 1 / 0)
    claims = tmp_path / "claims"
    claims.mkdir()  # a folder that another process has begun
    with sweep.claims_lib.Claims(claims).claim(ablations.START), pytest.raises(ZeroDivisionError):
        sweep.run_sweep(run, {"mimir": {}}, range(2), tmp_path)
    assert ran == [("mimir-0", False), ("mimir-1", False)]
    sweep.run_sweep(run, {"mimir": {}}, range(2), tmp_path)
    assert ran[2:] == [("mimir-0", True)] and not list(claims.iterdir())


def test_a_sheet_leaves_out_cells_that_are_not_as_far(tmp_path, monkeypatch):
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    monkeypatch.setattr(before_after, "read_video", lambda folder, name: frames)
    line = {"name": "a", "index": 0, "style": "wide", "prompt": "a", "scores": {}}
    for folder in (tmp_path / ablations.START, tmp_path / "runs/mimir-0/judge/2"):
        (folder / "videos").mkdir(parents=True)
        (folder / "clips.jsonl").write_text(f"{json.dumps(line)}\n")
    (tmp_path / ablations.START / "videos/a.mp4").touch()
    sweep_report.draw_sheets(tmp_path, 2, [ablations.START, "mimir"], WORDINGS)
    assert [path.name for path in tmp_path.glob("*.png")] == ["sheet-wide.png"]


@pytest.mark.parametrize("line", ["mimir,0,0,wide,2,,,,,,", "mimir,x,0,wide", "mimir,0,0"])
def test_verdicts_that_are_none_are_named(tmp_path, line):
    (tmp_path / "settings.json").write_text('{"steps": 2}')
    head = ["cell", "seed", "scene", "wording", *CATEGORIES]
    (tmp_path / "clips.csv").write_text(",".join(head) + f"\n{line}\n")
    with pytest.raises(InputError, match="clips.csv line 2 must hold cell, seed, scene"):
        sweep_report.write_report(tmp_path, ablations.Ablation({}, {}))


@pytest.mark.parametrize("name", ablations.find_ablation(c.MimirSystemConfig(
    vae_path="v", text=c.TextConfig(t5_path="t", llm_path="l"))).cells)  # fmt: skip
def test_every_cell_of_the_ablation_is_a_run(name):
    run = c.from_config_dict(c.TrainConfig, c.find_config("mimir"))
    cell = ablations.find_ablation(run.system).cells[name]
    assert sweep.apply(run, cell) != run or name == "mimir"


def test_the_report_gives_the_mean_of_each_seed(tmp_path):
    (tmp_path / "settings.json").write_text('{"steps": 2}')
    lines = [["cell", "seed", "scene", "wording", *CATEGORIES]]
    for cell, seed, passes in (("start", 0, "0"), ("mimir", 1, "1"), ("mimir", 0, "0")):
        marks = [passes if k in ("colour", "count") else "" for k in CATEGORIES]
        lines += [[cell, str(seed), "0", wording, *marks] for wording in WORDINGS]
    (tmp_path / "clips.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    found = sweep_report.write_report(tmp_path, ablations.Ablation({"mimir": {}}, {}))
    assert found.count("| mimir | 0, 100 | 50 (0 to 100) |") == len(WORDINGS)
    assert found.count("| start | 0 | 0 (0 to 0) |") == len(WORDINGS)


def test_unknown_cells_and_systems_are_named(vae_run):
    ablation = ablations.find_ablation(
        c.from_config_dict(c.TrainConfig, c.find_config("mimir")).system
    )
    assert len(ablation.select(["paper", "query"])) == 8
    with pytest.raises(InputError, match="--cells must be of paper, more, .* got 'nom'"):
        ablation.select(["nom"])
    with pytest.raises(InputError, match="must have an ablation to run, got vae"):
        ablations.find_ablation(vae_run.system)


def clips(passed):
    return [
        {"index": i, "style": "wide", "scores": {"colour": {"passed": bool(x), "value": float(x)}}}
        for i, x in enumerate(passed)
    ]


@pytest.mark.parametrize(
    ("cell", "other", "margin", "verdict"),
    [
        ([1] * 20, [0] * 20, None, "confirmed"),
        ([0] * 20, [1] * 20, None, "refuted"),
        ([1, 0] * 10, [0, 1] * 10, None, "undecided"),
        ([1, 0] * 10, [1, 0] * 10, 5.0, "confirmed"),
        ([1] * 20, [0] * 20, 5.0, "refuted"),
    ],
)
def test_predictions_end_by_their_interval(cell, other, margin, verdict):
    judged = {"a": {0: clips(cell), 1: clips(cell)}, "b": {0: clips(other), 1: clips(other)}}
    prediction = ablations.Prediction("a against b", "a", "b", margin)
    assert sweep_report.check_prediction(prediction, judged, "wide")[2] == verdict


def test_predictions_pair_the_seeds_that_both_cells_have():
    right, wrong = clips([1] * 20), clips([0] * 20)
    judged = {ablations.START: {0: wrong}, "a": {0: right, 2: wrong}, "b": {1: right, 2: right}}
    check = lambda *names: sweep_report.check_prediction(  # noqa: E731
        ablations.Prediction("", *names), judged, "wide"
    )
    assert check("a", "b")[::2] == ["-100.0", "refuted, one seed"]  # seed 2
    assert check("a", ablations.START)[0] == "+50.0"  # both seeds of a
    assert check(ablations.START, "b")[:1] + check(ablations.START, "b")[2:] == [
        "-100.0",
        "refuted",
    ]
    assert check("a", "c") == ["-", "-", "not run"]


def test_intervals_widen_with_what_seeds_and_scenes_differ_in():
    same = np.ones((3, 40)) * 0.5
    assert confidence.nested_bootstrap_interval(same) == (0.5, 0.5)
    by_seed = same + np.array([-0.3, 0.0, 0.3])[:, None]
    low, high = confidence.nested_bootstrap_interval(by_seed)
    assert low < 0.35 and high > 0.65
    by_seed[0, :5] = np.nan
    assert np.isfinite(confidence.nested_bootstrap_interval(by_seed)).all()


def test_rows_share_features_of_their_own_data(run, tmp_path, monkeypatch):
    """The features of a row hold what all rows read, and the clips that it trains on."""
    written = []

    def write(config, path):
        written.append(config)
        return types.SimpleNamespace(made=0)

    monkeypatch.setattr(sweep.precompute, "write_features", write)
    images = {
        "data.buckets.area": 1024,
        "data.buckets.frames": [1, 9],
        "data.toyworld.deal": [3, 1],
    }
    for overrides in ({}, {"system.ablation": "baseline"}, images):
        row = sweep.apply(run, overrides)
        prepared = sweep.with_features(row, run, tmp_path, print)
        assert written[-1].data == row.data and written[-1].system.ablation == "mimir"
        assert prepared.system == row.system
    paths = [
        pathlib.Path(sweep.with_features(sweep.apply(run, o), run, tmp_path, print).data.features)
        for o in ({}, images)
    ]
    assert paths[0] != paths[1]
