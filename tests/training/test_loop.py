# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
import signal
import threading
import time
import types

import jax
import numpy as np
import pytest

from mimir_jax import systems
from mimir_jax.config import TrainConfig, bridge
from mimir_jax.data import loader
from mimir_jax.errors import InputError
from mimir_jax.systems.language import presets as language_presets
from mimir_jax.training import checkpoint, loop, metrics, workdir
from mimir_jax.weights import runs
from tests.training.line_runs import (
    LineEncoder,
    LineSystem,
    final_state,
    line_run,
    losses,
    records,
)

__all__ = ["line_run"]


def claim(folder, config):
    with workdir.claimed(folder, config):
        pass


@pytest.mark.slow
def test_mimir_learns_resumes_to_the_bit_and_reports(mimir_run, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    result = loop.train(mimir_run, whole)
    assert result.step == 6 and not result.interrupted
    assert result.samples[0].name == "sheet.png" and result.samples[1].suffix == ".mp4"
    assert all(path.stat().st_size > 0 for path in result.samples)
    assert set(result.after) == {"loss", "loss_t0_500", "loss_t500_1000"}
    assert result.after != result.before

    # Interrupted after three steps and taken up again: the same numbers.
    def interrupt(step, metrics):
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    result = loop.train(mimir_run, parts, report=interrupt)
    assert result.interrupted and result.step == 3 and result.samples == []
    assert checkpoint.Checkpointer(parts, keep=2).latest_step == 3
    loop.train(mimir_run, parts)
    (state, position), (other, other_position) = (
        final_state(mimir_run, folder) for folder in (whole, parts)
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == other_position and position["batch"] == 6
    assert losses(whole) == losses(parts)
    rates = records(whole)[3]
    assert {"step_seconds", "samples_per_second", "model_tflops_per_second"} <= set(rates)


@pytest.mark.slow
def test_a_run_goes_on_from_another(vae_run, tmp_path, replace):
    loop.train(vae_run, tmp_path / "whole")
    longer = replace(vae_run, steps=3, resume_from=str(tmp_path / "whole"))
    loop.train(longer, tmp_path / "longer")
    assert list(losses(tmp_path / "longer")) == [3]


@pytest.mark.parametrize("name", ["mimir", "vae", "t5", "llm"])
def test_batches_have_the_shapes_that_are_compiled(name, mimir_run, vae_run, replace):
    run = {
        "mimir": mimir_run,
        "vae": vae_run,
        **{k: make() for k, make in language_presets.PRESETS.items()},
    }[name]
    run = replace(run, batch_size=2)
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    batch = encoder.encode(loader.stack([encoder.source("train")[i] for i in range(2)]))
    specs = jax.tree.map(lambda x: (x.shape, x.dtype), system.batch_spec(system.buckets[0]))
    assert jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype), batch) == specs


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("resume_from", ".", "resume_from must be a work directory"),
        pytest.param(
            "init_from",
            "nowhere",
            "weights nowhere must be a folder or a file",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_start_that_is_no_run_is_refused(
    mimir_run, tmp_path, replace, field, value, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        loop.train(replace(mimir_run, **{field: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_workdir_of_another_config_is_refused(vae_run, tmp_path, replace):
    claim(tmp_path, vae_run)
    claim(tmp_path, replace(vae_run, steps=9, log_every=2))
    with pytest.raises(ValueError, match="another config: seed is 0 there and 3 here"):
        claim(tmp_path, replace(vae_run, seed=3))
    stored = bridge.from_values(TrainConfig, json.loads((tmp_path / "config.json").read_text()))
    assert stored.steps == 9


def test_foreign_folder_is_refused_and_left_alone(vae_run, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="must be empty or hold a run of mimir_jax"):
        claim(tmp_path, vae_run)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_vae_trains_with_accumulation(vae_run, tmp_path, replace):
    optimizer = replace(vae_run.optimizer, grad_accumulation=2)
    result = loop.train(replace(vae_run, optimizer=optimizer, batch_size=16), tmp_path / "run")
    assert result.step == 2 and np.isfinite(result.after["psnr"])
    assert result.samples[0].name == "sheet.png"


def test_heldout_data_that_cannot_be_read_leaves_nothing_behind(line_run, tmp_path, monkeypatch):
    def fail(self):
        raise ValueError("clips must have 17 frames")

    monkeypatch.setattr(LineEncoder, "read", fail)
    with pytest.raises(ValueError, match="must have 17 frames"):
        loop.train(line_run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_diverged_loss_stops_the_run(line_run, tmp_path, monkeypatch):
    nan = jax.numpy.float32(np.nan)
    monkeypatch.setattr(LineSystem, "loss", lambda *args: (nan, {}))
    with pytest.raises(FloatingPointError, match="loss must stay finite, step 1 on batch 0 got"):
        loop.train(line_run, tmp_path / "run")


def test_run_that_was_stopped_trains_on_the_batch_that_it_had_drawn_ahead(line_run, tmp_path):
    def report(step, metrics):
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    loop.train(line_run, whole)
    assert loop.train(line_run, parts, report=report).step == 2
    assert final_state(line_run, parts)[1]["batch"] == 2
    loop.train(line_run, parts)
    (state, position), (other, other_position) = (
        final_state(line_run, folder) for folder in (whole, parts)
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == other_position and losses(whole) == losses(parts)


def test_batches_are_made_ahead_in_one_thread_and_their_errors_end_the_run(
    line_run, tmp_path, monkeypatch
):
    threads, reported, ahead = [], [], threading.Event()

    def encode(self, records):
        threads.append(threading.current_thread())
        if len(threads) == 2:
            ahead.set()
        if len(threads) == 3:
            raise ValueError("point 3 must be whole")
        return records["x"]

    def report(step, metrics):
        assert ahead.wait(600)  # the second batch is made before the first step is over
        reported.append(step)

    monkeypatch.setattr(LineEncoder, "encode", encode)
    with pytest.raises(ValueError, match="point 3 must be whole"):
        loop.train(line_run, tmp_path / "run", report=report)
    assert reported == [1, 2] and len(threads) == 3
    assert len(set(threads)) == 1 and not threads[0].is_alive()
    assert threads[0] is not threading.current_thread()


def test_batches_of_split_encoders_are_made_between_steps(line_run, tmp_path, replace, monkeypatch):
    threads = set()

    def encode(self, records):
        threads.add(threading.current_thread())
        return records["x"]

    monkeypatch.setattr(LineEncoder, "encode", encode)
    loop.train(line_run, tmp_path / "ahead")
    assert threading.current_thread() not in threads
    threads.clear()
    loop.train(replace(line_run, mesh=replace(line_run.mesh, shard_frozen=True)), tmp_path / "run")
    assert threads == {threading.current_thread()}
    assert losses(tmp_path / "run") == losses(tmp_path / "ahead")
    assert final_state(line_run, tmp_path / "run")[1]["batch"] == 4


def test_step_time_is_that_of_steps_alone(line_run, tmp_path, replace, monkeypatch):
    now = 0.0

    def lasts(seconds, result=None):
        nonlocal now
        now += seconds
        return result

    clock = types.SimpleNamespace(perf_counter=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(LineEncoder, "evaluate", lambda *_: lasts(100, {"loss": 0.0}))
    monkeypatch.setattr(loop.samples, "write", lambda *_: lasts(1000, []))
    save = checkpoint.Checkpointer.save
    monkeypatch.setattr(checkpoint.Checkpointer, "save", lambda *x: lasts(10_000, save(*x)))
    every = dict(eval_every=1, sample_every=2, checkpoint_every=2, log_every=2)
    loop.train(replace(line_run, steps=6, **every), tmp_path, report=lambda *_: lasts(1))
    found = [r for r in records(tmp_path) if "step_seconds" in r]
    assert [r["step"] for r in found] == [2, 4, 6]
    assert [r["step_seconds"] for r in found] == [1.0] * 3
    assert {r["samples_per_second"] for r in found} == {line_run.batch_size}


def test_utilisation_is_of_the_peak_of_all_devices(line_run, tmp_path, monkeypatch):
    kind = jax.devices()[0].device_kind
    for name, peaks in (("known", {kind: 1e12}), ("unknown", {})):
        monkeypatch.setattr(metrics, "PEAK_FLOPS", peaks)
        loop.train(line_run, tmp_path / name)
    known, unknown = (records(tmp_path / name)[-2] for name in ("known", "unknown"))
    np.testing.assert_allclose(known["mfu"], known["model_tflops_per_second"] / 8)
    assert "mfu" not in unknown and unknown["model_tflops_per_second"] > 0


def flip(folder, pattern):
    """Flips bits in the middle of every file of a checkpoint that matches.

    One bit may be of no effect: not all that Orbax writes is read.
    """
    for file in [file for file in folder.rglob(pattern) if file.stat().st_size]:
        content = bytearray(file.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8] = bytes(x ^ 4 for x in content[middle : middle + 8])
        file.write_bytes(bytes(content))


def test_a_damaged_newest_checkpoint_is_set_aside(line_run, tmp_path, replace, caplog):
    run, whole, parts = replace(line_run, checkpoint_every=2), tmp_path / "a", tmp_path / "b"
    for folder in (whole, parts):
        loop.train(run, folder)
    flip(parts / "checkpoints/4", "sums/metadata")
    with caplog.at_level("WARNING"):
        loop.train(run, parts)
    assert "checkpoints/4 is damaged: " in caplog.text
    assert "it is now 4.damaged, and the run goes on from the one before it" in caplog.text
    kept = {path.name for path in (parts / "checkpoints").iterdir()}
    assert kept == {"4.damaged", "2", "4"}
    (state, position), (other, other_position) = (
        final_state(line_run, folder) for folder in (whole, parts)
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == other_position


@pytest.mark.parametrize("pattern", ["state/**/d/*", "data/metadata", "config/metadata", "sums/*"])
def test_a_run_without_a_whole_checkpoint_is_one_line(line_run, tmp_path, pattern):
    loop.train(line_run, tmp_path)
    flip(tmp_path / "checkpoints/4", pattern)
    with pytest.raises(InputError, match="checkpoints/4 .*; delete that folder to go on") as error:
        loop.train(line_run, tmp_path)
    assert "TensorStore details" not in str(error.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
    if pattern.startswith("s"):
        with pytest.raises(InputError, match="checkpoints/4 .*; delete that folder"):
            runs.open_params(tmp_path).read_all()


def test_a_state_that_is_not_finite_is_not_saved(line_run, tmp_path, replace, monkeypatch):
    loop.train(line_run, tmp_path)

    def loss(self, params, batch, key):  # zero, of a gradient that is no number
        return jax.numpy.sqrt(0 * self.model.apply(params, batch).sum()), {}

    monkeypatch.setattr(LineSystem, "loss", loss)
    with pytest.raises(FloatingPointError, match="grad_norm must stay finite, step 5 on batch 4"):
        loop.train(replace(line_run, steps=5), tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]
