# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of two buckets: images and clips of another shape."""

import dataclasses
import signal
import threading

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.data import loader
from mimir_jax.models import functional
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import memory
from mimir_jax.preparation import precompute
from mimir_jax.systems import base
from mimir_jax.training import checkpoint, compilation, compiled_step, loop, setup
from mimir_jax.weights import initialization
from tests.training.line_runs import Line, LineEncoder, losses, records

SIZES = ((9, 32, 32), (1, 32, 64, 16))
NAMES = ("9x32x32", "1x32x64")


def with_buckets(run, listed=SIZES, **fields):
    data = dataclasses.replace(run.data, buckets=c.BucketsConfig(listed=listed, **fields))
    return dataclasses.replace(run, data=data)


class Rows:
    """Records of one or three rows of four numbers."""

    groups = (range(0, 48, 2), range(1, 48, 2))

    def __len__(self):
        return 48

    def __repr__(self):
        return "Rows()"

    def __getitem__(self, index):
        shape = (3, 4) if index % 2 else (1, 4)
        return {"x": np.random.default_rng(index).normal(size=shape).astype(np.float32)}


class SumSystem(base.Defaults):
    """Compiles in no time."""

    def __init__(self, config, buckets=None):
        self.config = config.system
        self.model = functional.build(Line, None)
        whole = (base.Bucket(1, 1, 1, 16, weight=0.5), base.Bucket(3, 1, 1, 8, weight=2.0))
        self.buckets = buckets or whole

    def batch_spec(self, bucket):
        return jax.ShapeDtypeStruct((bucket.batch, bucket.frames, 4), np.float32)

    def loss(self, params, batch, key):
        error = self.model.apply(params, batch) - batch.sum(2, keepdims=True) ** 2
        noise = jax.random.normal(key, error.shape)
        return ((error + noise) ** 2).mean(), {}


class SumEncoder(LineEncoder):
    def source(self, split):
        return Rows()


@pytest.fixture
def sum_run(mimir_run, replace, monkeypatch):
    """Returns the config of a run of eight steps of `SumSystem`."""
    monkeypatch.setattr(systems, "make_system", SumSystem)
    monkeypatch.setattr(systems, "make_encoder", lambda *_: SumEncoder())
    monkeypatch.setattr(systems, "make_evaluators", lambda config, system, encoder: [encoder])
    optimizer = c.OptimizerConfig(learning_rate=1e-2, warmup_steps=2, ema_decay=0.9)
    return with_buckets(replace(mimir_run, optimizer=optimizer, steps=8))


