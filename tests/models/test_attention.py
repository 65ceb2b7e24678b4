# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mimir_jax.config import DiTConfig
from mimir_jax.models import functional, layers
from mimir_jax.models.attention import kernels, ring, softmax, video
from mimir_jax.models.rngs import Rngs
from mimir_jax.parallel import context, mesh, rules
from mimir_jax.planning import collectives
from mimir_jax.training import metrics
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


def value_and_grads(attend, qkv, pad=0):
    def loss(qkv):
        y = attend(*qkv)
        return (y[:, : y.shape[1] - pad] ** 2).sum()

    return jax.jit(jax.value_and_grad(loss))(qkv)


@pytest.mark.parametrize("text_mask", [None, TEXT_MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("max_scores", [None, 2 * 3 * 13 * 4, 1], ids=["once", "chunks", "rows"])
def test_xla_kernel_and_gradient_match_plain_attention(qkv, text_mask, max_scores):
    ours = value_and_grads(lambda *x: kernels.xla(*x, text_mask, max_scores=max_scores), qkv)
    expected = value_and_grads(lambda *x: plain(*x, text_mask), qkv)
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, expected))) < 1e-5


def test_xla_kernel_takes_queries_in_chunks_by_the_scores_of_one_device(monkeypatch):
    monkeypatch.setattr(kernels, "MAX_SCORES", 4 * 4 * 20 * 20 // 8)
    q = jnp.ones((4, 20, 4, 8))
    scans = lambda: str(jax.make_jaxpr(lambda q: video.attend(q, q, q))(q)).count("scan[")  # noqa: E731
    assert kernels.num_chunks(4, 20, 4) == 8 and scans() == 1
    with context.use_mesh(mesh.make_mesh((2, 1, 2, 2)), rules.table("fsdp")):
        assert kernels.num_chunks(4, 20, 4) == 1 and scans() == 0
        assert kernels.num_chunks(3, 20, 4) == 2  # clips that two do not divide are on both
        assert kernels.num_chunks(4, 20, 6) == 6


def test_masked_keys_move_behind_a_length(qkv):
    q, k, v = qkv
    moved_k, moved_v, lengths = kernels.move_masked_last(k, v, TEXT_MASK, pad=2)
    assert lengths.tolist() == [6 + 3, 6 + 1]
    ours = jax.nn.dot_product_attention(q, moved_k, moved_v, key_value_seq_lengths=lengths)
    assert relative_error(ours, kernels.xla(q, k, v, TEXT_MASK, pad=2)) < 1e-6


def test_pads_are_no_keys(qkv):
    short = kernels.xla(*(x[:, :-2] for x in qkv), TEXT_MASK)
    assert relative_error(kernels.xla(*qkv, TEXT_MASK, pad=2)[:, :-2], short) < 1e-6


def test_pallas_kernel_and_gradient_match_xla_at_a_length_that_is_no_multiple(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK", 128)
    qkv = jax.random.normal(jax.random.key(0), (3, 2, 151, 1, 16))
    expected = value_and_grads(lambda *x: kernels.xla(*x, TEXT_MASK, pad=3), qkv, 3)
    ours = value_and_grads(lambda *x: kernels.pallas(*x, TEXT_MASK, pad=3, interpret=True), qkv, 3)
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, expected))) < 1e-5


def test_pallas_kernel_runs_on_each_device_of_a_mesh():
    qkv = jax.random.normal(jax.random.key(0), (3, 2, 20, 2, 16))
    with context.use_mesh(mesh.make_mesh((2, 1, 2, 2)), rules.table("fsdp")):
        lowered = jax.jit(lambda *x: video.attend(*x, TEXT_MASK, kernel="pallas")).lower(*qkv)
        assert "manual_computation" in lowered.as_text()
        ours = lowered.compile()(*qkv)
    assert relative_error(ours, kernels.xla(*qkv, TEXT_MASK)) < 1e-5


@pytest.mark.parametrize("pad", [0, 7])
@pytest.mark.parametrize("text_mask", [None, TEXT_MASK], ids=["whole", "masked"])
def test_tokamax_and_its_gradient_match_the_xla_kernel(text_mask, pad):
    pytest.importorskip("tokamax")  # falls back to its own XLA kernel here
    qkv = tuple(jax.random.normal(jax.random.key(0), (3, 2, 150, 3, 16)))
    attend = functools.partial(video.attend, text_mask=text_mask, pad=pad)
    expected = value_and_grads(attend, qkv, pad)
    with jax.numpy_rank_promotion("allow"):  # its own code promotes
        ours = value_and_grads(functools.partial(attend, kernel="tokamax"), qkv, pad)
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, expected))) < 1e-5


