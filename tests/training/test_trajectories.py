# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Ten steps on one device and on eight, by every rule table: the same losses but for rounding."""

import dataclasses
import itertools
import math

import jax
import numpy as np
import pytest

from mimir_jax import systems
from mimir_jax.config import MeshConfig
from mimir_jax.data import loader
from mimir_jax.parallel import context, rules
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.training import compiled_step

STEPS = 10
SHAPES = [sizes for sizes in itertools.product((1, 2, 4, 8), repeat=4) if math.prod(sizes) == 8]
CONTEXT = mesh_lib.AXES.index("context")
FORMS = [
    (run, strategy, sequence, sizes)
    for run, sequences in {"mimir_run": ("ulysses", "ring"), "vae_run": ("ulysses",)}.items()
    for strategy in rules.STRATEGIES
    for sequence in sequences
    for sizes in SHAPES
    if sequence == "ulysses" or sizes[CONTEXT] > 1
]
# One float32 sum in another order moves a loss by 1e-6 of itself; AdamW divides gradients by their
# size, so that where one is all but zero a step may turn round, and ten steps add that up.
RTOL = 2e-4


def trajectory(config, system, params, batches, devices):
    """Losses of `STEPS` steps."""
    mesh = mesh_lib.make_mesh(config.mesh.sizes, devices)
    made = compiled_step.make(config, system, mesh)
    state = jax.device_put(made.make_state(params), made.shardings)
    key = jax.device_put(jax.random.key(1), made.replicated)
    losses = []
    with context.use_mesh(mesh, made.rules):
        for batch in batches:
            state, values = made.step(state, loader.device_put(batch, made.batch), key)
            losses.append(float(values["loss"]))
    return losses


@pytest.fixture(scope="module")
def alone(request):
    """Config, task, parameters and batches of a run, and its losses on one device."""
    config = dataclasses.replace(request.getfixturevalue(request.param), steps=STEPS)
    if config.system.kind == "vae":  # two stages, eight rows of latents
        model = dataclasses.replace(
            config.system.model, block_channels=(8, 8), temporal_compression=2
        )
        data = dataclasses.replace(config.data, height=16, width=16)
        config = dataclasses.replace(
            config, system=dataclasses.replace(config.system, model=model), data=data
        )
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    params = jax.device_get(jax.jit(system.model.init)(jax.random.key(0)))
    source, size = encoder.source("train"), config.batch_size
    records = [source[i % len(source)] for i in range(STEPS * size)]
    batches = [
        encoder.encode(
            {
                "video": np.stack([r["video"] for r in records[i : i + size]]),
                "caption": [r["caption"] for r in records[i : i + size]],
            }
        )
        for i in range(0, len(records), size)
    ]
    one = dataclasses.replace(config, mesh=MeshConfig())
    losses = trajectory(one, system, params, batches, jax.devices()[:1])
    assert losses[-1] < losses[0]
    return config, system, params, batches, losses


@pytest.mark.slow
@pytest.mark.parametrize(("alone", "strategy", "sequence", "sizes"), FORMS, indirect=["alone"])
def test_ten_steps_are_the_same_on_every_mesh(alone, strategy, sequence, sizes):
    config, system, params, batches, losses = alone
    axes = dict(zip(mesh_lib.AXES, sizes, strict=True))
    mesh = MeshConfig(**axes, strategy=strategy, context_parallel=sequence)
    eight = trajectory(
        dataclasses.replace(config, mesh=mesh), system, params, batches, jax.devices()
    )
    np.testing.assert_allclose(eight, losses, rtol=RTOL)
