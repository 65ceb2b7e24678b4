# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.models import dit, functional, layers, llm, lora, quantization, t5, vit
from mimir_jax.models import params as params_lib
from mimir_jax.models.vae import autoencoder
from mimir_jax.weights import native

LLM = c.LLMConfig(
    vocab_size=40, width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, mlp_dim=96
)
DIT = dataclasses.replace(
    c.TINY_DIT, num_layers=2, num_heads=2, head_dim=32, sample_height=4, sample_width=4
)
KERNEL = jax.random.normal(jax.random.key(0), (256, 96)) * jnp.linspace(0.1, 3.0, 96)[None]
X = jax.random.normal(jax.random.key(1), (3, 5, 256))


def linear(kernel, how, x=X, dtype="float32"):
    parts = quantization.quantize(kernel, how)
    stand_in = quantization.QuantizedKernel(**parts, activations=how == "int8_activations")
    model = functional.build(Dense, (*kernel.shape, dtype))
    return model.apply({"dense": {"kernel": stand_in}}, x), parts


class Dense(layers.nnx.Module):
    def __init__(self, cfg, *, rngs):
        rows, columns, dtype = cfg
        axes = ("embed", "mlp")
        self.dense = layers.Linear(rows, columns, axes=axes, bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)


def error(ours, reference):
    """Norm of the difference over the norm of the reference."""
    ours, reference = (np.asarray(x, np.float64) for x in (ours, reference))
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


def test_a_value_is_off_by_half_a_step_of_its_own_channel():
    kernel = np.asarray(KERNEL)
    for how, bound in (("int8", 0.5), ("fp8", None)):
        parts = jax.device_get(quantization.quantize(KERNEL, how))
        assert parts["values"].dtype.itemsize == 1 and parts["scale"].shape == (1, 96)
        assert parts["scale"].dtype == np.float32
        values = parts["values"].astype(np.float32) * parts["scale"]
        off = np.abs(values - kernel)
        if bound is not None:
            np.testing.assert_allclose(parts["scale"][0], np.abs(kernel).max(0) / 127.5, rtol=1e-6)
            assert (off <= bound * parts["scale"] * (1 + 1e-4)).all()
        else:  # three bits behind the leading one, and equal steps below the smallest normal value
            assert (off <= np.maximum(np.abs(kernel) / 16, 2.0**-10 * parts["scale"])).all()


@pytest.mark.parametrize(
    ("how", "bound"), [("int8", 0.01), ("int8_activations", 0.015), ("fp8", 0.03)]
)
def test_a_linear_layer_is_within_the_error_of_its_rounding(how, bound):
    ours, parts = linear(KERNEL, how)
    assert error(ours, X @ KERNEL) < bound
    if how == "int8":  # uniform errors of a step, over the deviation of each column
        width = np.asarray(KERNEL).std(0)
        steps = np.asarray(parts["scale"])[0] / width
        theory = math.sqrt((steps**2).mean() / 12)
        assert (
            0.8 * theory
            < error(np.asarray(ours) / width, np.asarray(X @ KERNEL) / width)
            < 1.2 * theory
        )
    if how != "int8_activations":
        dequantised = parts["values"].astype(jnp.float32) * parts["scale"]
        assert error(ours, X @ dequantised) < 1e-6


def test_integer_products_are_exact():
    ours, parts = linear(KERNEL, "int8_activations")
    rows = quantization.quantize_rows(X)
    assert rows.qvalue.dtype == jnp.int8 and rows.scale.shape == (3, 5, 1)
    sums = np.asarray(rows.qvalue, np.int64) @ np.asarray(parts["values"], np.int64)
    expected = sums * np.asarray(rows.scale, np.float64) * np.asarray(parts["scale"], np.float64)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_16_bits_add_the_rounding_of_inputs_and_results_alone(dtype):
    x = X.astype(dtype)
    ours, parts = linear(100 * KERNEL, "int8", x, dtype)
    assert ours.dtype == dtype
    exact = np.asarray(x, np.float64) @ (
        np.asarray(parts["values"], np.float64) * np.asarray(parts["scale"], np.float64)
    )
    assert error(ours, exact) < float(jnp.finfo(dtype).eps)


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_channels_of_zeros_stay_zero_and_extremes_do_not_wrap(how):
    kernel = jnp.zeros((8, 3)).at[:, 1].set(-5.0).at[:, 2].set(5.0)
    values, scale = (quantization.quantize(kernel, how)[part] for part in quantization.PARTS)
    np.testing.assert_allclose(values.astype(jnp.float32) * scale, kernel, rtol=0.005)


def network(name):
    module, cfg, call = {
        "llm": (llm.LLM, LLM, lambda m, p: m.encode(p, jnp.arange(14).reshape(2, 7))),
        "t5": (
            t5.T5Encoder,
            c.T5Config(vocab_size=40, width=64, num_layers=2, num_heads=2, mlp_dim=96),
            lambda m, p: m.apply(p, jnp.arange(14).reshape(2, 7), None),
        ),
        "vit": (
            vit.ViT,
            c.ViTConfig(image_size=8, patch=4, width=64, num_layers=2, num_heads=2, mlp_dim=96),
            lambda m, p: m.apply(p, jax.random.normal(jax.random.key(2), (2, 8, 8, 3))),
        ),
        "dit": (
            dit.DiT,
            DIT,
            lambda m, p: m.apply(
                p,
                jax.random.normal(jax.random.key(2), (2, 3, 4, 4, DIT.in_channels)),
                jax.random.normal(jax.random.key(3), (2, 5, DIT.text_width)),
                jnp.array([10, 900]),
            ),
        ),
    }[name]
    plain = functional.build(module, cfg)
    rng = np.random.default_rng(0)
    params = jax.tree.map(  # a fresh DiT is the identity
        lambda x: jnp.asarray(rng.normal(size=x.shape, scale=x.shape[-1] ** -0.5), jnp.float32),
        plain.abstract_params,
    )
    return plain, params, call


