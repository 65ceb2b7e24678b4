# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Features prepared once and read in place of clips and captions."""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import signal
import time
from concurrent import futures

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.config import bridge
from mimir_jax.data import loader
from mimir_jax.parallel import mesh
from mimir_jax.preparation import claims, precompute
from mimir_jax.training import compiled_step, loop
from tests import processes
from tests.training import test_processes

RECORDS = 5
FLOAT32 = {"dtype": "float32", "shard_size": 2}


@pytest.fixture(scope="module")
def run(mimir_run, replace):
    """A run on five images, its null condition the empty caption."""
    data = toyworld(replace(mimir_run.data, frames=1), num_scenes=RECORDS)
    text = replace(mimir_run.system.text, llm_tokens="query", null="empty")
    task = replace(mimir_run.system, text=text, heldout_clips=1, sample_prompts=1)
    return replace(mimir_run, system=task, data=data, batch_size=8, steps=2)


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """The features of `run` in float32, three shards by two processes at the same time."""
    folder = tmp_path_factory.mktemp("features") / "f"
    encoder_of(run)  # what it imports cannot be imported by two threads at once

    def write(index):
        return precompute.write_features(
            run, folder, process_index=index, process_count=2, **FLOAT32
        )

    with futures.ThreadPoolExecutor(2) as threads:
        results = list(threads.map(write, (0, 1)))
    assert sum(result.made for result in results) == 3  # no shard is written twice
    return folder


def with_features(run, folder):
    return dataclasses.replace(run, data=dataclasses.replace(run.data, features=str(folder)))


def toyworld(data, **fields):
    return dataclasses.replace(data, toyworld=dataclasses.replace(data.toyworld, **fields))


def encoder_of(run):
    return systems.make_encoder(run, systems.make_system(run))


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record")}


def batches(run, count=3, **options):
    encoder = encoder_of(run)
    rows = loader.make_loader(encoder.source("train"), global_batch=4, seed=run.seed, **options)
    out = [encoder.encode(next(rows)) for _ in range(count)]
    rows.close()
    return out


@pytest.mark.slow
def test_batches_equal_those_of_the_ordinary_path(run, folder):
    for expected, got in zip(batches(run), batches(with_features(run, folder)), strict=True):
        forms = [jax.tree.map(lambda x: (x.shape, x.dtype), batch) for batch in (expected, got)]
        assert forms[0] == forms[1]
        jax.tree.map(np.testing.assert_array_equal, expected, got)


@pytest.mark.slow
def test_only_missing_shards_are_made_again_and_are_the_same(run, folder, tmp_path):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "f"))
    next(copy.glob("*-00002-of-*")).unlink()
    result = precompute.write_features(run, copy, **FLOAT32)
    assert result.made == 1
    assert files(copy) == files(folder)
    assert not list(copy.glob(".*.*")) and not list((copy / precompute.CLAIMS).iterdir())


@pytest.mark.slow
def test_a_shard_of_a_killed_process_is_taken_over(run, folder, tmp_path, monkeypatch):
    copy = pathlib.Path(shutil.copytree(folder, tmp_path / "f"))
    next(copy.glob("*-00002-of-*")).unlink()  # the empty caption alone is encoded again
    with pytest.raises(ValueError, match="must be complete, 1 of 3 shards are missing"):
        encoder_of(with_features(run, copy)).source("train")
    owner = {"place": "another machine", "process": 1}
    (copy / precompute.CLAIMS / "2.0").write_text(json.dumps(owner))
    monkeypatch.setattr(claims, "STALE_SECONDS", 0.1)
    assert precompute.write_features(run, copy, **FLOAT32).made == 1
    assert files(copy) == files(folder) and not list((copy / precompute.CLAIMS).iterdir())


def test_a_plan_tells_what_is_missing_and_writes_nothing(run, folder, tmp_path):
    plan = precompute.make_plan(run, tmp_path / "f", **FLOAT32)
    assert (list(plan.missing), plan.manifest.records) == ([0, 1, 2], RECORDS)
    assert plan.least_bytes > 0 and not list(tmp_path.iterdir())
    assert precompute.make_plan(run, folder, **FLOAT32).missing == []
    with pytest.raises(ValueError, match="dtype is 'float32' there and 'float16' here"):
        precompute.make_plan(run, folder, shard_size=2)


@pytest.mark.slow
def test_processes_that_meet_share_the_shards_and_tell_it_once(run, folder, tmp_path):
    (tmp_path / "run.json").write_text(bridge.to_json(run))
    (tmp_path / "run.py").write_text(test_processes.CONFIG)

    def command(address, index):
        script = [str(processes.ROOT / "launch/precompute.py"), "--config", "run.py", "--out", "f"]
        place = ["--coordinator", address, "--num_processes", "2", "--process_id", str(index)]
        return [*script, "--dtype", "float32", "--shard_size", "2", *place]

    with processes.Pair(command, tmp_path) as pair:
        ends = pair.wait()
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert "3 shards made, 0 were there" in ends[0][1] and "missing" not in ends[0][1]
    assert ends[1][1] == ""
    assert set(files(tmp_path / "f")) == set(files(folder))


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_its_shards_to_the_other(run, folder, tmp_path):
    (tmp_path / "run.json").write_text(bridge.to_json(run))
    (tmp_path / "run.py").write_text(test_processes.CONFIG)

    def command(address, index):
        script = [str(processes.ROOT / "launch/precompute.py"), "--config", "run.py", "--out", "f"]
        place = ["--num_processes", "2", "--process_id", str(index)]  # no coordinator
        return [*script, "--dtype", "float32", "--shard_size", "2", *place]

    with processes.Pair(command, tmp_path) as pair:
        pair.all[0].send_signal(signal.SIGSTOP)  # or it may do everything before the other begins
        claimed = tmp_path / "f" / precompute.CLAIMS
        while not (claimed.is_dir() and owners(claimed) & {pair.all[1].pid}):
            assert pair.all[1].poll() is None
            time.sleep(0.01)
        pair.all[1].kill()
        pair.all[0].send_signal(signal.SIGCONT)
        ends = pair.wait()
    assert ends[0][0] == 0, ends
    made = {name for name in files(tmp_path / "f") if name[0] != "."}  # not what it had begun
    assert made == set(files(folder)) and not list(claimed.iterdir())


