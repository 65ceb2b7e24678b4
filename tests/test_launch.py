# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from mimir_jax.evaluation.config import WORDINGS
from tests import commands

ROOT = pathlib.Path(__file__).parent.parent


def run(script, *args, cwd=ROOT, timeout=400):
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    command = [sys.executable, str(ROOT / "launch" / script), *map(str, args)]
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )
    return done.returncode, done.stdout, done.stderr


def errors(stderr):
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def test_a_script_is_its_verb():
    code, out, _ = run("train.py", "--help")
    assert code == 0 and out.startswith("usage: python ") and "launch/train.py [--config" in out


@pytest.mark.parametrize(
    "args, message",
    [
        (["--config.data.source=folder", "--config.data.folder.path=nowhere",
          "--config.system.model.dit.num_layers=1"], "nowhere"),
        (["--config", "mimir:5b", "--config.data.source=toyworld"],
         "system.vae_path must name a folder"),
    ],
    ids=["folder", "weights"],
)  # fmt: skip
def test_input_that_cannot_be_read_is_one_line_and_writes_nothing(
    args, message, tmp_path, monkeypatch
):
    enter(tmp_path, monkeypatch)
    assert message in commands.error_of("train", *args, "--workdir", "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_text_model_trains_exports_and_refuses_another_config(tmp_path):
    common = ["--config", "configs/language.py:t5", "--workdir", tmp_path / "run"]
    small = ["--config.steps=2", "--config.batch_size=4", "--config.system.heldout_texts=4"]
    code, out, err = run("train.py", *common, *small)
    assert code == 0, err
    assert "held-out loss:" in out
    again = f"python {ROOT}/launch/train.py --config configs/language.py:t5 --workdir "
    assert f"train longer (its cosine stretched): {again}" in out

    code, out, _ = run("train.py", *common, *small)
    assert code == 0 and "already at step 2" in out

    code, _, err = run("train.py", *common, *small, "--config.seed=5")
    assert code == 1 and "another config: seed is 0 there and 5 here" in errors(err)[0]

    code, out, err = run("convert.py", tmp_path / "run", tmp_path / "w", "--dtype", "float16")
    assert code == 0, err
    assert {"config.json", "manifest.json", "params", "tokenizer.json"} <= {
        p.name for p in (tmp_path / "w").iterdir()
    }
    code, _, err = run("convert.py", tmp_path / "run", tmp_path / "w")
    assert code == 1 and "must not exist" in errors(err)[0]
    code, _, err = run("convert.py", tmp_path, tmp_path / "other")
    assert code == 1 and "must hold a config.json" in errors(err)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the bare command trained Mimir for two steps."""
    folder = tmp_path_factory.mktemp("bare")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        code, out, err = commands.call(
            "train",
            *("--config.steps=2", "--config.batch_size=2", "--config.data.toyworld.num_scenes=8"),
            "--config.data.frames=9",  # compiles in less time than 17
            *("--config.system.text.num_answers=2", "--config.system.text.answer_temperature=0.8"),
            *("--config.system.heldout_clips=2", "--config.system.sample_prompts=1"),
            *("--config.system.sampler.steps=2", "--config.judge.steps=2"),
            *("--config.judge.scenes=1", "--config.judge.batch_size=2", "--config.judge.shown=1"),
        )
    assert code == 0, err
    assert "held-out loss:" in out and "samples: runs/mimir/samples/0000002/sheet.png" in out
    assert "judged before and after on 1 held-out scenes" in out
    assert set(json.loads((folder / "runs/mimir/judge.json").read_text())) == set(WORDINGS)
    assert (folder / "runs/mimir/samples/0000002/00.mp4").stat().st_size > 0
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder of the run, as working directory."""
    enter(folder, monkeypatch)
    return folder


def enter(folder, patch):
    """Works in a folder, on one device."""
    (device, *_) = jax.devices()
    patch.chdir(folder)
    for name in ("devices", "local_devices"):
        patch.setattr(jax, name, lambda: [device])


LONG = "a red ball " + "and a blue box " * 40
SAMPLE = ["--checkpoint", "runs/mimir", "--steps", 2, "--show_answers"]


def test_bare_command_trains_mimir_and_its_run_is_sampled(inside):
    code, out, err = commands.call(
        "sample", *SAMPLE, "--prompt", "a red ball", "--prompt", LONG, "--out", "a"
    )
    assert code == 0, err
    assert "prompt 2 is too long, cut: " in err and "gallery: a/index.html" in out
    names = {"000.mp4", "000.json", "001.mp4", "001.json", "sheet.png", "index.html"}
    assert {path.name for path in (inside / "a").iterdir()} == names
    record = json.loads((inside / "a" / "000.json").read_text())
    assert record["prompt"] == "a red ball" and record["sampler"]["steps"] == 2
    assert record["answer"] and len(record["other_answers"]) == 1
    assert f"  > {record['answer']}"[:60] in out and "  not used: " in out
    assert (record["frames"], record["seed"]) == (9, 0)

    # The same seed gives the same file, whatever else is asked for and whatever ran before.
    code, _, err = commands.call("sample", *SAMPLE, "--prompt", "a red ball", "--out", "b")
    assert code == 0, err
    same = [(inside / name / "000.mp4").read_bytes() for name in "ab"]
    assert same[0] == same[1]


@pytest.mark.slow
def test_a_released_run_makes_the_same_videos_and_cannot_train_on(inside):
    code, out, err = commands.call("convert", "runs/mimir", "released", "--to", "run")
    assert code == 0 and "(run, " in out, err
    assert {path.name for path in (inside / "released").iterdir()} == {"config.json", "weights"}
    for name in ("runs/mimir", "released"):
        sample = ["--checkpoint", name, "--steps", 2, "--prompt", "a red ball"]
        code, _, err = commands.call("sample", *sample, "--out", f"of/{name}")
        assert code == 0, err
    whole, released = (inside / "of" / n / "000" for n in ("runs/mimir", "released"))
    assert whole.with_suffix(".mp4").read_bytes() == released.with_suffix(".mp4").read_bytes()
    assert json.loads(released.with_suffix(".json").read_text())["step"] == 2
    line = commands.error_of("train", "--workdir", "released")
    assert "must hold a run that can go on, got a released one" in line
    line = commands.error_of("convert", "released/weights", "again", "--to", "run")
    assert "--to run needs a run to release" in line and not (inside / "again").exists()


@pytest.mark.parametrize(
    "args, message",
    [
        (["--out", "runs"], "destination runs must not exist"),
        (["--frames", 10], "--frames must be 8N+1"),
        (["--height", 70], "--height must be a multiple of 8"),
        (["--frames", -7], "--frames must be at least 1, got -7"),
        (["--instructions", "none.txt"], "instruction file none.txt must be"),
        (["--checkpoint", "runs"], "must hold config.json"),
        (["--prompt", " "], "prompt 2 must be printable text, got an empty one"),
        (["--prompts", "none.txt"], "prompt file none.txt must be readable"),
    ],
)
def test_samples_that_cannot_be_made_are_one_line_and_write_nothing(inside, args, message):
    line = commands.error_of("sample", *SAMPLE, "--out", "c", "--prompt", "a", *args)
    assert message in line
    assert not (inside / "c").exists()


@pytest.mark.slow
def test_a_run_is_evaluated(inside, caplog):
    checkpoint = ["--checkpoint", "runs/mimir"]
    few = [*checkpoint, "--scenes", 1, "--styles", "long", "--steps", 2, "--batch_size", 2]
    code, out, err = commands.call("evaluate", *few)
    assert code == 0, err
    assert "object_class" in out and "results: runs/mimir/evaluation/toyworld-2/results.csv" in out
    found = {path.name for path in (inside / "runs/mimir/evaluation/toyworld-2").iterdir()}
    assert found == {
        "settings.json", "clips.jsonl", "results.json", "results.csv", "results.png", "videos"
    }  # fmt: skip
    (inside / "prompts.txt").write_text("a red ball\na blue ball\na star\ntwo boxes\n")
    drawn = [*checkpoint, "--prompts", "prompts.txt", "--runs", 4]
    code, out, err = commands.call("evaluate", "features", *drawn)
    assert code == 0, err
    assert "query tokens" in out
    assert (inside / "runs/mimir/evaluation/features-2/features.png").stat().st_size > 0
    code, out, err = commands.call("evaluate", "loss", *checkpoint, "--start")
    assert code == 0 and "loss_t800_1000" in out, err

    (inside / "raw.txt").write_text("a red ball\n")
    (inside / "longer.txt").write_text(f"{LONG}\n")
    asked = [*checkpoint, "--prompts", "raw.txt", "--enhanced", "longer.txt", "--steps", 2]
    asked = ["vbench", *asked, "--videos_per_prompt", 1, "--batch_size", 1]
    code, out, err = commands.call("evaluate", *asked)
    assert code == 0, err
    assert "is too long, cut: " in caplog.text
    assert (inside / "runs/mimir/evaluation/vbench-2/videos/a red ball-0.mp4").stat().st_size > 0

    (inside / "longer.txt").write_text("a small red ball\n")
    for args, message in (
        (asked, 'another evaluation: enhanced is {"sha256": '),
        ([*few, "--seed", 1], "another evaluation: seed is 0 there and 1 here"),
        ([*few, "--step", 1], "step must be a kept one of run runs/mimir (2), got 1"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["compare", "runs/mimir", "runs"], "must hold results of the suite toyworld, found none"),
    ):
        assert message in commands.error_of("evaluate", *args)


@pytest.mark.slow
def test_prepare_completes_a_folder_and_refuses_others(tmp_path):
    small = ["--config", "configs/mimir.py:tiny/baseline", "--config.data.frames=1"]
    small += ["--out", tmp_path / "f", "--count", 2, "--shard_size", 1, "--dtype", "float32"]
    code, out, err = run("precompute.py", *small, "--process_id", 1, "--num_processes", 2)
    assert code == 0, err
    assert not out  # process 0 tells
    next((tmp_path / "f").glob("*-00001-of-*")).unlink()
    code, out, err = run("precompute.py", *small)
    assert code == 0, err
    assert "1 shards made, 1 were there" in out and "--config.data.features=" in out

    code, _, err = run("precompute.py", *small, "--count", 3)
    assert code == 1 and "records is 2 there and 3 here" in errors(err)[0]
    code, _, err = run("precompute.py", "--config", "configs/vae.py", "--out", tmp_path / "g")
    assert code == 1 and "system must encode clips with frozen networks" in errors(err)[0]
