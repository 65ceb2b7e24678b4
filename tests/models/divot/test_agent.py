# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What Divot's LLM reads and predicts; `weights/test_divot_agent.py` compares it with torch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import AgentConfig, LLMConfig
from mimir_jax.models import functional
from mimir_jax.models.divot import agent, sequences
from mimir_jax.models.divot.sequences import InputTurn, OutputTurn, TextTurn
from tests import quick
from tests.models.divot.rows import LONG, QUERIES, VOCAB, WIDTH, clips

pytestmark = pytest.mark.usefixtures("strict_dtypes")

CFG = AgentConfig(
    llm=LLMConfig(
        vocab_size=120,
        width=12,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        head_dim=6,
        mlp_dim=16,
        query_block=QUERIES,
    ),
    token_width=WIDTH,
    num_components=2,
    denoiser_width=8,
    denoiser_layers=2,
)


def make(**changes):
    model = functional.build(agent.Agent, dataclasses.replace(CFG, **changes))
    return model, jax.jit(model.init)(jax.random.key(0))


def make_batch(seed=1):
    turns = [InputTurn(tokens=clips(1, seed=3)), TextTurn(ids=[5], learn=True)]
    turns += [OutputTurn(tokens=clips(seed=seed))]
    row = sequences.build(turns, VOCAB, LONG)
    fields = {n: x for n, x in row._asdict().items() if n != "labels"}
    return {{"ids": "input_ids"}.get(n, n): jnp.asarray(x)[None] for n, x in fields.items()}


def test_published_sizes():
    model = functional.build(agent.Agent, AgentConfig())
    count = lambda name: sum(x.size for x in jax.tree.leaves(model.abstract_params[name]))  # noqa: E731
    assert count("projector") == 17_833_984
    assert count("head") == 101_007_648
    assert count("llm") == 7_243_878_400  # Mistral-7B and twice 262 rows
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.mark.parametrize(
    "queries", quick.some(["bidirectional", "causal", "autoregressive"], "autoregressive")
)
def test_what_a_query_depends_on(queries):
    """Gradient of each predicted token by the embedding rows and the targets."""
    model, params = make(queries=queries)
    batch = make_batch()

    def predictions(table, targets):
        llm = {**params["llm"], "embed": {"table": table}}
        given = {**batch, "targets": targets}
        reading = model.read({**params, "llm": llm}, **{k: given[k] for k in given})
        return reading.queries[0, 0].sum(-1)

    table = params["llm"]["embed"]["table"]
    of_table, of_targets = jax.jit(jax.jacrev(predictions, argnums=(0, 1)))(table, batch["targets"])
    indices = jnp.asarray(VOCAB.indices)
    sees = np.abs(of_table[:, indices]).max(-1) > 0  # (predicted token, index token)
    reads = np.abs(of_targets[:, 0, 0]).max(-1) > 0  # (predicted token, target)
    lower = np.tril(np.ones((QUERIES, QUERIES), bool))
    if queries == "autoregressive":
        assert not sees.any() and (reads == np.tril(lower, -1)).all()
    else:
        assert (sees == (lower | (queries == "bidirectional"))).all() and not reads.any()


def test_regression_predicts_tokens():
    model, params = make(head="regression")
    states = jnp.ones((2, 3, 12))
    assert model.predict(params, states).shape == (2, 3, WIDTH)


def test_denoiser_starts_at_zero_and_then_sees_state_level_and_token():
    model, params = make(head="velocity")
    rng = np.random.default_rng(0)
    states, xt = (jnp.asarray(rng.normal(size=(2, 3, n)), jnp.float32) for n in (12, WIDTH))
    time = jnp.array([[0, 500, 999], [3, 4, 5]])
    predict = jax.jit(model.predict)
    assert (predict(params, states, xt, time) == 0).all()
    head = jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape), params["head"])
    moved = {**params, "head": jax.tree.map(lambda x: x.astype(jnp.float32), head)}
    first = predict(moved, states, xt, time)
    for other in ((states + 1, xt, time), (states, xt + 1, time), (states, xt, time + 1)):
        assert (np.abs(predict(moved, *other) - first).max(-1) > 1e-4).all()
    one = predict(moved, states[:1, :1], xt[:1, :1], time[:1, :1])  # each token by itself
    np.testing.assert_allclose(one, first[:1, :1], rtol=1e-4, atol=1e-5)


def test_config_computes_in_one_dtype():
    cfg = dataclasses.replace(CFG, llm=dataclasses.replace(CFG.llm, dtype="bfloat16"))
    model = functional.build(agent.Agent, cfg)
    shapes = jax.eval_shape(lambda p, b: model.read(p, **b), model.abstract_params, make_batch())
    assert shapes.states.dtype == shapes.queries.dtype == jnp.bfloat16
    head = jax.eval_shape(model.predict, model.abstract_params, shapes.queries)
    assert {x.dtype for x in head} == {jnp.dtype("float32")}