def owners(folder):
    """The processes that hold claims."""
    found = set()
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError, ValueError):
            found.add(json.loads(path.read_text())["process"])
    return found


@pytest.mark.slow
def test_steps_on_features_have_the_losses_of_the_ordinary_ones(run, folder, monkeypatch):
    one = mesh.make_mesh((1, 1, 1, 1), jax.devices()[:1])
    system = systems.make_system(run)
    encoder, ready = encoder_of(run), encoder_of(with_features(run, folder))
    step = compiled_step.make(run, system, one)
    monkeypatch.setattr(ready, "_moments", None)  # the frozen networks must not be called
    monkeypatch.setattr(ready.text, "_encode_one", None)

    def losses(encoder):
        rows = loader.make_loader(encoder.source("train"), global_batch=4, seed=run.seed)
        state = step.make_state(system.model.init(jax.random.key(0)))
        found = []
        for _ in range(3):
            batch = loader.device_put(encoder.encode(next(rows)), step.batch)
            state, values = step.step(state, batch, jax.random.key(1))
            found.append(float(values["loss"]))
        rows.close()
        return found

    assert losses(ready) == losses(encoder)


@pytest.mark.slow
def test_run_on_features_equals_the_ordinary_run(run, folder, tmp_path):
    ordinary = loop.train(run, tmp_path / "ordinary")
    ready = loop.train(with_features(run, folder), tmp_path / "ready")
    assert ready.after == ordinary.after != ordinary.before == ready.before


@pytest.mark.slow
def test_features_with_an_llm_serve_a_run_without_one(run, folder, replace):
    base = replace(run, system=replace(run.system, ablation="baseline"))
    (expected,) = batches(base, 1)
    (got,) = batches(with_features(base, folder), 1)
    jax.tree.map(np.testing.assert_array_equal, expected, got)
    with pytest.raises(ValueError, match="content is '.*' there and '.*' here"):
        precompute.write_features(base, folder, **FLOAT32)


@pytest.mark.slow
def test_float16_features_of_some_records_are_close(run, folder, tmp_path):
    half = tmp_path / "half"
    precompute.write_features(run, half, count=2)
    exact = encoder_of(with_features(run, folder)).source("train")
    close = encoder_of(with_features(run, half)).source("train")
    assert len(exact) == RECORDS and len(close) == 2
    for record, other in ((exact[1], close[1]), (exact.empty, close.empty)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-10, atol=2**-14), record, other
        )


@pytest.mark.slow
def test_other_content_is_refused_by_the_name_of_the_field(run, folder, tmp_path, replace):
    task, text = run.system, run.system.text
    others = {
        "seed": replace(run, seed=1),
        "source": replace(run, data=toyworld(run.data, caption_style="long")),
        "text.length": replace(run, system=replace(task, text=replace(text, length=16))),
        "llm.llm_layer": replace(run, system=replace(task, text=replace(text, llm_layer=0))),
    }
    for name, other in others.items():
        expected = "source" if name == "seed" else name  # Toyworld itself is drawn by the seed
        with pytest.raises(ValueError, match=f"must be those of this run, {expected} is .* there"):
            encoder_of(with_features(other, folder)).source("train")
        with pytest.raises(ValueError, match=f"{expected} is .* launch/precompute.py .* --out"):
            precompute.write_features(other, folder, **FLOAT32)
    for name, options in {"records": {"count": 3}, "dtype": {"dtype": "float16"}}.items():
        with pytest.raises(ValueError, match=f"{name} is .* there and .* here"):
            precompute.write_features(run, folder, **{**FLOAT32, **options})

    # Weights are known by their values.
    stored = json.loads((folder / "manifest.json").read_text())
    stored["content"]["vae"]["weights"] = "0" * 32
    (tmp_path / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="vae.weights is '0{32}' there"):
        encoder_of(with_features(run, tmp_path)).source("train")


def test_bad_requests_write_nothing(run, vae_run, tmp_path, replace):
    folder = tmp_path / "none"
    endless = replace(run, data=toyworld(run.data, num_scenes=1 << 60))
    for other, options, message in (
        (vae_run, {}, "system must encode clips with frozen networks .* system.kind 'vae'"),
        (run, {"count": 9}, "--count must be within 1..5"),
        (run, {"process_index": 2, "process_count": 2}, "process must be within 0..1, got 2"),
        (run, {"shard_size": 0}, "shard_size must be at least 1, got 0"),
        (endless, {}, "take at least .* GB, .* has .* GB; pass --count"),
    ):
        with pytest.raises(ValueError, match=message):
            precompute.write_features(other, folder, **options)
    assert not folder.exists()
    with pytest.raises(ValueError, match="window must be 'first' for precomputed features"):
        replace(run.data, source="folder", folder=c.FolderConfig(path="x"), features="f")
    with pytest.raises(ValueError, match="data.features must be None for a VAE"):
        replace(vae_run, data=replace(vae_run.data, features="f"))
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds other files; choose another"):
        precompute.write_features(run, tmp_path)
    with pytest.raises(ValueError, match="must hold a manifest.json, found none"):
        encoder_of(with_features(run, folder)).source("train")
