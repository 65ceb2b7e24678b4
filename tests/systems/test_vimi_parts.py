# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""The parts of VIMI that train on their own: a LLaVA by captioning, an aligner by T5's states."""

import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.data import sources
from mimir_jax.encoders import multimodal, text
from mimir_jax.encoders.interleaved import Prompt, Text
from mimir_jax.systems.captioning import pairs
from mimir_jax.systems.vimi import prompts
from mimir_jax.training import loop
from mimir_jax.weights import initialization
from tests import helpers, runs

ALIGNER = c.AlignerConfig(
    llm_width=20, text_width=24, text_length=24, width=16, num_layers=1, num_heads=2, head_dim=8,
    mlp_dim=16,
)  # fmt: skip


def captioning(folder, **changes):
    """A run that teaches the random LLaVA in `folder`."""
    fields = {"model": runs.LLAVA, "tokenizer_path": str(folder), "length": 64, "heldout_texts": 8}
    return c.TrainConfig(
        system=c.CaptioningSystemConfig(**fields | {"examples": 1} | changes),
        data=c.DataConfig(
            toyworld=c.ToyworldConfig(num_scenes=16, variety="single"),
            frames=1,
            height=32,
            width=32,
        ),
        optimizer=c.OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
        steps=4,
        batch_size=16,
    )


def aligning(frozen, folder):
    """A run that aligns the LLaVA in `folder` with T5."""
    return c.TrainConfig(
        system=c.AlignerSystemConfig(
            model=ALIGNER,
            multimodal=c.MultimodalConfig(path=str(folder), length=48),
            text=c.TextConfig(t5_path=str(frozen / "t5"), length=24),
            heldout_texts=8,
        ),
        data=c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=16)),
        optimizer=c.OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
        steps=4,
        batch_size=8,
    )


def test_answers_alone_are_learned_behind_their_image(llava_folder):
    run = captioning(llava_folder)
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    source = encoder.source("train")
    records = [source[i] for i in range(8)]
    batch = encoder.encode({name: [r[name] for r in records] for name in records[0]})
    tokenizer = system.tokenization.tokenizer
    for record, ids, labels in zip(records, batch.ids, batch.labels, strict=True):
        told = labels[labels >= 0]
        assert tokenizer.decode(told).removesuffix(tokenizer.eos_token).strip() == record["answer"]
        start = int(np.argmax(labels >= 0))
        np.testing.assert_array_equal(ids[start + 1 :][: len(told)], told)
        assert tokenizer.decode(ids[: start + 1]).endswith("<|assistant|>")
        assert (ids == run.system.model.image_token).sum() == 4
    questions = {r["prompt"].segments[-1].text.strip() for r in records}
    assert questions & {pairs.DESCRIBE, *c.INSTRUCTIONS}
    assert batch.pixels.shape == (8, 32, 32, 3)


@pytest.mark.slow
def test_micro_batches_give_the_step_of_the_batch(llava_folder):
    run = captioning(llava_folder)
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    records = [encoder.source("train")[i] for i in range(4)]
    batch = encoder.encode({name: [r[name] for r in records] for name in records[0]})
    helpers.require_accumulation_of_the_whole(system, jax.device_put(batch))


@pytest.mark.slow
def test_micro_batches_of_an_aligner_give_the_step_of_the_batch(frozen, llava_folder):
    run = aligning(frozen, llava_folder)
    rng = np.random.default_rng(0)
    for pads in ("match", "ignore"):
        model = dataclasses.replace(ALIGNER, pads=pads)
        system = systems.make_system(
            dataclasses.replace(run, system=dataclasses.replace(run.system, model=model))
        )
        spec = system.batch_spec(dataclasses.replace(system.buckets[0], batch=4))
        batch = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), spec)
        lengths = np.array([[3], [9], [20], [5]])
        batch = dataclasses.replace(batch, t5_mask=np.arange(24) < lengths)
        helpers.require_accumulation_of_the_whole(system, jax.device_put(batch))


