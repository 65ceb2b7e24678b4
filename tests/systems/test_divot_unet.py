# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Divot with the U-Net and the VAE of its published de-tokenizer, trained and sampled here."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import systems, weights
from mimir_jax.config import LoraConfig, MeshConfig, VAEConfig, bridge
from mimir_jax.config import TrainConfig as Run
from mimir_jax.models.vae.autoencoder import Moments
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.request import Request
from mimir_jax.systems import diffusion
from mimir_jax.systems.divot import system as system_lib
from mimir_jax.training import loop
from mimir_jax.weights import initialization
from tests import commands, runs
from tests.systems import agents


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return runs.divot_unet_run(tmp_path_factory.mktemp("unet"))


@pytest.fixture(scope="module")
def started(run, tmp_path_factory):
    """A released run whose parameters are all random, so that tokens show in its videos."""
    model = systems.make_system(run).model
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(lambda x: (0.2 * draw(size=x.shape)).astype("f4"), model.abstract_params)
    return agents.write_run(tmp_path_factory.mktemp("started") / "run", run, params)


@pytest.mark.slow
def test_config_comes_back_from_json_and_flags(run):
    assert bridge.from_values(Run, json.loads(bridge.to_json(run))) == run
    assert bridge.from_config_dict(Run, bridge.to_config_dict(run)) == run


def test_it_is_a_system_without_a_scanned_transformer(run):
    system = systems.make_system(run)
    bucket = dataclasses.replace(system.buckets[0], batch=2)
    spec = system.batch_spec(bucket)
    assert spec.moments.mean.shape == (2, 4, 4, 4, 4) and spec.features.frames.shape[1] == 5
    assert system.backbone is None and system.num_tokens(bucket) == 16
    assert system.frozen["vae"].kind == "image_vae"
    assert set(system.model.abstract_params["detokenizer"]) == {"resampler", "unet"}
    codec = system.codec
    assert codec.latent_shape(5, 16, 8) == (5, 4, 2, 4) and codec.whole_latents(5) == 5
    assert codec.chunks(40) == [slice(0, 16), slice(16, 32), slice(32, 40)]


def test_null_tokens_of_written_clips_have_float16_weights_in_the_reference(run):
    clean = systems.make_system(run)
    sampler = dataclasses.replace(run.system.sampler, variant="reference")
    part = dataclasses.replace(run.system, sampler=sampler)
    reference = systems.make_system(dataclasses.replace(run, system=part))
    draw = np.random.default_rng(0).normal
    params = jax.tree.map(
        lambda x: (0.2 * draw(size=x.shape)).astype("f4"), clean.model.abstract_params
    )
    half = jax.tree.map(lambda x: x.astype("f2").astype("f4"), params["tokenizer"])
    cfg = run.system.model.tokenizer
    tokens = draw(size=(2, cfg.num_tokens, cfg.token_width)).astype("f4")
    features, drop = system_lib.ClipFeatures(tokens=tokens), jnp.array([True, False])

    def rows(system, tokenizer):
        given = {**params, "tokenizer": tokenizer}
        found = jax.jit(lambda p: system.condition(p, features, drop))(given)
        return np.asarray(jax.tree.leaves(found)[0])

    rounded = rows(reference, params["tokenizer"])
    np.testing.assert_allclose(rounded, rows(clean, half), atol=1e-6)
    exact = rows(clean, params["tokenizer"])
    assert np.abs(rounded[0] - exact[0]).max() > 1e-5
    np.testing.assert_allclose(rounded[1], exact[1], atol=1e-6)


@pytest.mark.slow
def test_tokenizer_learns_through_the_unet(run):
    system = systems.make_system(run)
    spec = system.batch_spec(dataclasses.replace(system.buckets[0], batch=2))
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: (0.2 * draw.normal(size=x.shape)).astype("f4"), system.model.abstract_params
    )
    latents = draw.normal(size=spec.moments.mean.shape).astype("f4")
    frames = draw.integers(0, 256, (2, 5, 16, 16, 3), np.uint8)
    batch = diffusion.Batch(Moments(latents, latents), system_lib.ClipFeatures(frames=frames))
    grad = jax.jit(jax.grad(lambda p: system.loss(p, batch, jax.random.key(0))[0]))(params)
    sizes = {
        part: float(sum(jnp.abs(x).sum() for x in jax.tree.leaves(grad[part])))
        for part in ("tokenizer", "detokenizer")
    }
    assert np.isfinite(list(sizes.values())).all() and min(sizes.values()) > 0


@pytest.mark.slow
def test_a_command_reconstructs_as_published_or_clean(started, tmp_path):
    """The sampler of a run is clean; the reference is a setting."""
    made = {}
    for variant in ("clean", "reference"):
        out = tmp_path / variant
        code, _, err = commands.call(
            "sample", "--checkpoint", started, "--reconstruct", "heldout:1", "--out", out,
            "--variant", variant,
        )  # fmt: skip
        assert code == 0, err
        record = json.loads((out / "000.json").read_text())
        assert record["sampler"]["variant"] == variant
        made[variant] = (out / "000.mp4").read_bytes()
    assert made["clean"] != made["reference"]
    assert (tmp_path / "clean/000-clip.mp4").is_file()


def test_what_it_cannot_do_is_one_line(started, run, tmp_path):
    args = ("--checkpoint", started, "--reconstruct", "heldout:0", "--out", tmp_path / "none")
    line = commands.error_of("sample", *args, "--height", 12)
    assert "must be a multiple of 8 (VAE compression x levels of the U-Net), got 12" in line
    line = commands.error_of("sample", *args, "--variant", "reference", "--sampler", "dpm")
    assert "--variant must be clean with the sampler dpm" in line
    with pytest.raises(ValueError, match="must be a multiple of 8"):
        dataclasses.replace(run, data=dataclasses.replace(run.data, width=20))
    with pytest.raises(ValueError, match="context_parallel must be ulysses for a U-Net"):
        dataclasses.replace(run, mesh=MeshConfig(context_parallel="ring"))
    with pytest.raises(ValueError, match="rank must be 0 where .* has a U-Net"):
        dataclasses.replace(run.system, lora=LoraConfig(rank=2))
    with pytest.raises(ValueError, match=r"unet.in_channels must equal .*vae.latent_channels"):
        dataclasses.replace(run.system, vae=VAEConfig())


@pytest.mark.slow
def test_it_trains_and_a_clip_conditions_its_reconstruction(run, tmp_path):
    result = loop.train(run, tmp_path / "run")
    assert np.isfinite(result.after["loss"])
    pipeline = open_lib.open_pipeline(tmp_path / "run", SampleConfig(steps=2))
    source = pipeline.encoder.source("heldout")
    videos = pipeline.generate([Request("", clip=source[i]["video"]) for i in range(2)])
    assert videos.shape == (2, 4, 16, 16, 3)
    model, params = weights.load(tmp_path / "run", kind="divot")
    start = initialization.start_of(
        dataclasses.replace(run, init_from=str(tmp_path / "run")), model
    )
    jax.tree.map(np.testing.assert_array_equal, start, params)