def test_a_run_equals_separate_runs_and_resumes_to_the_bit(sum_run, tmp_path, replace):
    """Eight devices with all buckets, one device with a step of each alone."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    loop.train(sum_run, whole)
    found = [r for r in records(whole) if "loss" in r]
    names = [name for r in found for name in r if name.startswith("loss/")]
    assert set(names) == {"loss/1x1x1", "loss/3x1x1"}

    one = mesh_lib.make_mesh((1, 1, 1, 1), jax.devices()[:1])
    whole_system = SumSystem(sum_run)
    steps = [
        compiled_step.make(sum_run, SumSystem(sum_run, (bucket,)), one)
        for bucket in whole_system.buckets
    ]
    batches = loader.make_loader(Rows(), global_batch=(16, 8), seed=sum_run.seed)
    state = steps[0].make_state(jax.jit(whole_system.model.init)(jax.random.key(sum_run.seed)))
    key = jax.random.fold_in(jax.random.key(sum_run.seed), 1)
    losses = []
    for number in range(8):
        bucket = batches.schedule.bucket(number)
        weight = whole_system.buckets[bucket].weight
        state, values = steps[bucket].step(state, next(batches)["x"], key, weight=weight)
        losses.append(float(values["loss"]))
    batches.close()
    np.testing.assert_allclose(losses, [r["loss"] for r in found], rtol=1e-5)

    change = next(k for k in range(1, 8) if names[k] != names[k - 1])

    def interrupt(step, metrics):
        if step == change:
            signal.raise_signal(signal.SIGINT)

    assert loop.train(sum_run, parts, report=interrupt).step == change
    loop.train(sum_run, parts)
    (state, position), (other, again) = (final_state(sum_run, f) for f in (whole, parts))
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == again and position["batch"] == 8 and position["global_batch"] == [16, 8]


def test_programs_are_compiled_in_the_order_of_their_use(sum_run, monkeypatch):
    compiled, started, go_on = [], threading.Event(), threading.Event()

    def compile_one(self, bucket):
        started.set()
        assert go_on.wait(60)
        compiled.append(bucket.frames)
        return bucket.frames

    monkeypatch.setattr(compilation.Compilation, "compile_bucket", compile_one)
    buckets = tuple(base.Bucket(n, 1, 1, 8) for n in range(1, 6))
    system = SumSystem(sum_run, buckets)
    step = compiled_step.make(sum_run, system, mesh_lib.make_mesh((1, 8, 1, 1)))
    programs = compilation.Compilation(sum_run, system, step)
    programs.order([0])
    assert started.wait(60)
    programs.order([0, 3, 1])
    go_on.set()
    assert programs.flops(1) == 2 and programs.flops(4) == 5  # one that was not to come
    programs.close()
    assert compiled[0] == 1 and set(compiled) >= {2, 5} and 3 not in compiled


def test_only_its_own_program_is_compiled_before_the_first_step(sum_run, tmp_path, monkeypatch):
    seen, compile_one = [], compilation.Compilation.compile_bucket

    def recorded(self, bucket):
        seen.append(bucket.name)
        return compile_one(self, bucket)

    monkeypatch.setattr(compilation.Compilation, "compile_bucket", recorded)
    loop.train(sum_run, tmp_path, report=lambda step, metrics: seen.append(step))
    (first,) = (name for name in records(tmp_path)[1] if name.startswith("loss/"))
    assert seen[:2] == [first.removeprefix("loss/"), 1]
    assert {"1x1x1", "3x1x1"} < set(seen)


@pytest.fixture(scope="module")
def run(mimir_run, replace):
    """Returns the config of a Mimir run of four steps with two buckets."""
    system = replace(mimir_run.system, heldout_clips=4, sample_prompts=0)
    return with_buckets(replace(mimir_run, system=system, steps=4, seed=5))


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The work directory of the run, which eight devices trained."""
    folder = tmp_path_factory.mktemp("buckets") / "whole"
    loop.train(run, folder)
    return folder


def buckets_of(folder):
    found = [[name for name in NAMES if f"loss/{name}" in r] for r in records(folder)]
    return [name for (name,) in filter(None, found)]


def final_state(run, folder):
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    step = compiled_step.make(run, systems.make_system(run), one)
    return jax.device_get(checkpoint.restore_from(folder, step.state))


@pytest.mark.slow
def test_losses_equal_those_of_separate_runs_of_each_bucket(run, whole, replace):
    """Also those of one device to those of eight."""
    assert set(buckets_of(whole)) == set(NAMES)
    one = mesh_lib.make_mesh((1, 1, 1, 1), jax.devices()[:1])
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    batches = loader.make_loader(encoder.source("train"), global_batch=(8, 16), seed=run.seed)
    steps = []
    for frames, height, width, *_ in SIZES:  # runs without buckets
        data = replace(
            run.data, buckets=c.BucketsConfig(), frames=frames, height=height, width=width
        )
        plain = replace(run, data=data)
        steps.append(compiled_step.make(plain, systems.make_system(plain), one))
    params = initialization.start(run, system.model, None, steps[0].shardings.params)
    state = steps[0].make_state(params)
    key = jax.random.fold_in(jax.random.key(run.seed), 1)
    found = {}
    for number in range(4):
        bucket = batches.schedule.bucket(number)
        batch = loader.device_put(encoder.encode(next(batches)), steps[bucket].batch)
        state, values = steps[bucket].step(state, batch, key)
        found[number + 1] = float(values["loss"])
    batches.close()
    logged = losses(whole)
    np.testing.assert_allclose(list(found.values()), list(logged.values()), rtol=1e-4)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_across_buckets_and_tells_each(run, whole, tmp_path):
    found = buckets_of(whole)
    change = next(k for k in range(1, 4) if found[k] != found[k - 1])

    def interrupt(step, metrics):
        if step == change:
            signal.raise_signal(signal.SIGINT)

    assert loop.train(run, tmp_path / "parts", report=interrupt).step == change
    loop.train(run, tmp_path / "parts")
    (state, position), (other, again) = (
        final_state(run, folder) for folder in (whole, tmp_path / "parts")
    )
    jax.tree.map(np.testing.assert_array_equal, state, other)
    assert position == again and position["batch"] == 4 and position["global_batch"] == [8, 16]
    assert losses(whole) == losses(tmp_path / "parts")
    heldout = [r for r in records(whole) if "heldout/loss" in r][-1]
    each = [heldout[f"heldout/loss_{name}"] for name in NAMES]
    np.testing.assert_allclose(heldout["heldout/loss"], np.mean(each), rtol=1e-6)