def test_kernels_that_are_not_here_are_named():
    for kernel, platform, message in (
        ("pallas", "gpu", "pallas needs tpu devices, got gpu; run it there, or choose another"),
        ("cudnn", "cpu", "cudnn needs gpu devices, got cpu"),
        ("tokamax", "cpu", "not installed; pip install tokamax, or choose another dit.attention"),
    ):
        if kernel == "tokamax" and kernels.missing(kernel, platform) is None:
            continue
        with pytest.raises(ValueError, match=message):
            kernels.require_available(kernel, platform)
    kernels.require_available("xla", "cpu")


def test_attention_runs_in_half_precision(qkv):
    ours = video.attend(*(x.astype(jnp.bfloat16) for x in qkv))
    assert ours.dtype == jnp.bfloat16
    assert relative_error(ours.astype(jnp.float32), plain(*qkv)) < 2e-2


class Layer(nnx.Module):
    def __init__(self, *, rngs):
        self.scale = layers.param((1,), ("norm",), layers.ones, rngs=rngs)


def stack_loss(q, remat, kernel):
    def body(layer, x, _):
        y = video.attend(x, x, x, kernel=kernel)
        return jnp.sin(y * layers.along_last(layer.scale[...], y)), None

    stack = functional.Stack(Layer, 2, remat, rngs=Rngs(params=0))
    return stack(body, q)[0].astype(jnp.float32).sum()


@pytest.mark.parametrize(("remat", "runs"), [("full", 2), ("attention", 1)])
def test_fused_kernel_is_not_run_again_under_the_attention_policy(monkeypatch, remat, runs):
    module = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda: 91000)
    q = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    jaxpr = str(jax.make_jaxpr(jax.grad(lambda q: stack_loss(q, remat, "cudnn")))(q))
    assert jaxpr.count("dot_product_attention_fwd_wrapper[") == runs


def kernels_in(jaxpr):
    """Counts Pallas calls, without those in a function whose results nobody takes."""
    total = sum(eqn.primitive.name == "pallas_call" for eqn in jaxpr.eqns)
    for eqn in (eqn for eqn in jaxpr.eqns if eqn.outvars):
        parts = (getattr(value, "jaxpr", value) for value in eqn.params.values())
        if eqn.primitive.name != "pallas_call":
            total += sum(kernels_in(part) for part in parts if hasattr(part, "eqns"))
    return total


def test_pallas_kernel_is_not_run_again_under_the_attention_policy():
    q = jnp.ones((1, 8, 1, 8))
    runs = {}
    for remat in ("full", "attention"):
        grad = jax.grad(lambda q: stack_loss(q, remat, "pallas"))  # noqa: B023
        runs[remat] = kernels_in(jax.make_jaxpr(grad)(q).jaxpr)
    assert runs == {"full": 4, "attention": 3}  # two of them are the gradient


def test_attention_policy_keeps_the_output_and_gradients(qkv):
    grad = lambda remat: jax.grad(lambda q: stack_loss(q, remat, "xla"))  # noqa: E731
    jaxpr = str(jax.make_jaxpr(grad("attention"))(qkv[0]))
    assert f"name={functional.ATTENTION_OUTPUT}" in jaxpr
    ours, expected = (jax.jit(grad(remat))(qkv[0]) for remat in ("attention", "none"))
    assert relative_error(ours, expected) < 1e-5


@pytest.mark.parametrize(
    ("sequence", "sizes"),
    [
        ("ulysses", (2, 1, 4, 1)),
        ("ring", (2, 1, 4, 1)),
        pytest.param("ring", (1, 1, 4, 2), marks=pytest.mark.slow),
        pytest.param("ring", (1, 1, 8, 1), marks=pytest.mark.slow),
        pytest.param("ulysses", (1, 1, 2, 4), marks=pytest.mark.slow),
    ],
)
def test_sequence_parallel_layer_and_gradients_are_those_of_one_device(sequence, sizes):
    cfg = DiTConfig(num_heads=3, head_dim=16)  # neither heads nor length divide
    layer = functional.build(video.JointAttention, cfg)
    params = jax.jit(layer.init)(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 13, 48))

    def loss(params, x):
        return (layer.apply(params, x, None, TEXT_MASK, 2)[:, :11] ** 2).sum()

    one = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
    with context.use_mesh(mesh.make_mesh(sizes), rules.table("fsdp", sequence)):
        many = jax.jit(jax.value_and_grad(lambda *x: loss(*x), (0, 1)))(params, x)
    one, many = (jax.flatten_util.ravel_pytree(x)[0] for x in (one, many))
    assert relative_error(many, one) < 1e-5  # all at once: the bias of a key has no gradient


