# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run survives, on a system that compiles in no time; `tests/faults` tries the program."""

import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator

from mimir_jax import weights
from mimir_jax.errors import DivergenceError, InputError
from mimir_jax.training import checkpoint, loop, metrics, prefetch, replay, watchdog, workdir
from mimir_jax.weights import runs
from tests.training.line_runs import LineEncoder, final_state, line_run, losses

__all__ = ["line_run"]


def history(folder):
    lines = (folder / workdir.HISTORY).read_text().splitlines()
    return [json.loads(line) for line in lines]


def stop_at(step):
    return lambda now, _: signal.raise_signal(signal.SIGTERM) if now == step else None


@pytest.mark.slow
def test_damaged_newest_checkpoint_is_set_aside_and_the_run_ends_the_same(
    line_run, tmp_path, replace
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = replace(line_run, checkpoint_every=1, keep_checkpoints=3)
    loop.train(run, whole)
    loop.train(run, parts, report=stop_at(3))
    assert len(weights.verify(parts)) == 3
    data = parts / "checkpoints/3/data/metadata"
    data.write_text(data.read_text().replace('"batch": 3', '"batch": 2'))
    with pytest.raises(InputError, match="checkpoints/3 must hold what was saved, its data"):
        weights.verify(parts)
    with (parts / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # torn
    assert loop.train(run, parts).step == 4
    assert (parts / "checkpoints/3.damaged").is_dir()
    (state, position), (other, other_position) = (final_state(run, f) for f in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == other_position
    assert list(losses(parts)) == [1, 2, 3, 4] and losses(parts) == losses(whole)


def test_a_config_that_has_changed_on_disk_is_noticed(line_run, tmp_path, replace):
    run = replace(line_run, steps=1)
    loop.train(run, tmp_path)
    path, history_path = tmp_path / "config.json", tmp_path / workdir.HISTORY
    good = path.read_text()
    assert [event["event"] for event in history(tmp_path)] == ["config", "start"]
    path.write_text(good.replace('"seed": 0', '"seed": 1'))
    for work in (lambda: loop.train(run, tmp_path), lambda: runs.read_config(tmp_path)):
        with pytest.raises(InputError, match="must be as a start wrote it, it has changed since"):
            work()
    path.write_text(json.dumps(json.loads(good)))  # the same in another spelling
    assert runs.read_config(tmp_path) == run
    history_path.write_bytes(b"\xff{\n" + history_path.read_bytes())
    loop.train(replace(run, steps=2), tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / workdir.HISTORY).touch()  # all that a start left that was cut off
    loop.train(run, tmp_path / "new")


def diverging(monkeypatch, batches):
    """Makes the loss NaN on batches by their number; `x` of a record depends on its index alone."""
    seen = []

    def encode(self, records):
        seen.append(records["x"])
        factor = np.float32(np.nan if len(seen) - 1 in batches else 1)
        return records["x"] * factor

    monkeypatch.setattr(LineEncoder, "encode", encode)


def test_divergence_stops_with_the_records_of_its_batch(line_run, tmp_path, replace, monkeypatch):
    diverging(monkeypatch, {2})
    run = replace(line_run, steps=9, checkpoint_every=1, keep_checkpoints=9)
    with pytest.raises(DivergenceError, match=r"loss must stay .*step 3 on batch 2 got loss nan"):
        loop.train(run, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["1", "2"]
    diverged = history(tmp_path)[-1]
    assert (diverged["event"], diverged["step"], diverged["batch"]) == ("diverged", 3, 2)
    assert len(diverged["ids"]) == run.batch_size


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_divergence_is_survived(line_run, tmp_path, replace, monkeypatch, policy):
    diverging(monkeypatch, {2})
    chosen = replace(line_run.divergence, policy=policy)
    run = replace(line_run, steps=6, divergence=chosen, checkpoint_every=2)
    assert loop.train(run, tmp_path).step == 6
    state, position = final_state(run, tmp_path)
    assert np.isfinite(state.params["slope"]).all()
    assert position["batch"] == (6 if policy == "skip" else 7)
    assert list(losses(tmp_path)) == [1, 2, 3, 4, 5, 6]
    assert np.isnan(losses(tmp_path)[3]) == (policy == "skip")


def test_the_state_that_diverged_is_gone_before_another_is_read(
    line_run, tmp_path, replace, monkeypatch
):
    diverging(monkeypatch, {2})
    restore, alive = checkpoint.Checkpointer.restore, []

    def recorded(self, abstract):
        weights = [x for x in jax.live_arrays() if x.shape == (4, 1)]  # Orbax has some too
        alive.append(sum(bool(np.isnan(x).any()) for x in weights))
        return restore(self, abstract)

    monkeypatch.setattr(checkpoint.Checkpointer, "restore", recorded)
    chosen = replace(line_run.divergence, policy="rollback")
    loop.train(replace(line_run, divergence=chosen, checkpoint_every=2), tmp_path)
    assert alive == [0]


def test_divergence_has_a_limit(line_run, tmp_path, replace, monkeypatch):
    diverging(monkeypatch, set(range(99)))
    run = replace(line_run, divergence=replace(line_run.divergence, policy="skip", limit=2))
    with pytest.raises(DivergenceError, match="after 2 times of policy skip"):
        loop.train(run, tmp_path)


def test_learning_rate_may_change_and_the_change_is_recorded(line_run, tmp_path, replace):
    loop.train(replace(line_run, steps=2), tmp_path)
    optimizer = replace(line_run.optimizer, learning_rate=0.5, clip_norm=0.1)
    loop.train(replace(line_run, optimizer=optimizer), tmp_path)
    changed = history(tmp_path)[-1]["changed"]
    assert changed["optimizer.learning_rate"] == [line_run.optimizer.learning_rate, 0.5]
    assert set(changed) == {"steps", "optimizer.learning_rate", "optimizer.clip_norm"}


def test_a_step_is_run_again(line_run, tmp_path, replace):
    run = replace(line_run, checkpoint_every=1, keep_checkpoints=9)
    loop.train(run, tmp_path)
    before = sorted(path for path in tmp_path.rglob("*"))
    found = replay.replay(run, tmp_path, 3)
    assert (found.start, found.batch, found.broken) == (2, 2, [])
    assert found.values["loss"] == found.recorded["loss"] == losses(tmp_path)[3]
    assert "the same" in found.lines(3)[1] and len(found.ids) == run.batch_size
    assert sorted(path for path in tmp_path.rglob("*")) == before
    with pytest.raises(InputError, match="--replay must name a step after a kept checkpoint"):
        replay.replay(run, tmp_path, 1)


def test_the_last_step_is_run_again_with_the_learning_rates_of_the_run(line_run, tmp_path, replace):
    cosine = replace(line_run.optimizer, schedule="cosine", learning_rate=0.1, warmup_steps=0)
    run = replace(line_run, optimizer=cosine, checkpoint_every=1, keep_checkpoints=9)
    loop.train(run, tmp_path)
    for step in (2, 3):
        shutil.rmtree(tmp_path / "checkpoints" / str(step))
    found = replay.replay(run, tmp_path, 4)
    assert found.start == 1 and found.values["loss"] == losses(tmp_path)[4]


def test_two_writers_are_refused_and_a_dead_one_is_not(line_run, tmp_path):
    with workdir.claimed(tmp_path, line_run):
        with pytest.raises(InputError, match=f"one writer, process {os.getpid()} on"):
            loop.train(line_run, tmp_path)
    lock = tmp_path / "lock.json"
    assert not lock.exists()
    owner = {"host": "elsewhere", "pid": 7, "beat": time.time()}
    lock.write_text(json.dumps(owner))
    with pytest.raises(InputError, match="one writer, process 7 on elsewhere"):
        workdir.require_writable(tmp_path)
    lock.write_text(json.dumps(owner | {"beat": time.time() - 999}))
    workdir.require_writable(tmp_path)


def test_checkpoints_are_kept_by_number_by_period_and_by_loss(
    line_run, tmp_path, replace, monkeypatch
):
    values = iter([9.0, 5.0, 1.0, 6.0, 7.0, 8.0, 8.0, 8.0, 8.0])
    monkeypatch.setattr(LineEncoder, "evaluate", lambda self, params: {"loss": next(values)})
    run = replace(
        line_run, steps=8, eval_every=1, checkpoint_every=1, keep_checkpoints=1, keep_every=4
    )
    loop.train(run, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "8"]


def test_a_heldout_loss_that_is_no_number_is_never_the_lowest(
    line_run, tmp_path, replace, monkeypatch
):
    values = iter([9.0, np.nan, 1.0, 6.0, 7.0])
    monkeypatch.setattr(LineEncoder, "evaluate", lambda self, params: {"loss": next(values)})
    run = replace(line_run, eval_every=1, checkpoint_every=1, keep_checkpoints=1)
    loop.train(run, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4"]


def test_checkpoints_are_saved_by_time(line_run, tmp_path, replace):
    run = replace(line_run, checkpoint_minutes=1e-9, keep_checkpoints=9, keep_best=False)
    loop.train(run, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == list("1234")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's loops
def test_save_that_fails_ends_the_run_and_leaves_the_one_before(line_run, tmp_path, replace):
    run = replace(line_run, steps=9, checkpoint_every=2, log_every=100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def report(step, _):
        while step == 3 and not (tmp_path / "checkpoints/2").exists():
            time.sleep(0.01)  # saved in the background
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))

    try:
        with pytest.raises(InputError, match="checkpoint folder .* writable: File too large"):
            loop.train(run, tmp_path, report=report)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert weights.verify(tmp_path) == [f"{tmp_path}/checkpoints/2: 6 arrays and 2 items"]
    gc.collect()  # what Orbax has not awaited ends here, not in another test


def test_workdir_that_cannot_be_written_is_refused_first(line_run, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(InputError, match="workdir .* must be writable: No space"):
        loop.train(line_run, tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_stop_while_input_blocks_saves(line_run, tmp_path, replace, monkeypatch):
    blocked, made = threading.Event(), []

    def encode(self, records):
        made.append(1)
        if len(made) == 3:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            blocked.wait(60)
        return records["x"]

    monkeypatch.setattr(LineEncoder, "encode", encode)
    monkeypatch.setattr(prefetch, "_PATIENCE_SECONDS", 0.1)
    result = loop.train(line_run, tmp_path)
    blocked.set()
    assert result.interrupted and result.step == 2
    assert (tmp_path / "checkpoints/2").is_dir()


def test_input_that_blocks_one_process_ends_all_without_an_evaluation(
    line_run, tmp_path, monkeypatch
):
    gathered = []

    def gather(value):
        gathered.append(value)
        return [value, True] if value is False else [value]

    evaluated = []
    monkeypatch.setattr(loop.distributed, "gather", gather)
    monkeypatch.setattr(LineEncoder, "evaluate", lambda *_: evaluated.append(1) or {"loss": 0.0})
    result = loop.train(line_run, tmp_path, report=stop_at(2))
    assert result.interrupted and result.step == 2 and False in gathered
    assert len(evaluated) == 1  # before the first step


def test_watchdog_names_what_hangs_and_where(monkeypatch):
    told = []
    monkeypatch.setattr(watchdog.logging, "error", lambda form, line: told.append(line))
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="batches_0")
    thread.start()
    dog = watchdog.Watchdog(0.05)
    dog.at("the input of step 3", "batches")
    while not told:
        time.sleep(0.01)
    dog.close()
    release.set()
    thread.join()
    assert "waiting for the input of step 3; thread batches_0 is in wait" in told[0]


def test_metrics_have_every_value_once(tmp_path):
    with contextlib.closing(metrics.Writer(tmp_path)) as writer:
        for step in range(4):
            writer.write(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "l\xff')
    with contextlib.closing(metrics.Writer(tmp_path, 2)) as writer:
        writer.write(2, {"loss": 2.0, "heldout/loss": 1.0})
        writer.write(3, {"loss": 3.0})
    assert metrics.read_records(tmp_path / "metrics.jsonl") == [
        {"step": 0, "loss": 0.0},
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "heldout/loss": 1.0},
        {"step": 3, "loss": 3.0},
    ]


def test_tensorboard_shows_nothing_beyond_the_step_of_a_resumed_or_rewound_run(tmp_path):
    with contextlib.closing(metrics.Writer(tmp_path)) as writer:
        for step in range(1, 7):
            writer.write(step, {"loss": 1.0 * step, "heldout/loss": -1.0 * step})
    with contextlib.closing(metrics.Writer(tmp_path, 2)) as writer:
        for step in range(2, 5):
            writer.write(step, {"loss": 10.0 * step})
        writer.rewind(3)
        writer.write(4, {"loss": 400.0})
    log = plugin_event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    log.Reload()
    found = {
        name: {event.step: event.tensor_proto.float_val[0] for event in log.Tensors(name)}
        for name in ("loss", "heldout/loss")
    }
    assert found == {"loss": {1: 1, 2: 2, 3: 30, 4: 400}, "heldout/loss": {1: -1, 2: -2}}
    assert len(log.Tensors("loss")) == 4


def test_seeds_have_64_bits(line_run, tmp_path, replace):
    run = replace(line_run, steps=1)
    states = []
    for seed in (0, 2**32, 2**64 - 1):
        loop.train(replace(run, seed=seed), tmp_path / str(seed))
        states.append(final_state(run, tmp_path / str(seed))[0].params["slope"].tolist())
    assert states[0] != states[1] != states[2]
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match=r"seed.* must be"):
            replace(run, seed=seed)
