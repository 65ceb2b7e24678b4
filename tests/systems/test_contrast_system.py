# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast of frames and captions trains a ViT that a tokenizer of clips starts from."""

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.training import loop
from mimir_jax.weights import initialization
from tests import runs


@pytest.fixture
def run(frozen):
    model = c.ContrastConfig(
        vit=runs.divot_run(frozen).system.model.tokenizer.vit, text_width=24, width=8
    )
    text = c.TextConfig(t5_path=str(frozen / "t5"), length=24)
    return c.TrainConfig(
        system=c.ContrastSystemConfig(model=model, text=text, heldout_clips=8),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=16), frames=1, height=32, width=32),
        optimizer=c.OptimizerConfig(learning_rate=3e-3, warmup_steps=0),
        steps=4,
        batch_size=16,
    )


@pytest.mark.slow
def test_it_learns_pairs_and_starts_a_tokenizer(run, frozen, tmp_path):
    losses = []
    loop.train(run, tmp_path / "run", report=lambda step, values: losses.append(values))
    assert losses[-1]["loss"] < losses[0]["loss"] < 2 * np.log(16)
    assert 0 <= losses[-1]["image_accuracy"] <= 1
    divot = runs.divot_run(frozen)
    start = initialization.read_init(str(tmp_path / "run"), systems.make_system(divot).model)
    trained = weights.load(tmp_path / "run", kind="contrast")[1]["vit"]
    jax.tree.map(np.testing.assert_array_equal, start["tokenizer"]["vit"], trained)


def test_clips_are_refused(run, replace):
    with pytest.raises(ValueError, match="data.frames must be 1 for contrast"):
        replace(run, data=replace(run.data, frames=9))


def test_its_loss_reaches_the_tower_of_images(run):
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    batch = jax.device_put(encoder.heldout)
    params = jax.jit(system.model.init)(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(lambda p: system.loss(p, batch, jax.random.key(0))[0]))
    loss, gradients = step(params)
    assert 0 < loss < np.inf
    assert any(np.abs(x).max() > 0 for x in jax.tree.leaves(gradients["vit"]))
