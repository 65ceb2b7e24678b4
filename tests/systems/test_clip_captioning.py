# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""A tokenizer of clips that captions train."""

import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.data import transforms
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import InputError
from mimir_jax.evaluation import sweep
from mimir_jax.models import functional
from mimir_jax.models.divot import tokenizer
from mimir_jax.training import loop
from mimir_jax.weights import initialization, runs
from tests import helpers
from tests import runs as tiny

LLM = c.LLMConfig(
    vocab_size=2432 + 6 + 4, width=20, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8,
    mlp_dim=24,
)  # fmt: skip


@pytest.fixture
def run(frozen):
    base = tiny.divot_run(frozen)
    system = c.ClipCaptioningSystemConfig(
        model=c.ClipCaptionerConfig(tokenizer=base.system.model.tokenizer, llm=LLM),
        tokenizer_path="package:tiny/llm",
        max_length=40,
        heldout_clips=2,
        examples=1,
        answer_length=3,
    )
    freeze = dataclasses.replace(base.optimizer, freeze=("^tokenizer/vit/",), lr_scale=())
    return dataclasses.replace(base, system=system, optimizer=freeze, steps=2, sample_every=2)


@pytest.mark.slow
def test_captions_train_a_tokenizer_that_others_read(run, tmp_path):
    result = loop.train(run, tmp_path / "run")
    assert np.isfinite(result.after["loss"]) and 0 <= result.after["accuracy"] <= 1
    (examples,) = (tmp_path / "run/samples/0000002").glob("*.txt")
    assert len(examples.read_text().splitlines()) >= 2

    network = clip_tokens.ClipTokenizer(str(tmp_path / "run"))
    model, params = network.load()
    assert model.config == network.describe()[0].config == run.system.model.tokenizer
    whole = runs.open_params(tmp_path / "run").read_all()
    clip = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    tokens = clip_tokens.ClipTokens(model, params, 17).encode(clip)
    kept = {n.removeprefix("tokenizer/"): x for n, x in whole.items() if n.startswith("tokenizer/")}
    built = functional.build(tokenizer.DivotTokenizer, run.system.model.tokenizer)
    named = {"/".join(k.key for k in path): leaf for path, leaf in
             jax.tree_util.tree_leaves_with_path(params)}  # fmt: skip
    assert named.keys() == kept.keys()
    expected = built.apply(params, transforms.to_float(clip[None]))
    np.testing.assert_allclose(tokens, expected, atol=1e-5)


def test_the_loss_of_captions_reaches_the_tokenizer(run):
    system = systems.make_system(run)
    params = jax.jit(system.model.init)(jax.random.key(0))
    encoder = systems.make_encoder(run, system)
    batch = encoder.encode(encoder.heldout)
    spec = system.batch_spec(dataclasses.replace(system.buckets[0], batch=2))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(
        lambda x: (x.shape, x.dtype), spec
    )
    loss = lambda p, b: system.loss(p, b, jax.random.key(0))[0]  # noqa: E731
    grads = jax.jit(jax.grad(loss))(params, batch)
    for part in ("resampler", "space_time", "temporal"):
        assert max(np.abs(x).max() for x in jax.tree.leaves(grads["tokenizer"][part])) > 0
    (told,) = systems.make_evaluators(run, system, encoder)
    told.read()
    assert len(told.describe(params, 2)) == 2


@pytest.mark.slow
def test_micro_batches_give_the_step_of_the_batch(run):
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    batch = jax.device_put(encoder.encode(encoder.heldout))
    helpers.require_accumulation_of_the_whole(system, batch)


def test_the_miniature_starts_from_the_shipped_llm():
    preset = c.from_config_dict(c.TrainConfig, c.find_config("divot:tiny/captions"))
    model = systems.make_system(preset).model
    llm = initialization.read_init(preset.init_from, model)["llm"]
    shipped = weights.read("package:tiny/llm", dtype="float32")[1]
    assert llm["embed"]["table"].shape == (preset.system.model.llm.vocab_size, 160)
    np.testing.assert_array_equal(llm["embed"]["table"][:2432], shipped["embed"]["table"])


@pytest.mark.parametrize("name", ["divot:tiny/captions", "divot:tiny/stills"])
def test_the_miniatures_start_from_the_shipped_image_tower(name):
    preset = c.from_config_dict(c.TrainConfig, c.find_config(name))
    read = initialization.read_init(preset.init_from, systems.make_system(preset).model)
    shipped = weights.read("package:tiny/llava", dtype="float32")[1]["vit"]
    jax.tree.map(np.testing.assert_array_equal, read["tokenizer"]["vit"], shipped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system.max_length": 9}, "system.max_length must be above 10, the tokens of a clip"),
        ({"data.features": "f"}, "data.features must be None for clip_captioning"),
    ],
)
def test_what_cannot_be_trained_is_one_line(run, changes, message):
    with pytest.raises(InputError, match=message):
        sweep.apply(run, changes)
