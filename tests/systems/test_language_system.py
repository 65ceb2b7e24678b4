# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.data import toyworld as world
from mimir_jax.data.toyworld import language
from tests import helpers


def run(kind):
    model = {"t5": c.TINY_T5, "llm": dataclasses.replace(c.TINY_LLM, vocab_size=2432)}[kind]
    system = c.LanguageSystemConfig(
        kind=kind, model=model, tokenizer_path=f"package:tiny/{kind}", length=512
    )
    config = c.TrainConfig(system=system, data=c.DataConfig(), batch_size=4)
    system = systems.make_system(config)
    return system, systems.make_encoder(config, system)


@pytest.fixture(scope="module")
def llm():
    return run("llm")


def records(source, number):
    rows = [source[index] for index in range(number)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_t5_reads_narrow_captions_alone():
    source = run("t5")[1].source("train")
    for index in range(20):
        scene = world.ToyworldSource("train").scene(index)
        rng = np.random.default_rng(index)
        style = world.STYLES[rng.integers(len(world.STYLES))]
        assert source[index] == {"caption": world.caption(scene, style, int(rng.integers(1 << 16)))}


def test_llm_reads_every_wording_and_learns_replies_alone(llm):
    system, encoder = llm
    rows = records(encoder.source("train"), 40)
    wide = [phrase for row in language.TABLE["verb"].values() for forms in row for phrase in forms]
    assert any(phrase in text for text in rows["caption"] for phrase in wide)
    batch = encoder.encode(rows)
    spec = system.batch_spec(system.buckets[0])
    assert jax.tree.map(lambda x: x.dtype, spec) == jax.tree.map(lambda x: x.dtype, batch)
    for branch, labels, replies in zip(batch.branch, batch.labels, rows["replies"], strict=True):
        assert branch[-1] == -1  # nothing was cut
        for number, reply in enumerate(replies, 1):
            told = labels[(branch == number) & (labels >= 0)]
            assert system.tokenizer.decode(told, skip_special_tokens=True).strip() == reply


@pytest.mark.slow
def test_micro_batches_give_the_step_of_the_batch(llm):
    system, encoder = llm
    helpers.require_accumulation_of_the_whole(
        system, jax.device_put(encoder.encode(records(encoder.source("train"), 4)))
    )


@pytest.mark.slow
def test_micro_batches_of_t5_give_the_step_of_the_batch(monkeypatch):
    system, encoder = run("t5")
    monkeypatch.setattr(system, "draw_masked", lambda batch, key: batch.mask & (batch.ids % 3 == 0))
    batch = jax.device_put(encoder.encode(records(encoder.source("train"), 4)))
    helpers.require_accumulation_of_the_whole(system, batch)


@pytest.mark.slow
def test_branches_score_as_their_chats_do_alone(llm):
    system, encoder = llm
    batch = jax.device_put(encoder.encode(records(encoder.source("train"), 2)))
    params = system.model.init(jax.random.key(0))
    logits = system.model.read_branches(params, batch.ids, batch.branch, batch.positions)
    for number in (1, 3, 5):
        own = np.isin(batch.branch[0], (0, number))
        alone = system.model.apply(params, batch.ids[:1, own], None).logits
        np.testing.assert_allclose(logits[0, own], alone[0], atol=1e-4)
    loss, values = system.loss(params, batch, jax.random.key(0))
    assert 5.0 < float(loss) < 12.0 and 0 <= float(values["accuracy"]) < 0.1
