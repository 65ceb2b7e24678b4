# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A system in a folder of its own: three files, and everything that takes a system takes it."""

import json
import typing

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.config import bridge, registry
from mimir_jax.evaluation.config import LossEvalConfig
from mimir_jax.evaluation.suites import loss
from mimir_jax.parallel import hardware
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.planning import aot, memory
from mimir_jax.planning.config import Program
from mimir_jax.preparation import precompute
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.request import Request
from mimir_jax.training import checkpoint, compiled_step, loop
from mimir_jax.weights import runs

CONFIG = '''
import dataclasses
from typing import Any, Literal

from mimir_jax.config import registry
from mimir_jax.diffusion.config import DiffusionConfig, SamplerConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToySystemConfig(registry.SystemConfig):
    """Denoise block averages of clips with one linear layer."""

    kind: Literal["toy"] = "toy"
    block: int = 8
    diffusion: DiffusionConfig = DiffusionConfig(num_train_steps=10)
    sampler: SamplerConfig = SamplerConfig(name="ddim", steps=2)
    caption_dropout: float = 0.5
    heldout_clips: int = 2
    loss_bands: int = 2
    sample_prompts: int = 1

    def check_run(self, run: Any) -> None:
        pass
'''

SYSTEM = '''
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from mimir_jax.models import functional, layers
from mimir_jax.models.vae import autoencoder
from mimir_jax.systems import diffusion


class Network(nnx.Module):
    def __init__(self, width, *, rngs):
        self.mix = layers.Linear(width, width, axes=("embed", "mlp"), rngs=rngs)

    def __call__(self, xt, condition):
        return self.mix(xt) + condition[:, None, None, None]


class BlockMeans:
    """A codec without parameters, frame by frame."""

    channels, param_spec = 3, {}

    def __init__(self, config):
        self.config, self.spatial_compression = config, config.block

    def latent_shape(self, frames, height, width):
        return frames, height // self.config.block, width // self.config.block, 3

    def check_frames(self, frames, name):
        pass

    def whole_latents(self, latent_frames):
        return latent_frames

    def encode(self, params, video):
        b, f, h, w, c = video.shape
        n = self.config.block
        mean = video.reshape(b, f, h // n, n, w // n, n, c).mean((3, 5))
        return autoencoder.Moments(mean=mean, logvar=jnp.full_like(mean, -30.0))

    def scale(self, latents):
        return latents

    def decode(self, params, latents, *, tiled=False):
        return latents.repeat(self.config.block, axis=2).repeat(self.config.block, axis=3)


class ToySystem(diffusion.VideoDiffusion):
    encodes_null = False

    @functools.cached_property
    def model(self):
        return functional.build(Network, 3)

    @functools.cached_property
    def codec(self):
        return BlockMeans(self.config)

    @property
    def frozen(self):
        return {}

    def feature_batch_spec(self, bucket):
        return {"length": jax.ShapeDtypeStruct((bucket.batch, 3), jnp.float32)}

    def draw_features(self, features, key=None):
        return features

    def condition(self, params, features, drop=None):
        tokens = features["length"]
        return tokens if drop is None else jnp.where(drop[:, None], 0.0, tokens)

    def denoise(self, params, xt, time, condition, aux=None):
        return self.model.apply(params, xt, condition), aux


def make_system(config):
    return ToySystem(config)
'''

ENCODER = """
import numpy as np

from mimir_jax.systems import diffusion, video_encoder

make_evaluators = diffusion.make_evaluators


class Lengths:
    padded = ()

    def encode(self, captions):
        return {"length": np.array([[len(text) / 99] * 3 for text in captions], np.float32)}

    def identity(self):
        return {"text": "lengths"}

    def answers(self, caption):
        return []

    def truncated(self, caption):
        return {"length": ""}


def make_encoder(config, system, mesh=None):
    return video_encoder.VideoEncoder(config, system, Lengths(), codec_params={})
"""


