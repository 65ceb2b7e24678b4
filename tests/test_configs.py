# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.config import bridge
from mimir_jax.models import functional, params
from mimir_jax.models.mimir import model as model_lib
from mimir_jax.training import optimizer, state, step

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def presets():
    for path in sorted(CONFIGS.glob("*.py")):
        for preset in load(path.stem).PRESETS:
            yield path.stem, preset
    for row in c.ABLATIONS:
        yield "mimir", f"tiny/{row}"


@pytest.mark.parametrize("name, preset", list(presets()))
def test_preset_builds_and_its_optimizer_fits_its_parameters(name, preset):
    values = load(name).get_config(preset)
    config = bridge.from_config_dict(c.TrainConfig, values)
    model = systems.make_system(config).model
    tx = optimizer.make_optimizer(config.optimizer, config.steps, model.axes)
    trainable = optimizer.trainable(config.optimizer, model.axes, model.frozen)
    ema = config.optimizer.ema_decay > 0
    make = functools.partial(state.create, tx=tx, trainable=trainable, ema=ema)
    abstract = jax.eval_shape(make, model.abstract_params)
    trained = params.prune(abstract.params, trainable)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(trained))


@pytest.mark.parametrize("name", [path.stem for path in sorted(CONFIGS.glob("*.py"))])
def test_unknown_preset_names_the_valid_ones(name):
    module = load(name)
    with pytest.raises(ValueError, match=f"preset must be one of {next(iter(module.PRESETS))}"):
        module.get_config("enormous")


@pytest.mark.parametrize(
    "preset, base", [("2b", 1_693_783_872), ("5b", 5_570_283_072)], ids=["2b", "5b"]
)
def test_paper_presets_hold_the_published_number_of_parameters(preset, base):
    config = bridge.from_config_dict(c.TrainConfig, load("mimir").get_config(preset))
    paper = functional.build(model_lib.Mimir, config.system.network).abstract_params
    assert sum(x.size for x in jax.tree.leaves(paper["dit"])) == base


def test_train_step_of_the_5b_preset_has_consistent_shapes():
    config = bridge.from_config_dict(c.TrainConfig, load("mimir").get_config("5b"))
    config = dataclasses.replace(config, batch_size=2)
    system = systems.make_system(config)
    model, batch = system.model, system.batch_spec(system.buckets[0])
    assert batch.moments.mean.shape == (2, 13, 60, 90, 16)
    assert batch.features.llm.shape == (2, 4, 226, 3072)
    tx = optimizer.make_optimizer(config.optimizer, config.steps, model.axes)
    trainable = optimizer.trainable(config.optimizer, model.axes)
    abstract = jax.eval_shape(
        functools.partial(state.create, tx=tx, trainable=trainable, ema=True),
        model.abstract_params,
    )
    run = functools.partial(
        step.train_step,
        loss_fn=system.loss,
        trainable=optimizer.trainable(config.optimizer, model.axes),
        tx=tx,
        ema_decay=config.optimizer.ema_decay,
    )
    after, metrics = jax.eval_shape(run, abstract, batch, jax.random.key(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract
    )
    assert metrics["loss"].shape == () and metrics["loss"].dtype == jnp.float32
    condition = jax.eval_shape(system.condition, model.abstract_params, system.feature_spec(2))
    assert condition.tokens.shape == (2, 230, 4096)


@pytest.mark.parametrize(
    "route, references, tokens",
    [
        ("aligner", 0, 226),
        ("direct", 0, 2048),
        ("beside", 2, 226 + 2 * 1350),
    ],
)
def test_gradients_of_the_paper_preset_of_vimi_have_consistent_shapes(route, references, tokens):
    config = bridge.from_config_dict(c.TrainConfig, load("vimi").get_config("paper"))
    model = dataclasses.replace(config.system.model, route=route)
    section = dataclasses.replace(config.system, model=model, reference_latents=references)
    system = systems.make_system(dataclasses.replace(config, batch_size=2, system=section))
    batch = system.batch_spec(system.buckets[0])
    assert batch.moments.mean.shape == (2, 13, 60, 90, 16)
    assert batch.features.states.shape == (2, 1, 2048, 4096)
    assert system.num_tokens(system.buckets[0]) == tokens + 13 * 1350
    params = system.model.abstract_params
    grads, _ = jax.eval_shape(jax.grad(system.loss, has_aux=True), params, batch, jax.random.key(0))
    assert jax.tree.map(lambda x: x.shape, grads) == jax.tree.map(lambda x: x.shape, params)
