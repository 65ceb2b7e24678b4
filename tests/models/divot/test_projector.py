# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax.config import LLMConfig, MixtureConfig, ProjectorConfig
from mimir_jax.models import functional, llm
from mimir_jax.models.divot import mask, mixture, projector, sequences
from mimir_jax.models.divot.sequences import InputTurn, OutputTurn, TextTurn
from tests.helpers import relative_error
from tests.models.divot.rows import FRAMES, LONG, QUERIES, VOCAB, WIDTH, clips

RNG = np.random.default_rng(0)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


@pytest.mark.torch
def test_projector_equals_torch():
    import torch

    model = functional.build(projector.Projector, ProjectorConfig(token_width=3, llm_width=7))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape), jnp.float32), model.abstract_params
    )
    tokens = clips(2, 5)
    p = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), params)
    hidden = torch.tensor(tokens) @ p["up"]["kernel"] + p["up"]["bias"]
    expected = torch.nn.functional.gelu(hidden) @ p["down"]["kernel"] + p["down"]["bias"]
    assert relative_error(jax.jit(model.apply)(params, tokens), expected) < 1e-5


def test_projector_has_the_published_size():
    model = functional.build(projector.Projector, ProjectorConfig())
    assert model.num_params == 17_833_984
    ranks = jax.tree.map(lambda s, a: s.ndim == len(a), model.abstract_params, model.axes)
    assert all(jax.tree.leaves(ranks))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_clips_replace_the_embeddings_at_their_positions(dtype):
    embeddings = jnp.asarray(RNG.normal(size=(2, 9, 5)), dtype)
    values = jnp.asarray(RNG.normal(size=(2, 2, 3, 5)), jnp.float32)
    positions = jnp.asarray([[[1, 2, 3], [5, 6, 8]], [[4, 5, 6], [-1, -1, -1]]])
    expected = np.array(embeddings)
    for row, clip in [(0, 0), (0, 1), (1, 0)]:
        expected[row, positions[row, clip]] = values[row, clip].astype(dtype)
    ours = jax.jit(projector.place)(embeddings, values, positions)
    assert ours.dtype == dtype and (np.asarray(ours) == expected).all()
    taken = jax.jit(projector.take)(ours, positions)
    assert (taken[0] == values[0].astype(dtype)).all()
    assert (taken[1, 0] == values[1, 0].astype(dtype)).all()
    assert jnp.isfinite(taken).all()


def make_batch():
    """A generation, a comprehension and a story, padded to one length."""
    generation = [TextTurn(ids=[7, 8]), OutputTurn(tokens=clips(seed=1))]
    comprehension = [InputTurn(tokens=clips(2, seed=2)), TextTurn(ids=[9], learn=True)]
    story = [InputTurn(tokens=clips(1, seed=3)), TextTurn(ids=[5], learn=True)]
    story += [OutputTurn(tokens=clips(seed=seed)) for seed in (4, 5)]
    rows = [sequences.build(turns, VOCAB, LONG) for turns in (generation, comprehension, story)]
    return jax.tree.map(lambda *parts: jnp.asarray(np.stack(parts)), *rows)


LLM = LLMConfig(
    vocab_size=120, width=12, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=6, mlp_dim=16
)
MODELS = {
    "projector": (projector.Projector, ProjectorConfig(token_width=WIDTH, llm_width=12)),
    "llm": (llm.LLM, LLM),
    "head": (mixture.MixtureHead, MixtureConfig(token_width=WIDTH, llm_width=12)),
}


@pytest.mark.slow
def test_a_batch_passes_through_the_llm_to_the_loss():
    batch = make_batch()
    models = {name: functional.build(*parts) for name, parts in MODELS.items()}
    params = {name: jax.jit(m.init)(jax.random.key(0)) for name, m in models.items()}

    def states(params, batch):
        x = models["llm"].embed_tokens(params["llm"], batch.ids)
        projected = models["projector"].apply(params["projector"], batch.inputs)
        x = projector.place(x, projected, batch.input_positions)
        seen = mask.block_mask(batch.roles, QUERIES)
        return models["llm"].encode(params["llm"], embeddings=x, block_mask=seen)

    def loss(params, batch):
        taken = projector.take(states(params, batch), batch.query_positions)
        predicted = models["head"].apply(params["head"], taken)
        return mixture.loss(predicted, batch.targets, batch.query_positions >= 0)

    value, gradients = jax.jit(jax.value_and_grad(loss))(params, batch)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    rows = gradients["llm"]["embed"]["table"]
    assert (np.abs(rows[jnp.asarray(FRAMES)]).max(-1) > 0).all()  # the learned queries learn
    assert np.abs(gradients["projector"]["up"]["kernel"]).max() > 0

    # Where clips are read, neither the index tokens nor what fills the row has an effect.
    reading = jax.tree.map(lambda part: part[1:2], batch)
    places = jnp.asarray(reading.input_positions[0, :2]).ravel()
    other = reading._replace(
        ids=reading.ids.at[0, places].set(3), inputs=reading.inputs.at[0, 2:].set(9.0)
    )
    run = jax.jit(states)
    real = np.asarray(reading.roles != mask.PAD)
    assert relative_error(run(params, other)[real], run(params, reading)[real]) < 1e-6