@pytest.mark.slow
def test_stored_features_are_those_of_the_ordinary_path(run, tmp_path, replace):
    folder = tmp_path / "features"
    precompute.write_features(run, folder, count=6, dtype="float32")
    stored = replace(run, data=replace(run.data, features=str(folder)))
    source = systems.make_encoder(stored, systems.make_system(stored)).source("train")
    assert [list(group) for group in source.groups] == [[0, 2, 4], [1, 3, 5]]
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    for indices in source.groups:
        clips = loader.stack([encoder.source("train")[i] for i in indices[:2]])
        mean = loader.stack([source[i] for i in indices[:2]])["mean"]
        np.testing.assert_array_equal(encoder.encode(clips).moments.mean, mean)


@pytest.mark.parametrize(
    "fields, batches, weights",
    [
        ({}, (8, 16), (1.0, 1.0)),
        (dict(weight="clip"), (8, 16), (2 / 3, 4 / 3)),
        (dict(weight="token"), (8, 16), (6 / 7, 8 / 7)),  # of 3 x 8 x 8 and 8 x 16 latents
        (dict(batch="tokens", listed=((9, 32, 64), (1, 16, 16))), (8, 24), (1.0, 1.0)),
    ],
)
def test_batches_and_weights_follow_the_config(mimir_run, fields, batches, weights):
    found = systems.make_system(with_buckets(mimir_run, **fields)).buckets
    assert tuple(bucket.batch for bucket in found) == batches
    np.testing.assert_allclose([bucket.weight for bucket in found], weights)


@pytest.mark.slow
def test_memory_is_told_of_each_bucket_and_the_too_large_one_is_named(run, monkeypatch):
    system = systems.make_system(run)
    found = memory.estimate(run, system, jax.devices())
    assert all(f"{name} " in str(found) for name in NAMES)
    assert found.transient["activations"] == max(found.buckets.values())
    small, large = sorted(found.buckets.values())
    fixed = found.total - large
    limit = int(fixed - found.transient["gradients"] * 2 / 3 + (small + large) / 6)
    monkeypatch.setattr(memory, "device_memory", lambda device, held: limit + held)
    with pytest.raises(ValueError, match="bucket 1x32x64 must fit .*, or leave 1x32x64 out of"):
        memory.check(run, system, jax.devices())


@pytest.mark.parametrize(
    "listed, rule",
    [
        (((8, 32, 32),), r"buckets.listed must be 8N\+1 .*, got 8 in 8x32x32; the nearest is 9"),
        (((9, 32, 36),), "multiples of 8 .*, got 9x32x36; the nearest is 9x32x32"),
    ],
)
def test_a_bucket_that_the_vae_refuses_is_one_line(mimir_run, listed, rule):
    with pytest.raises(ValueError, match=rule):
        with_buckets(mimir_run, listed)


def test_a_batch_that_does_not_split_names_its_bucket(run, tmp_path):
    odd = with_buckets(run, ((9, 32, 32), (1, 32, 64, 12)))
    with pytest.raises(ValueError, match="= 1 x 8 x 1, got 12 in bucket 1x32x64; set any"):
        setup.make_setup(odd, tmp_path / "run")


def test_a_system_of_one_size_refuses_buckets(vae_run):
    with pytest.raises(ValueError, match="must be empty for the system vae.*, got 9x32x32, 1x32"):
        with_buckets(vae_run)
