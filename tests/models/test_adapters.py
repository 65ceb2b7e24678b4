# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.models import functional, llm, lora, t5
from mimir_jax.models import params as params_lib
from mimir_jax.models.vae import autoencoder

LLM = c.LLMConfig(
    vocab_size=40, width=24, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=6, mlp_dim=28
)
T5 = c.T5Config(vocab_size=40, width=20, num_layers=2, num_heads=2, head_dim=6, mlp_dim=28)
IDS = jnp.arange(14).reshape(2, 7)
NETWORKS = {
    "llm": (llm.LLM, LLM, (r"/attention/(qkv|out)/kernel$", r"/mlp/", "^head/")),
    "t5": (t5.T5Encoder, T5, (r"/attention/[qv]/kernel$", r"/mlp/(gate|down)/kernel$")),
}


def make(name, **overrides):
    module, cfg, targets = NETWORKS[name]
    plain = functional.build(module, cfg)
    config = c.LoraConfig(**(dict(rank=3, alpha=6.0, targets=targets) | overrides))
    return plain, lora.adapt(plain, config, base="")


def output(model, params):
    out = jax.jit(model.apply)(params, IDS)
    return out.logits if isinstance(out, llm.Output) else out


@pytest.mark.parametrize("name", ["llm", pytest.param("t5", marks=pytest.mark.slow)])
def test_any_network_begins_as_its_base_and_equals_merged_kernels(name):
    plain, model = make(name)
    base = plain.init(jax.random.key(0))
    params = model.init(jax.random.key(0))
    np.testing.assert_array_equal(output(model, params), output(plain, base))
    noise = iter(jax.random.split(jax.random.key(1), 99))
    params["lora"] = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(next(noise), x.shape), params["lora"]
    )
    flat = params_lib.flatten(jax.device_get(params))
    for target in model.targets:
        a, b = (flat.pop(path) for path in lora.factor_paths(target))
        flat[target] = lora.merged(flat[target], a, b, model.lora)
    merged = output(plain, params_lib.unflatten(flat))
    np.testing.assert_allclose(output(model, params), merged, rtol=1e-4, atol=1e-4)
    assert float(jnp.abs(merged - output(plain, base)).max()) > 0.01
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


def test_dropout_is_drawn_anew_for_every_adapter_and_layer_and_averages_out():
    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    kernel = jnp.zeros((3, 16, 16))
    eye = jnp.broadcast_to(jnp.eye(16), kernel.shape)
    names = [f"{part}/kernel" for part in ("first", "second")]
    params = params_lib.unflatten(
        {name: kernel for name in names}
        | {path: eye for name in names for path in lora.factor_paths(name)}
    )
    cfg = c.LoraConfig(rank=16, alpha=16.0, dropout=0.25)

    def read(key):
        flat = params_lib.flatten(lora.attach({**params, lora.DROPOUT: key}, cfg))
        layers = [jax.lax.map(lambda part: x @ part, flat[name]) for name in names]
        return jnp.stack(layers)  # (adapters, layers, b, l, d)

    key = jax.random.key(3)
    drawn = jax.jit(read)(key)
    np.testing.assert_array_equal(drawn, jax.jit(read)(key))
    masks = np.asarray(drawn == 0).reshape(6, -1)
    assert len(np.unique(masks, axis=0)) == 6 and 0.2 < masks.mean() < 0.3
    kept = np.asarray(jnp.where(drawn == 0, x, drawn * 0.75))
    np.testing.assert_allclose(kept, np.broadcast_to(x, drawn.shape), rtol=1e-6)
    whole = lora.attach(params, cfg)["first"]["kernel"]
    assert whole.key is None
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        c.LoraConfig(rank=2, dropout=1.0)


@pytest.mark.slow
def test_a_loss_of_training_alone_drops():
    _, model = make("llm", dropout=0.5)
    params = model.init(jax.random.key(0))
    params["lora"] = jax.tree.map(lambda a: a + 0.1, params["lora"])
    loss = lambda params, batch, key: jnp.square(model.apply(params, batch).logits).mean()  # noqa: E731
    run = jax.jit(lora.dropping(loss, model))
    keys = [jax.random.key(i) for i in (0, 0, 1)]
    first, again, other = (float(run(params, IDS, key)) for key in keys)
    plain = float(jax.jit(loss)(params, IDS, keys[0]))
    assert first == again and len({first, other, plain}) == 3
    grads = jax.eval_shape(jax.grad(lambda p: lora.dropping(loss, model)(p, IDS, keys[0])), params)
    assert jax.tree.structure(grads) == jax.tree.structure(params)
    assert lora.dropping(loss, model.plain) is loss


@pytest.mark.slow
def test_a_step_of_an_adapted_llm_changes_its_adapters_alone():
    _, model = make("llm", base_dtype="bfloat16")
    params = model.init(jax.random.key(0))
    flat = params_lib.flatten(params)
    trained = {path: x for path, x in flat.items() if not re.search(model.frozen[0], path)}
    assert {path.split("/")[0] for path in trained} == {"lora"}
    assert all(x.dtype == jnp.bfloat16 for path, x in flat.items() if path not in trained)

    def loss(trained):
        out = model.apply(params_lib.unflatten({**flat, **trained}), IDS)
        scores = jnp.take_along_axis(jax.nn.log_softmax(out.logits[:, :-1]), IDS[:, 1:, None], -1)
        return -scores.mean()

    before, grads = jax.jit(jax.value_and_grad(loss))(trained)
    after = {path: x - 0.5 * grads[path] for path, x in trained.items()}
    moved = [path for path, x in after.items() if bool((x != trained[path]).any())]
    assert len(moved) == len(model.targets)  # b alone moves in the first step, as it starts at zero
    assert float(loss(after)) < float(before)


@pytest.mark.slow
def test_convolutions_cannot_be_adapted():
    vae = functional.build(
        autoencoder.VAE, c.VAEConfig(block_channels=(4, 4), norm_groups=2, temporal_compression=2)
    )
    adapted = lora.adapt(vae, c.LoraConfig(rank=2, targets=("conv",)), base="")
    with pytest.raises(ValueError, match="'conv' must match the kernel of a linear layer of the n"):
        adapted.abstract_params  # noqa: B018
