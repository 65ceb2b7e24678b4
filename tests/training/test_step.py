# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.config import OptimizerConfig
from mimir_jax.parallel import hardware, mesh
from mimir_jax.training import flops, metrics, optimizer, state, step

AXES = {"a": ("embed", "mlp"), "b": ("mlp",)}


def loss_fn(params, batch, key):
    del key
    error = batch["x"] @ params["a"] + params["b"][None] - batch["y"]
    return (error**2).mean(), {"mae": jnp.abs(error).mean()}


def setup(ema=False, **fields):
    config = OptimizerConfig(learning_rate=1e-2, warmup_steps=0, **fields)
    params = {"a": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    tx = optimizer.make_optimizer(config, 10, AXES)
    trainable = optimizer.trainable(config, AXES)
    options = dict(loss_fn=loss_fn, tx=tx, trainable=trainable)
    return state.create(params, tx, trainable, ema=ema), options


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "x": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=(8, 2)), jnp.float32),
    }


@pytest.mark.slow
def test_accumulation_equals_the_whole_batch(batch):
    key = jax.random.key(0)
    start, options = setup()
    whole, values = step.train_step(start, batch, key, **options)
    parts, other = step.train_step(start, batch, key, accumulate=4, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, parts)
    np.testing.assert_allclose(values["mae"], other["mae"], rtol=1e-5)


def test_accumulation_equals_the_whole_batch_where_means_are_over_tokens(batch):
    where = {"x": jnp.arange(8) < 3, "y": jnp.arange(8) % 4 == 1}  # micro-batches without any, too

    def counts(batch):
        return {name: jnp.maximum(batch[f"{name}_where"].sum(), 1) for name in where}

    def loss(params, batch, key, factors={"x": 1.0, "y": 1.0}):  # noqa: B006
        del key
        error = ((batch["x"] @ params["a"] + params["b"][None] - batch["y"]) ** 2).mean(1)
        means = {
            name: factors[name] * (error * batch[f"{name}_where"]).sum() / count
            for name, count in counts(batch).items()
        }
        return means["x"] + 3 * means["y"], means

    key, (start, options) = jax.random.key(0), setup()
    options |= dict(loss_fn=loss, counts_fn=counts)
    batch |= {f"{name}_where": values for name, values in where.items()}
    whole, values = step.train_step(start, batch, key, **options)
    parts, others = step.train_step(start, batch, key, accumulate=4, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, parts)
    for name, value in values.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-5)


def test_frozen_parameters_do_not_move_nor_count_in_the_norm(batch):
    start, options = setup(freeze=("a",))
    after, values = step.train_step(start, batch, jax.random.key(0), **options)
    np.testing.assert_array_equal(start.params["a"], after.params["a"])
    assert (start.params["b"] != after.params["b"]).all()
    grad = jax.grad(lambda p: loss_fn(p, batch, None)[0])(start.params)["b"]
    np.testing.assert_allclose(values["grad_norm"], jnp.linalg.norm(grad), rtol=1e-6)


def test_ema_follows_the_parameters(batch):
    start, options = setup(ema=True, freeze=("a",))
    after, _ = step.train_step(start, batch, jax.random.key(0), ema_decay=0.999, **options)
    assert set(after.ema) == {"b"}  # what is frozen is its own average
    np.testing.assert_array_equal(after.eval_params["a"], after.params["a"])
    expected = start.params["b"] + 0.9 * (after.params["b"] - start.params["b"])
    np.testing.assert_allclose(after.ema["b"], expected, rtol=1e-6)  # decay warms up from 0.1
    assert int(after.step) == 1


def test_keys_differ_between_steps(batch):
    def noisy(params, batch, key):
        return loss_fn(params, batch, key)[0], {"draw": jax.random.uniform(key)}

    start, options = setup()
    options["loss_fn"] = noisy
    one, first = step.train_step(start, batch, jax.random.key(0), **options)
    _, second = step.train_step(one, batch, jax.random.key(0), **options)
    assert first["draw"] != second["draw"]


def test_flops_count_scans_and_products():
    def f(x, w):
        return jax.lax.scan(lambda c, _: (c @ w, None), x, length=5)[0]

    x, w = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((8, 8), jnp.float32)
    assert metrics.count_flops(f, x, w) == 5 * 2 * 4 * 8 * 8


def test_what_is_left_of_an_attention_kernel_in_a_gradient_does_not_count():
    @jax.jit
    def fused_attention():
        return jnp.ones((2, 2)) @ jnp.ones((2, 2))

    jaxpr = jax.make_jaxpr(lambda: fused_attention())().jaxpr
    assert metrics.jaxpr_flops(jaxpr, attention=False) == 0


def test_frozen_parameters_take_no_products_of_their_own(mimir_run, replace):
    task = replace(mimir_run.system, lora=c.LoraConfig(rank=2))
    system, optimizer = systems.make_system(mimir_run), mimir_run.optimizer
    (bucket,) = system.buckets
    forward, whole = (
        flops.forward_flops(system, bucket),
        flops.step_flops(system, bucket, optimizer),
    )
    assert whole == 3 * forward
    adapted = systems.make_system(replace(mimir_run, system=task))
    some = flops.step_flops(adapted, bucket, optimizer)
    assert 2 * forward < some < whole
    # The count that adapters need is the convention where all trains.
    every = jax.tree.map(lambda x: True, system.model.abstract_params)
    products = forward - flops.forward_flops(system, bucket, attention=False)
    counted = flops.gradient_flops(system, bucket, every) + 3 * products
    np.testing.assert_allclose(counted, whole, rtol=0.02)


def test_flops_count_convolutions():
    def f(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    assert metrics.count_flops(f, x, w) == 2 * (2 * 6 * 6 * 5) * (3 * 3 * 3)


def test_peak_is_that_of_all_devices_where_their_kind_is_known(monkeypatch):
    grid = mesh.make_mesh((2, 2, 2, 1))
    assert metrics.peak_flops(grid) is None
    monkeypatch.setitem(metrics.PEAK_FLOPS, jax.devices()[0].device_kind, 2.5)
    assert metrics.peak_flops(grid) == 8 * 2.5
    assert metrics.PEAK_FLOPS["TPU v5 lite"] == hardware.CHIPS["v5e"].flops