@pytest.fixture
def toy_run(tmp_path, monkeypatch):
    """The config of a run of a system whose folder lies outside the package."""
    folder = tmp_path / "systems" / "toy"
    folder.mkdir(parents=True)
    files = {"__init__": "", "config": CONFIG, "system": SYSTEM, "encoder": ENCODER}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, str(folder.parent)])
    return c.TrainConfig(
        system=registry.system_classes()["toy"](),
        data=c.DataConfig(frames=3, height=32, width=32, toyworld=c.ToyworldConfig(num_scenes=8)),
        optimizer=c.OptimizerConfig(learning_rate=1e-2, warmup_steps=0, ema_decay=0.9),
        steps=4,
        batch_size=8,
        log_every=1,
        checkpoint_every=1,
    )


def final_state(config, workdir):
    one = mesh_lib.make_mesh(devices=jax.devices()[:1])
    step = compiled_step.make(config, systems.make_system(config), one)
    return jax.device_get(checkpoint.Checkpointer(workdir).restore(step.state)[0])


def test_a_folder_is_a_system(toy_run, tmp_path, replace):
    run = bridge.from_values(c.TrainConfig, json.loads(bridge.to_json(toy_run)))
    assert run == toy_run
    whole, parts = tmp_path / "whole", tmp_path / "parts"

    # Sized, trained and sampled.
    lines = []
    check = lambda system: lines.append(str(memory.check(run, system, jax.devices())))  # noqa: E731
    result = loop.train(run, whole, check=check)
    assert "memory of a device" in lines[0]
    assert result.after["loss"] < result.before["loss"]
    assert [path.suffix for path in result.samples] == [".png", ".mp4"]

    # Resumed to the bit.
    loop.train(replace(run, steps=2), parts)
    loop.train(run, parts)
    states = final_state(run, whole), final_state(run, parts)
    jax.tree.map(np.testing.assert_array_equal, *states)

    # Read back, at any kept step.
    assert runs.steps(whole) == [3, 4]
    params = weights.load_run(whole, systems.make_system(run).model)
    jax.tree.map(np.testing.assert_array_equal, params, states[0].eval_params)
    earlier = weights.load_run(whole, systems.make_system(run).model, step=3)
    assert (earlier["mix"]["kernel"] != params["mix"]["kernel"]).any()
    with pytest.raises(ValueError, match=r"step must be a kept one of run .* \(3, 4\), got 1"):
        runs.open_params(whole, step=1)

    # Sampled by the prompt, and evaluated.
    pipeline = open_lib.open_pipeline(whole)
    prompts = ("a red ball", "a red ball and a blue box")
    videos = [pipeline.generate([Request(prompt)])[0] for prompt in prompts]
    assert videos[0].shape == (3, 32, 32, 3) and videos[0].dtype == np.uint8
    assert (videos[0] != videos[1]).any()
    losses = loss.measure_loss(LossEvalConfig(checkpoint=str(whole)))
    assert losses == pytest.approx(result.after, rel=1e-5)

    # Compiled ahead of time.
    topology = hardware.find_topology("cpu:8")
    for program in typing.get_args(Program):
        report = aot.compile_run(run, topology, program)
        assert report.memory["total"] > 0

    # Precomputed, and trained on what was stored.
    stored = tmp_path / "features"
    precompute.write_features(run, stored, dtype="float32", shard_size=3)
    ready = replace(run, data=replace(run.data, features=str(stored)))
    jax.tree.map(
        np.testing.assert_array_equal,
        *(train_losses(r, tmp_path / f"run{i}") for i, r in enumerate((run, ready))),
    )


def train_losses(run, workdir):
    values = []
    loop.train(run, workdir, report=lambda step, metrics: values.append(metrics["loss"]))
    return values


def test_every_bucket_is_checked(toy_run, replace):
    system = systems.make_system(toy_run)
    (bucket,) = system.buckets
    system.buckets = (bucket, replace(bucket, batch=7))
    with pytest.raises(ValueError, match="batch_size must be a multiple .* got 7"):
        compiled_step.require_runnable(toy_run, system, mesh_lib.make_mesh())


def test_an_unknown_kind_names_the_valid_ones(toy_run):
    text = bridge.to_json(toy_run).replace('"toy"', '"toi"')
    with pytest.raises(ValueError, match="system.kind must be one of .*toy.*got 'toi'"):
        bridge.from_values(c.TrainConfig, json.loads(text))