@pytest.mark.parametrize("sizes", [(2, 1, 4, 1), (1, 2, 2, 2)], ids=["context", "tensor"])
def test_ulysses_exchanges_heads_for_sequence_and_gathers_nothing(sizes):
    cfg = DiTConfig(num_heads=8, head_dim=16)
    layer = functional.build(video.JointAttention, cfg)
    grid, table = mesh.make_mesh(sizes), rules.table("fsdp")
    shardings = rules.param_shardings(layer.abstract_params, layer.axes, table, grid)
    params = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        layer.abstract_params,
        shardings,
    )
    rows = NamedSharding(grid, P(("data", "fsdp"), "context"))
    x = jax.ShapeDtypeStruct((2, 16, cfg.width), jnp.float32, sharding=rows)
    with context.use_mesh(grid, table):
        compiled = jax.jit(layer.apply, out_shardings=rows).lower(params, x).compile()
    found = collectives.collectives(compiled.as_text())
    assert found["all-to-all"].count == 4  # queries, keys, values, and back
    gathered = found["all-gather"].bytes if "all-gather" in found else 0
    parameters = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    assert gathered <= (parameters if sizes[1] > 1 else 0)  # not the sequence


def test_ring_takes_queries_in_chunks_and_keeps_its_statistics(monkeypatch):
    q = jax.random.normal(jax.random.key(0), (2, 13, 3, 8))
    expected = jax.jit(jax.grad(lambda q: stack_loss(q, "none", "xla")))(q)
    monkeypatch.setattr(ring, "MAX_SCORES", 2 * 3 * 7 * 3)
    with context.use_mesh(mesh.make_mesh((4, 1, 2, 1)), rules.table("fsdp", "ring")):
        grad = jax.grad(lambda q: stack_loss(q, "attention", "xla"))
        ours = jax.jit(grad)(q)
        jaxpr = str(jax.make_jaxpr(grad)(q))
        again = str(jax.make_jaxpr(jax.grad(lambda q: stack_loss(q, "full", "xla")))(q))
    assert relative_error(ours, expected) < 1e-5
    assert jaxpr.count("ppermute") < again.count("ppermute")


@pytest.mark.parametrize("kernel", ["xla", "cudnn", "pallas"])
def test_flops_do_not_depend_on_the_kernel(kernel, monkeypatch):
    monkeypatch.setattr(
        "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91000
    )
    q = jax.ShapeDtypeStruct((2, 150, 3, 16), jnp.bfloat16)
    count = metrics.count_flops(lambda q: video.attend(q, q, q, kernel=kernel), q)
    assert count == 2 * 2 * 2 * 3 * 16 * 150**2


def test_softmax_attention_and_its_gradient_match_the_formula_written_out():
    keys = jax.random.split(jax.random.key(0), 4)
    q, bias = (
        jax.random.normal(k, s) for k, s in ((keys[0], (2, 6, 5, 8)), (keys[1], (1, 6, 5, 7)))
    )
    k, v = (jax.random.normal(key, (2, 3, 7, 8)) for key in keys[2:])
    mask = jnp.ones((2, 1, 5, 7), bool).at[0, 0, 1, 3:].set(False).at[1, 0, 2].set(False)

    def plain(q, k, v, bias):
        k, v = (jnp.repeat(x, 2, axis=1) for x in (k, v))
        scores = jnp.einsum("bnth,bnsh->bnts", q, k) * 0.3 + bias
        weights = jax.nn.softmax(jnp.where(mask, scores, softmax.MASKED))
        return jnp.einsum("bnts,bnsh->bnth", weights, v)

    def value_and_grad(attend):
        loss = lambda x: jnp.sin(attend(*x)).sum()  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))((q, k, v, bias))

    ours = value_and_grad(lambda q, k, v, bias: softmax.attend(q, k, v, bias, mask, 0.3))
    expected = value_and_grad(plain)
    assert max(jax.tree.leaves(jax.tree.map(relative_error, ours, expected))) < 1e-5
    assert relative_error(softmax.attend(q, k, v, bias, mask, 0.3), plain(q, k, v, bias)) < 1e-6