KEPT = {
    "llm": {"head/kernel"},
    "t5": set(),
    "vit": {"patch/kernel"},
    "dit": {
        *("patch/kernel", "text/kernel", "time/up/kernel", "time/down/kernel"),
        *("head/linear/kernel", "head/proj/kernel"),
        *("blocks/block/norm1/linear/kernel", "blocks/block/norm2/linear/kernel"),
    },
}


PER_LAYER = {"int8": 0.01, "int8_activations": 0.015, "fp8": 0.03}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("t5", "fp8"),
        ("dit", "int8"),
        *(
            pytest.param(name, how, marks=pytest.mark.slow)
            for name in KEPT
            for how in PER_LAYER
            if (name, how) not in (("t5", "fp8"), ("dit", "int8"))
        ),
    ],
)
def test_every_network_computes_nearly_the_same_with_kernels_of_a_quarter_of_the_bytes(name, how):
    plain, params, call = network(name)
    flat = params_lib.flatten(params)
    model = quantization.quantized(plain, how)
    made = model.quantize(params)
    spec = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), made)
    assert spec == model.abstract_params
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))
    saved = sum(3 * flat[p].size - 4 * flat[p].size // flat[p].shape[-2] for p in model.targets)
    size = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))  # noqa: E731
    assert size(params) - size(made) == saved
    ours, reference = (
        jax.jit(lambda p, m=m: call(m, p))(p) for m, p in ((model, made), (plain, params))
    )
    kernels = sum(flat[path].shape[0] for path in model.targets)
    assert 0 < error(ours, reference) < PER_LAYER[how] * math.sqrt(kernels)


@pytest.mark.parametrize("name", KEPT)
def test_attention_and_feed_forward_alone_are_quantised(name):
    plain = network(name)[0]
    model = quantization.quantized(plain, "int8")
    kernels = {path for path in params_lib.flatten(plain.axes) if path.endswith("/kernel")}
    assert kernels - set(model.targets) == KEPT[name]
    assert all("attention/" in path or "mlp/" in path for path in model.targets)


def test_parameters_of_the_plain_network_still_compute_as_they_are():
    plain, params, call = network("t5")
    model = quantization.quantized(plain, "int8")
    np.testing.assert_array_equal(call(model, params), call(plain, params))


@pytest.mark.slow
def test_cached_decoding_reads_quantised_kernels():
    plain, params, _ = network("llm")
    model = quantization.quantized(plain, "int8")
    made = model.quantize(params)
    ids = jnp.arange(6)[None]
    step = jax.jit(lambda cache, ids: model.extend(made, ids, None, cache))
    first = step(llm.init_cache(LLM, 1, 6), ids[:, :4])
    both = jnp.concatenate([first.states, step(first.cache, ids[:, 4:]).states], 1)
    np.testing.assert_allclose(both, model.encode(made, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_adapters_stay_in_floating_point_beside_quantised_kernels():
    plain, _, _ = network("llm")
    adapted = lora.adapt(plain, c.LoraConfig(rank=3, targets=("/attention/",)), base="")
    params = adapted.init(jax.random.key(0))
    params["lora"] = jax.tree.map(lambda x: x + 0.1, params["lora"])
    model = quantization.quantized(adapted, "int8")
    made = model.quantize(params)
    ids = jnp.arange(14).reshape(2, 7)

    def loss(adapters, model, params):
        return jnp.square(model.encode({**params, "lora": adapters}, ids)[..., 0]).sum()

    ours, reference = (
        jax.jit(jax.grad(loss), static_argnums=1)(params["lora"], m, p)
        for m, p in ((model, made), (adapted, params))
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        assert error(a, b) < 0.1


def test_a_network_is_quantised_once_and_off_is_itself():
    plain, _, _ = network("t5")
    assert quantization.quantized(plain, "off") is plain
    assert quantization.quantized(plain, "int8") is quantization.quantized(plain, "int8")
    drawn = quantization.quantized(plain, "fp8").init(jax.random.key(0))
    assert quantization.is_quantized(drawn)
    assert not quantization.is_quantized(plain.abstract_params)


def test_what_cannot_be_quantised_is_refused_in_one_line(monkeypatch, tmp_path):
    plain, params, _ = network("t5")
    vae = functional.build(
        autoencoder.VAE, c.VAEConfig(block_channels=(4, 4), norm_groups=2, temporal_compression=2)
    )
    with pytest.raises(ValueError, match="off for VAE, which has no linear .* got int8; leave"):
        quantization.quantized(vae, "int8")
    made = quantization.quantized(plain, "int8").quantize(params)
    with pytest.raises(ValueError, match="weights to save must be floating-point, got quantised"):
        native.save(tmp_path / "t5", "t5", plain.config, made)
    assert not (tmp_path / "t5").exists()
    with pytest.raises(TypeError, match="read whole, got index 0"):
        quantization.QuantizedKernel(1, 2)[0]
    monkeypatch.setitem(sys.modules, "qwix", None)
    quantization.quantized.cache_clear()
    with pytest.raises(ValueError, match=r"needs qwix, .* pip install 'mimir-jax\[quantize\]'"):
        quantization.quantized(plain, "int8")


@pytest.mark.slow
def test_opening_the_package_does_not_import_qwix():
    code = "import sys, mimir_jax.sampling.open; sys.exit('qwix' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
