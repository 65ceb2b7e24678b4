# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot's tokenizer and de-tokenizer through everything that takes a system."""

import json
import signal
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import systems, weights
from mimir_jax.encoders import clip_tokens
from mimir_jax.evaluation.config import LossEvalConfig, ReconstructionEvalConfig
from mimir_jax.evaluation.suites import loss, reconstruction
from mimir_jax.models.divot import detokenizer
from mimir_jax.parallel import hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import aot, memory
from mimir_jax.planning.config import Program
from mimir_jax.preparation import precompute
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.request import Request
from mimir_jax.systems.divot import system as system_lib
from mimir_jax.training import checkpoint, compiled_step, loop
from mimir_jax.weights import initialization
from tests import commands, runs


@pytest.fixture(scope="module")
def run(frozen):
    return runs.divot_run(frozen)


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    """A finished run, and how it ended."""
    folder = tmp_path_factory.mktemp("divot") / "run"
    lines, system = [], systems.make_system(run)
    lines.append(str(memory.check(run, system, jax.devices())))
    return folder, loop.train(run, folder), lines


def final_state(config, workdir):
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    step = compiled_step.make(config, systems.make_system(config), one)
    return jax.device_get(checkpoint.Checkpointer(workdir).restore(step.state)[0])


@pytest.mark.slow
def test_it_trains_and_resumes_to_the_bit(run, trained, tmp_path):
    folder, result, lines = trained
    assert "memory of a device" in lines[0]
    assert np.isfinite(result.after["loss"])
    assert [path.suffix for path in result.samples] == [".png", ".mp4"]

    def interrupt(step, metrics):
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    assert loop.train(run, tmp_path / "parts", report=interrupt).interrupted
    loop.train(run, tmp_path / "parts")
    states = final_state(run, folder), final_state(run, tmp_path / "parts")
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.slow
def test_stored_frames_and_latents_train_the_same(run, trained, tmp_path, replace):
    folder, _, _ = trained
    stored = tmp_path / "features"
    precompute.write_features(run, stored, dtype="float32", shard_size=5)
    ready = replace(run, data=replace(run.data, features=str(stored)))
    loop.train(ready, tmp_path / "run")
    jax.tree.map(
        np.testing.assert_array_equal,
        final_state(run, folder).params,
        final_state(ready, tmp_path / "run").params,
    )


@pytest.mark.slow
def test_a_clip_conditions_its_reconstruction(run, trained):
    folder, _, _ = trained
    pipeline = open_lib.open_pipeline(folder)
    heldout = pipeline.encoder.source("heldout")
    clips = [heldout[i]["video"] for i in range(2)]
    videos = [pipeline.generate([Request("", clip=clip)])[0] for clip in clips]
    assert videos[0].shape == clips[0].shape and (videos[0] != videos[1]).any()
    with pytest.raises(ValueError, match="clip must be given for divot"):
        pipeline.generate([Request("a red ball")])


@pytest.mark.slow
def test_a_command_writes_reconstructions_beside_their_clips(trained, tmp_path):
    folder, _, _ = trained
    out = tmp_path / "out"
    code, _, _ = commands.call(
        "sample", "--checkpoint", str(folder), "--reconstruct", "heldout:1", "--out", str(out)
    )
    assert code == 0
    names = {"000.mp4", "000-clip.mp4", "000.json", "sheet.png", "index.html"}
    assert {path.name for path in out.iterdir()} == names
    record = json.loads((out / "000.json").read_text())
    assert record["clip"] == "000-clip.mp4" and record["prompt"]
    assert (out / "index.html").read_text().count("<video") == 2
    error = commands.error_of(
        "sample", "--checkpoint", str(folder), "--reconstruct", "heldout:99",
        "--out", str(tmp_path / "other"),
    )  # fmt: skip
    assert "must be one of 16 held-out clips" in error and not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "args, message",
    [
        (["--prompt", "x"], "--prompt must be left out with --reconstruct"),
        ([], "--checkpoint must be a run of divot for --reconstruct, got one of mimir"),
    ],
    ids=["a prompt", "another system"],
)
def test_reconstructions_that_cannot_be_made_are_one_line(args, message, tmp_path):
    out = tmp_path / "out"
    error = commands.error_of("sample", "--reconstruct", "heldout:0", *args, "--out", str(out))
    assert message in error and not out.exists()


@pytest.mark.slow
def test_it_is_evaluated_and_compiled_ahead(run, trained, tmp_path):
    folder, result, _ = trained
    losses = loss.measure_loss(LossEvalConfig(checkpoint=str(folder)))
    assert losses == pytest.approx(result.after, rel=1e-5)
    config = ReconstructionEvalConfig(checkpoint=str(folder), scenes=2, out=str(tmp_path / "out"))
    report = reconstruction.evaluate(config, open_lib.open_pipeline(folder), lambda done, of: None)
    assert "PSNR, dB" in report.text and "object_class" in report.text
    for program in typing.get_args(Program):
        assert aot.compile_run(run, hardware.find_topology("cpu:8"), program).memory["total"] > 0


@pytest.mark.slow
def test_tokens_condition_as_their_clip_does(run):
    system = systems.make_system(run)
    params = system.model.init(jax.random.key(0))
    frames = jax.random.randint(jax.random.key(1), (2, 5, 32, 32, 3), 0, 256).astype(jnp.uint8)
    drop = jnp.array([False, True])
    tokens = system.model.tokenize(params, frames / 127.5 - 1.0)
    rows = [
        system.condition(params, features, drop).tokens
        for features in (
            system_lib.ClipFeatures(frames=frames),
            system_lib.ClipFeatures(tokens=tokens),
        )
    ]
    np.testing.assert_allclose(*rows, atol=1e-5)
    still = system.model.tokenize(params, jnp.repeat(frames[:, :1], 5, axis=1) / 127.5 - 1.0)
    once = system.model.tokenize(params, frames[:, :1] / 127.5 - 1.0)
    np.testing.assert_allclose(still, once, atol=1e-5)
    null = system.model.condition(params, system.model.null_tokens(params)).tokens
    np.testing.assert_allclose(rows[0][1], null[0], atol=1e-5)


@pytest.mark.parametrize(
    "frames, picked", [(16, [0, 4, 8, 12, 15]), (17, [0, 4, 8, 12, 16]), (1, [0])]
)
def test_the_tokenizer_reads_the_frames_of_the_paper(frames, picked):
    assert clip_tokens.frame_positions(frames, 5).tolist() == picked


@pytest.mark.slow
def test_weights_go_out_and_start_other_runs(run, trained, tmp_path, replace):
    folder, _, _ = trained
    model, params = weights.load(folder, kind="divot")
    assert issubclass(detokenizer.DiTDetokenizer, detokenizer.Detokenizer)
    dit, vit = params["detokenizer"]["dit"], params["tokenizer"]["vit"]
    weights.save(tmp_path / "dit", "dit", model.config.detokenizer.dit, dit)
    weights.save(tmp_path / "vit", "vit", model.config.tokenizer.vit, vit)
    paths = f"{tmp_path / 'dit'}, {tmp_path / 'vit'}"
    start = initialization.start_of(replace(run, init_from=paths), model)
    jax.tree.map(np.testing.assert_array_equal, start["detokenizer"]["dit"], dit)
    jax.tree.map(np.testing.assert_array_equal, start["tokenizer"]["vit"], vit)
    with pytest.raises(ValueError, match="must hold a part of the network, it holds a vae"):
        initialization.read_init(run.system.vae_path, model)