def test_an_aligner_matches_the_words_for_images(frozen, llava_folder, monkeypatch):
    run = aligning(frozen, llava_folder)
    tasks = c.TasksConfig(caption=1.0, subject=2.0, prediction=1.0, retrieval=2.0)
    part = dataclasses.replace(
        run.system,
        multimodal=dataclasses.replace(run.system.multimodal, length=96),
        tasks=tasks,
        invented_names=1.0,
        prompts_per_clip=3,
    )
    data = c.DataConfig(toyworld=c.ToyworldConfig(num_scenes=16, variety="single"))
    run = dataclasses.replace(run, system=part, data=data)
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    source = encoder.source("train")
    assert len(source) == 48 and source[33]["index"] == 1 and source[33]["number"] == 2
    assert source[1]["caption"] == source[33]["caption"]
    records = [source[i] for i in range(0, 48, 4)]
    batch = encoder.encode({name: [r[name] for r in records] for name in records[0]})
    again = encoder.encode({name: [r[name] for r in records[:2]] for name in records[0]})
    np.testing.assert_array_equal(again.states, batch.states[:2])
    assert (batch.mask.sum(1).max() > batch.t5_mask.sum(1)).all()
    clips = sources.make_source(data, "train", seed=run.seed)
    made = prompts.PromptMaker(part, clips, run.seed, None)
    drawn = [made.draw(clips[r["index"]], r["number"]) for r in records]
    assert sum(p.words is not None for p in drawn) > 4
    t5 = text.TextEncoder(part.text, use_llm=False)
    expected = t5.encode([p.caption if p.words is None else p.words for p in drawn])
    np.testing.assert_array_equal(batch.t5, expected.t5)
    evaluators = systems.make_evaluators(run, system, encoder)
    params = system.model.init(jax.random.key(0))
    values = {k: v for e in evaluators for k, v in e.evaluate(params).items()}
    assert {f"loss_{name}" for name in tasks.shares} < set(values)
    monkeypatch.setattr(prompts.PromptMaker, "has_task", lambda self, index, task: False)
    for evaluator in systems.make_evaluators(run, system, encoder)[1:]:
        assert evaluator.evaluate(params) == {}  # no held-out clip has such prompts


def test_a_row_that_its_question_fills_has_nothing_to_learn(llava_folder):
    run = captioning(llava_folder, length=8)
    encoder = systems.make_encoder(run, systems.make_system(run))
    record = encoder.source("train")[0]
    batch = encoder.encode({"prompt": [record["prompt"]], "answer": ["a red circle " * 30]})
    assert batch.ids.shape == (1, 8) and (batch.labels == -1).all()


@pytest.mark.slow
def test_a_llava_learns_and_encodes_prompts(llava_folder, tmp_path):
    losses = []
    run = captioning(llava_folder)
    loop.train(run, tmp_path / "run", report=lambda step, values: losses.append(values))
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert (tmp_path / "run/samples/0000004/texts.txt").read_text().count("\n") == 3
    weights.convert(tmp_path / "run", tmp_path / "llava", dtype="float32")
    encoder = multimodal.MultimodalEncoder(
        c.MultimodalConfig(path=str(tmp_path / "llava"), length=32)
    )
    image = np.zeros((32, 32, 3), np.uint8)
    assert encoder.encode([Prompt((image, Text("\na cat")))]).mask.sum() > 4
    model = encoder.network.model
    start = initialization.read_init(f"{llava_folder},{tmp_path / 'llava'}", model)
    jax.tree.map(np.testing.assert_array_equal, start, encoder.network.params)


@pytest.mark.slow
def test_an_aligner_learns_and_starts_vimi(frozen, llava_folder, tmp_path):
    losses = []
    run = aligning(frozen, llava_folder)
    loop.train(run, tmp_path / "run", report=lambda step, values: losses.append(values))
    assert losses[-1]["loss"] < losses[0]["loss"] and losses[-1]["cosine"] > losses[0]["cosine"]
    vimi = systems.make_system(runs.vimi_run(frozen, llava_folder, tmp_path)).model
    start = initialization.read_init(str(tmp_path / "run"), vimi)
    trained = weights.load(tmp_path / "run", kind="aligner")[1]
    jax.tree.map(np.testing.assert_array_equal, start["aligner"], trained)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"tokenizer_path": None}, "tokenizer_path must name the folder of a tokenizer with the"),
        ({"tokenizer_path": "package:tiny/llm"}, "must have the image token 2357"),
        ({"tokenizer_path": "package:tiny/llava"}, "must make the 32 x 32 pixels of the image"),
        ({"length": 4}, "length must be above 4, the tokens of an image"),
    ],
    ids=["none", "of an LLM", "other images", "short"],
)
def test_parts_that_do_not_fit_are_one_line(llava_folder, changes, message):
    with pytest.raises(ValueError, match=message):
        run = captioning(llava_folder, **changes)
        systems.make_encoder(run, systems.make_system(run))
