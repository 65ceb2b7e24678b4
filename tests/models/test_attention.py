# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mimir_jax.models import attention, functional, layers
from tests.helpers import relative_error

TEXT_MASK = jnp.array([[True, False, True, True, False], [False] * 4 + [True]])


@pytest.fixture(scope="module")
def qkv():
    return tuple(jax.random.normal(jax.random.key(0), (3, 2, 13, 3, 8)))


def plain(q, k, v, text_mask=None):
    mask = None
    if text_mask is not None:
        mask = jnp.pad(text_mask, ((0, 0), (0, 8)), constant_values=True)[:, None, None]
        mask = jnp.broadcast_to(mask, (2, 3, 13, 13))
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


@pytest.mark.parametrize("text_mask", [None, TEXT_MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("max_scores", [None, 2 * 3 * 13 * 4, 1], ids=["once", "chunks", "rows"])
def test_xla_kernel_and_gradient_match_plain_attention(qkv, text_mask, max_scores):
    def value_and_grads(attend):
        return jax.jit(jax.value_and_grad(lambda qkv: (attend(*qkv) ** 2).sum()))(qkv)

    ours = value_and_grads(lambda *x: attention._xla(*x, text_mask, max_scores))
    expected = value_and_grads(lambda *x: plain(*x, text_mask))
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, expected))) < 1e-5


def test_masked_keys_move_behind_a_length(qkv):
    q, k, v = qkv
    moved_k, moved_v, lengths = attention._masked_last(k, v, TEXT_MASK)
    assert lengths.tolist() == [8 + 3, 8 + 1]
    ours = jax.nn.dot_product_attention(q, moved_k, moved_v, key_value_seq_lengths=lengths)
    assert relative_error(ours, plain(q, k, v, TEXT_MASK)) < 1e-6


def test_attention_runs_in_half_precision(qkv):
    ours = attention.attend(*(x.astype(jnp.bfloat16) for x in qkv))
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours.astype(jnp.float32), plain(*qkv)) < 2e-2


class Layer(nnx.Module):
    def __init__(self, *, rngs):
        self.scale = layers.param((1,), ("norm",), layers.ones, rngs=rngs)


def stack_loss(q, remat, kernel):
    def body(layer, x, _):
        y = attention.attend(x, x, x, kernel=kernel)
        return jnp.sin(y * layers.along_last(layer.scale[...], y)), None

    stack = functional.Stack(Layer, 2, remat, rngs=nnx.Rngs(params=0))
    return stack(body, q)[0].astype(jnp.float32).sum()


@pytest.mark.parametrize(("remat", "runs"), [("full", 2), ("attention", 1)])
def test_fused_kernel_is_not_run_again_under_the_attention_policy(monkeypatch, remat, runs):
    module = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda: 91000)
    q = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda q: stack_loss(q, remat, "cudnn")))(q))
    assert jaxpr.count("dot_product_attention_fwd_wrapper[") == runs


def test_attention_policy_keeps_the_output_and_gradients(qkv):
    grad = lambda remat: jax.grad(lambda q: stack_loss(q, remat, "xla"))  # noqa: E731
    jaxpr = str(jax.make_jaxpr(grad("attention"))(qkv[0]))
    assert f"name={functional.ATTENTION_OUTPUT}" in jaxpr
    ours, expected = (jax.jit(grad(remat))(qkv[0]) for remat in ("attention", "none"))
    assert relative_error(ours, expected) < 1e-5
