# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of Divot's LLM on Toyworld with a random tokenizer of clips."""

import dataclasses
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.config import checks
from mimir_jax.data import loader
from mimir_jax.encoders import clip_tokens
from mimir_jax.errors import InputError
from mimir_jax.models import functional, layers
from mimir_jax.models.divot import agent, mask, mixture, sequences, vocabulary
from mimir_jax.preparation import precompute
from mimir_jax.sampling import video as video_lib
from mimir_jax.systems import clip_text, clip_turns, token_loss
from mimir_jax.systems.divot_llm import encoder as encoder_lib
from mimir_jax.systems.divot_llm import objective, presets
from mimir_jax.systems.divot_llm import writer as writer_lib
from mimir_jax.training import loop
from mimir_jax.weights import initialization, runs
from tests import helpers, quick
from tests.systems import agents


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return agents.write_tokenizer(tmp_path_factory.mktemp("clips") / "tokenizer")


def open_run(config):
    system = systems.make_system(config)
    return system, systems.make_encoder(config, system)


def records(source, number):
    read = [source.read(i, np.random.default_rng(i)) for i in range(number)]
    return {name: [row[name] for row in read] for name in read[0]}


def test_rows_of_both_tasks(folder):
    config = agents.run(folder)
    system, encoder = open_run(config)
    found = records(encoder.source("train"), 12)
    assert set(found["task"]) == {"comprehension", "generation"}
    batch = encoder.encode(found)
    spec = system.batch_spec(dataclasses.replace(system.buckets[0], batch=12))
    described = jax.tree.map(lambda x: (x.shape, x.dtype), spec)
    assert described == jax.tree.map(lambda x: (x.shape, x.dtype), batch)
    for row, task in enumerate(found["task"]):
        learned = batch.labels[row][batch.labels[row] >= 0]
        text = system.tokenizer.decode(learned[:-1]).strip()
        assert learned[-1] == system.vocab.eos
        if task == "comprehension":
            assert text == found["caption"][row] and (batch.inputs[row] != 0).all()
            assert not (batch.roles[row] == mask.QUERY).any()
        else:
            assert text == "" and (batch.roles[row] == mask.QUERY).sum() == 4
            ours = encoder.clip_tokens.encode(found["video"][row])
            assert (batch.targets[row] == ours).all()
    alone = encoder.encode({name: values[:1] for name, values in found.items()})
    assert jax.tree.all(jax.tree.map(lambda a, b: (a[0] == b[0]).all(), alone, batch))


@pytest.mark.slow
def test_instructions_teach_answers_and_delimiters(folder):
    config = agents.run(folder, form="instruct", max_length=160)
    system, encoder = open_run(config)
    found = records(encoder.source("train"), 32)
    batch = encoder.encode(found)
    vocab = system.vocab
    asked = set()
    for row, task in enumerate(found["task"]):
        learned = batch.labels[row][batch.labels[row] >= 0].tolist()
        ids = batch.ids[row][batch.roles[row] != mask.PAD].tolist()
        if task == "generation":
            assert learned == [vocab.video[0], vocab.video[1], vocab.eos]
            text = system.tokenizer.decode(ids[1 : ids.index(vocab.video[0])])
            request, caption = found["request"][row], found["caption"][row]
            assert text.strip() == f"[INST] {request} {caption} [/INST]"
        else:
            assert system.tokenizer.decode(learned[:-1]).strip() == found["answer"][row]
            asked.add(found["question"][row])
            before = system.tokenizer.decode(ids[1 : ids.index(vocab.video[0])])
            assert before.strip() == "[INST]"
    assert "Describe the video." in asked and len(asked) > 2
    assert asked <= {"Describe the video.", *c.INSTRUCTIONS}


def test_conversations_teach_every_answer(folder, tmp_path):
    """Rows of several turns as published: the marks of videos removed, one EOS at the end."""
    talks = []
    for n in range(4):
        file = f"{n}.mp4"
        frames = np.random.default_rng(n).integers(0, 255, (9, 16, 16, 3), np.uint8)
        video_lib.write_mp4(tmp_path / file, frames, fps=8.0)
        said = ("<video>\nWhat moves?", f"object {n}", "Where to?", "left", "Why?", "wind")
        pairs = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]
        talks.append({"video": file, "conversations": pairs})
    (tmp_path / "conversations.json").write_text(json.dumps(talks))
    config = agents.run(folder, form="instruct", max_length=120, generation=0.0)
    data = c.DataConfig(
        source="folder", folder=c.FolderConfig(path=str(tmp_path)), frames=9, height=16, width=16
    )
    config = dataclasses.replace(config, data=data)
    system, encoder = open_run(config)
    found = records(encoder.source("train"), 2)
    batch, vocab = encoder.encode(found), system.vocab
    for row, index in enumerate(found["index"]):
        name = encoder.clips().name(index)[0]
        texts = ["[INST] ", "What moves? [/INST]\n", f"object {name}"]
        texts += ["\n[INST] Where to? [/INST]\n", "left", "\n[INST] Why? [/INST]\n", "wind"]
        ids = [encoder.rows.encode(text) for text in texts]
        block = [vocab.clip[0], *vocab.indices, vocab.clip[1]]
        ids[1] = [vocab.video[0], *block, vocab.video[1], *ids[1]]
        whole = [vocab.bos, *(i for part in ids for i in part), vocab.eos]
        assert batch.ids[row, : len(whole)].tolist() == whole
        assert (batch.roles[row, len(whole) :] == mask.PAD).all()
        learned = [*ids[2], *ids[4], *ids[6], vocab.eos]
        labels = batch.labels[row]
        assert labels[labels >= 0].tolist() == learned
    (held,) = encoder.heldout("comprehension")
    assert held["question"] == "What moves?" and len(held["more"]) == 2


class Means(clip_tokens.ClipTokens):
    """Tokens of clips of four frames, each number their mean."""

    def __init__(self):
        pass

    def encode(self, video):
        means = video.reshape(-1, 4, *video.shape[1:]).mean((1, 2, 3, 4))
        return np.broadcast_to(means[:, None, None], (len(means), 4, 6)).astype("f")


def test_stored_videos_follow_or_fill_the_clips_of_a_row(tmp_path):
    for n, length in enumerate((8, 11, 16, 40, 40, 6)):
        frames = np.random.default_rng(n).integers(0, 255, (length, 16, 16, 3), np.uint8)
        video_lib.write_mp4(tmp_path / f"{n}.mp4", frames, fps=8.0)
        (tmp_path / f"{n}.txt").write_text("a clip")
    data = c.DataConfig(
        source="folder", folder=c.FolderConfig(path=str(tmp_path)), frames=16, height=16, width=16
    )
    for how, counts in (("follow", (2, 3, 4, 4, 4, 2)), ("fill", (4,) * 6)):
        config = agents.run("none", clip_frames=4, generation=0.0, max_length=48)
        system = dataclasses.replace(config.system, clip_windows=how)
        config = dataclasses.replace(config, system=system, data=data)
        encoder = encoder_lib.AgentEncoder(config, systems.make_system(config), Means())
        source = encoder.source("train")
        found = [source.read(i, np.random.default_rng(i)) for i in range(len(source))]
        batch = encoder.encode(loader.stack(found))
        for row, record in enumerate(found):
            count = counts[int(encoder.clips().name(record["index"])[0])]
            tokens = encoder.clip_tokens.encode(record["video"])
            assert len(tokens) == count
            assert (batch.inputs[row, :count] == tokens).all()
            assert (batch.inputs[row, count:] == 0).all()
            assert (batch.input_positions[row] >= 0).all(-1).sum() == count
        assert how in repr(encoder.clips()) and encoder.heldout_batches("comprehension")
    with pytest.raises(ValueError, match="system.clip_windows must be 'cut' for Toyworld"):
        agents.run("none", clip_windows="fill")


@pytest.mark.parametrize(
    "preset, limits",
    [
        ("paper", (100, 0.3)),
        ("paper-comprehension", (100, 0.333)),
        ("paper-generation", (100, 0.333)),
    ],
)
def test_published_runs_leave_out_small_and_long_frames(preset, limits):
    """Filters of divot.md 8."""
    data = presets.PRESETS[preset]().data
    assert (data.min_side, data.min_aspect) == limits


def test_requests_have_17_wordings_for_videos_and_22_for_images():
    videos, images = clip_turns.requests("video"), clip_turns.requests("image")
    assert (len(set(videos)), len(set(images))) == (17, 22)
    assert clip_turns.fill([clip_turns.ASK], "video")[0] in videos and "Show me a video:" in videos
    nouns = ("image", "picture", "photo", "photograph", "painting", "drawing", "illustration")
    named = {text.rstrip(":").removesuffix(" of").split()[-1] for text in images}
    assert named == set(nouns)
    assert all((f" an {n}" if n[0] == "i" else f" a {n}") in " ".join(images) for n in nouns)


@pytest.mark.slow
def test_stored_clip_tokens_give_the_same_rows(folder, tmp_path):
    config = agents.run(folder, form="instruct", max_length=160)
    toyworld = dataclasses.replace(config.data.toyworld, num_scenes=6)
    data = dataclasses.replace(config.data, toyworld=toyworld, window="first")
    config = dataclasses.replace(config, data=data)
    result = precompute.write_features(config, tmp_path / "f", dtype="float32", shard_size=4)
    assert (result.made, result.manifest.records) == (2, 6)
    stored = dataclasses.replace(
        config, data=dataclasses.replace(data, features=str(tmp_path / "f"))
    )
    (_, videos), (_, tokens) = open_run(config), open_run(stored)
    expected, found = (records(encoder.source("train"), 6) for encoder in (videos, tokens))
    assert "video" not in found and found["question"] == expected["question"]
    jax.tree.map(np.testing.assert_array_equal, videos.encode(expected), tokens.encode(found))
    assert "video" in tokens.source("heldout")[0]
    other = dataclasses.replace(stored.system, clip_frames=5)
    with pytest.raises(InputError, match="clip_frames is 9 there and 5 here"):
        open_run(dataclasses.replace(stored, system=other))[1].source("train")


@pytest.mark.slow
def test_a_video_of_several_clips_is_read_whole_and_its_first_is_written(folder):
    config = agents.run(folder, clip_frames=4)
    system, encoder = open_run(config)
    found = records(encoder.source("train"), 12)
    batch = encoder.encode(found)
    reads = found["task"].index("comprehension")
    assert (batch.input_positions[reads] >= 0).all() and batch.inputs.shape[1] == 2
    writes = found["task"].index("generation")
    tokens = encoder.clip_tokens.encode(found["video"][writes])
    assert (batch.targets[writes, 0] == tokens[0]).all()
    video = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3), np.uint8)
    tokens = encoder.clip_tokens.encode(video)
    assert tokens.shape == (2, 4, 6) and np.abs(tokens[0] - tokens[1]).max() > 1e-3
    assert (encoder.clip_tokens.encode(video[4:8]) == tokens[1:]).all()


@pytest.mark.slow
def test_loss_is_the_weighted_sum_of_both_by_hand(folder):
    config = agents.run(folder, text_weight=0.5, clip_weight=2.0)
    system, encoder = open_run(config)
    batch = jax.tree.map(jnp.asarray, encoder.encode(records(encoder.source("train"), 8)))
    params = jax.jit(system.model.init)(jax.random.key(0))
    total, values = jax.jit(system.loss)(params, batch, jax.random.key(1))
    out = jax.jit(lambda p, b: system.model.apply(p, None, b.roles, embeddings=system.model.embed(
        p, b.ids, b.inputs, b.input_positions)))(params, batch)  # fmt: skip
    scores = jax.nn.log_softmax(out.logits[:, :-1])
    labels = batch.labels[:, 1:]
    taken = jnp.take_along_axis(scores, jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    text = -taken[labels != sequences.IGNORED].mean()
    states = [
        out.last_hidden_state[row, batch.query_positions[row, 0]]
        for row in range(8)
        if batch.query_positions[row, 0, 0] >= 0
    ]
    targets = [batch.targets[r, 0] for r in range(8) if batch.query_positions[r, 0, 0] >= 0]
    predicted = system.model.predict(params, jnp.stack(states))
    clip = -mixture.log_likelihood(predicted, jnp.stack(targets)).mean() / 6
    np.testing.assert_allclose(values["text_loss"], text, rtol=1e-5)
    np.testing.assert_allclose(values["clip_loss"], clip, rtol=1e-5)
    np.testing.assert_allclose(total, 0.5 * text + 2 * clip, rtol=1e-5)


@pytest.mark.parametrize(
    "row", quick.some([{}, *presets.ROWS.values()]), ids=["divot", *presets.ROWS]
)
def test_every_head_and_every_kind_of_query_learns_and_draws(folder, row):
    config = agents.run(folder, model=row)
    system, encoder = open_run(config)
    batch = jax.tree.map(jnp.asarray, encoder.encode(records(encoder.source("train"), 8)))
    params = jax.jit(system.model.init)(jax.random.key(0))
    step = jax.jit(jax.value_and_grad(system.loss, has_aux=True))
    first = None
    for number in range(30):
        (loss, _), gradients = step(params, batch, jax.random.key(0))
        first = loss if number == 0 else first
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, gradients)
    assert np.isfinite(loss) and loss < 0.9 * first
    agent = writer_lib.Writer(system, encoder.rows, params)
    page = agent.write_clip("a red circle", seed=1)
    assert page.clip.shape == (4, 6) and np.isfinite(page.clip).all()
    same = agent.write_clip("a red circle", seed=1)
    assert (page.clip == same.clip).all()


TOKEN = jnp.array([[0.5, -1.0, 2.0]])


class Known(nnx.Module):
    """A head that knows the token."""

    def __init__(self, cfg, *, rngs):
        self.unused = layers.param((1,), (None,), layers.zeros, rngs=rngs)
        self.cfg = cfg

    def predict(self, states, xt, time):
        schedule = objective.make_schedule(self.cfg.head)
        alpha, sigma = (f(time)[:, None] for f in (schedule.alpha, schedule.sigma))
        noise = (xt - alpha * TOKEN) / sigma
        return noise if self.cfg.head == "noise" else alpha * noise - sigma * TOKEN


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mixture", pytest.param("regression", marks=pytest.mark.slow)])
def test_micro_batches_give_the_step_of_the_batch(folder, head):
    system, encoder = open_run(agents.run(folder, model={"head": head}))
    batch = jax.tree.map(jnp.asarray, encoder.encode(records(encoder.source("train"), 10)))
    helpers.require_accumulation_of_the_whole(system, batch)


@pytest.mark.parametrize("head", ["noise", "velocity"])
def test_denoising_finds_a_token_that_the_head_knows(head):
    model = functional.build(Known, c.AgentConfig(head=head, token_width=3))
    params = model.init(jax.random.key(0))
    drawn = objective.draw(model, params, jnp.zeros((1, 2)), jax.random.key(0))
    np.testing.assert_allclose(drawn, TOKEN, atol=2e-2)


def test_misfits_are_refused_before_anything_loads(folder, tmp_path):
    with pytest.raises(checks.FieldError, match="must be above"):
        agents.run(folder, max_length=9)
    with pytest.raises(checks.FieldError, match="at most 20 clips"):
        config = agents.run(folder, clip_frames=1, max_length=900)
        dataclasses.replace(config, data=dataclasses.replace(config.data, frames=21))
    small = dataclasses.replace(agents.MODEL.llm, vocab_size=2360)
    with pytest.raises(InputError, match="must hold the 2357 tokens of its tokenizer and 10 of"):
        _ = systems.make_system(agents.run(folder, model={"llm": small})).vocab
    with pytest.raises(InputError, match="4 tokens of 7 numbers .* makes 4 of 6"):
        open_run(agents.run(folder, model={"token_width": 7}))
    with pytest.raises(InputError, match="system.tokenizer_path must name"):
        _ = systems.make_system(agents.run(folder, tokenizer_path=None)).vocab
    with pytest.raises(InputError, match="must hold a tokenizer of clips, got a LLMConfig"):
        open_run(agents.run("package:tiny/llm"))


def test_every_token_of_a_vocabulary_has_a_row():
    tokenizer = clip_text.load_tokenizer("package:tiny/llm")
    used = len(tokenizer)
    tokenizer.add_tokens(vocabulary.new_names(4)[::-1])  # delimiters behind the index tokens
    assert clip_text.find_vocabulary(tokenizer, 4, used + 10).video == (used + 9, used + 8)
    with pytest.raises(InputError, match=f"must have ids below {used + 6}, the rows .* '<vid>'"):
        clip_text.find_vocabulary(tokenizer, 4, used + 6)
    tokenizer.bos_token = None
    with pytest.raises(InputError, match="must have a bos token, got none"):
        clip_text.find_vocabulary(tokenizer, 4, used + 10)


def test_cross_entropy_ignores_unlabelled_tokens():
    logits = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5], [1e-9, 1.0]]]))
    labels = jnp.array([[1, -100, 0]])
    loss, means = token_loss.cross_entropy(logits, labels)
    np.testing.assert_allclose(loss, -(np.log(0.75) + np.log(1e-9)) / 2, rtol=1e-5)
    assert means["accuracy"] == 0.5
    assert token_loss.cross_entropy(logits, jnp.full((1, 3), -100))[0] == 0


@pytest.mark.slow
def test_adapters_train_with_norms_and_vocabulary_alone(folder, tmp_path):
    lora = c.LoraConfig(
        rank=2,
        alpha=2.0,
        targets=(r"/attention/(qkv|out)/kernel$", r"/mlp/(gate_up|down)/kernel$"),
        train=(r"norm/", r"/embed/", r"/head/"),
        base_dtype="bfloat16",
    )
    config = agents.run(folder, lora=lora, form="instruct", max_length=160)
    config = dataclasses.replace(
        config, optimizer=dataclasses.replace(config.optimizer, freeze=("^projector/",)), steps=2
    )
    loop.train(config, tmp_path / "run")
    system = systems.make_system(config)
    before = jax.jit(system.model.init)(jax.random.key(config.seed))
    after = runs.open_params(tmp_path / "run").read_all()
    flat = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(before)
    }
    moved = {name for name, leaf in flat.items() if (np.asarray(leaf) != after[name]).any()}
    frozen = {
        name
        for name in flat
        if name.startswith("projector/") or ("/kernel" in name and name.startswith("llm/blocks"))
    }
    assert not moved & frozen
    assert {name for name in flat if name.startswith("llm/")} - moved == {
        name for name in frozen if name.startswith("llm/")
    }
    assert flat["llm/blocks/block/mlp/down/kernel"].dtype == jnp.bfloat16


def test_a_stopped_run_goes_on_to_the_bit(folder, tmp_path):
    config = dataclasses.replace(agents.run(folder), steps=4)
    whole = loop.train(config, tmp_path / "whole")

    def interrupt(step, metrics):
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    assert loop.train(config, tmp_path / "parts", report=interrupt).interrupted
    parts = loop.train(config, tmp_path / "parts")
    assert parts.after == whole.after and parts.after["clip_loss"] != parts.before["clip_loss"]
    assert {"loss", "text_loss", "accuracy", "clip_loss"} <= set(whole.after)
    first, second = (runs.open_params(tmp_path / n).read_all() for n in ("whole", "parts"))
    assert all((first[name] == second[name]).all() for name in first)
    lines = whole.samples[0].read_text().splitlines()
    assert len(lines) == 6 and lines[1].startswith("  ")


def test_an_llm_alone_starts_a_run_with_new_rows_at_the_mean(folder):
    model = dataclasses.replace(c.TINY_LLM, vocab_size=2442, query_block=4)
    config = agents.run(folder, model={"llm": model})
    config = dataclasses.replace(config, init_from="package:tiny/llm")
    system = systems.make_system(config)
    params = initialization.start_of(config, system.model)
    _, old = weights.load("package:tiny/llm", dtype="float32")
    table, head = params["llm"]["embed"]["table"], params["llm"]["head"]["kernel"]
    assert (table[:2432] == old["embed"]["table"]).all()
    mean = np.asarray(old["embed"]["table"]).mean(0)
    np.testing.assert_allclose(table[2432:], np.tile(mean, (10, 1)), atol=1e-6)
    mean = np.asarray(old["head"]["kernel"]).mean(1)
    np.testing.assert_allclose(head[:, 2432:], np.tile(3 * mean[:, None], 10), atol=1e-5)
    assert params["projector"]["up"]["kernel"].shape == (6, 160)


@pytest.mark.slow
def test_an_agent_of_other_sizes_does_not_start_a_run(folder, tmp_path):
    model = functional.build(agent.Agent, agents.MODEL)
    weights.save(tmp_path / "agent", "divot_llm", agents.MODEL, model.init(jax.random.key(0)))
    config = agents.run(folder, model={"num_components": 3})
    config = dataclasses.replace(config, init_from=str(tmp_path / "agent"))
    with pytest.raises(InputError, match="num_components=3, it has 2; set .*num_components=2"):
        initialization.start_of(config, systems.make_system(config).model)


@pytest.mark.slow
def test_a_short_run_learns_eight_scenes_in_both_directions(folder, tmp_path):
    config = agents.run(folder)
    toyworld = dataclasses.replace(config.data.toyworld, num_scenes=8)
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, toyworld=toyworld), steps=300, log_every=100
    )
    loop.train(config, tmp_path / "run")
    system, encoder = open_run(config)
    source = encoder.source("train")
    batch = jax.tree.map(jnp.asarray, encoder.encode(records(source, 8)))
    fresh = jax.jit(system.model.init)(jax.random.key(0))
    trained = weights.load_run(tmp_path / "run", system.model)
    loss = jax.jit(system.loss)
    before, after = (loss(params, batch, jax.random.key(0))[1] for params in (fresh, trained))
    assert after["clip_loss"] < before["clip_loss"] - 0.5
    assert after["accuracy"] > before["accuracy"] + 0.5
    agent = writer_lib.Writer(system, encoder.rows, trained)
    told = [agent.describe(encoder.clip_tokens.encode(source[i]["video"])) for i in range(8)]
    right = [said == source[i]["caption"] for i, said in enumerate(told)]
    assert sum(right) >= 3, told


def test_stories_teach_every_clip_after_those_before_it(folder):
    config = agents.run(folder, form="instruct", max_length=160)
    toyworld = dataclasses.replace(config.data.toyworld, pages=3)
    config = dataclasses.replace(
        config,
        system=dataclasses.replace(config.system, story=2.0),
        data=dataclasses.replace(config.data, frames=27, toyworld=toyworld),
    )
    system, encoder = open_run(config)
    source = encoder.source("train")
    found = records(source, 24)
    batch, vocab = encoder.encode(found), system.vocab
    told = set()
    for row, task in enumerate(found["task"]):
        page, clips = found["page"][row], encoder.clip_tokens.encode(found["video"][row])
        if task == "comprehension":
            assert (batch.inputs[row, 0] == clips[page]).all() and not batch.inputs[row, 1:].any()
            continue
        assert (batch.targets[row, 0] == clips[page]).all()
        if task == "generation":
            continue
        told.add(page)
        assert (batch.inputs[row, :page] == clips[:page]).all()
        learned = batch.labels[row][batch.labels[row] >= 0].tolist()
        assert (learned[-1] == vocab.eos) == (page == 2)
        words = system.tokenizer.decode([i for i in learned if i < 2357 and i != vocab.eos])
        texts = found["texts"][row]
        assert len(texts) == page + 1 and words.split() == " ".join(texts).split()
    assert told == {0, 1, 2} and set(found["task"]) == {"comprehension", "generation", "story"}
    heldout = encoder.heldout("story")
    assert [len(r["texts"]) for r in heldout] == [r["page"] + 1 for r in heldout]
    with pytest.raises(checks.FieldError, match="'instruct' to tell stories"):
        agents.run(folder, story=1.0)
    with pytest.raises(checks.FieldError, match="data.toyworld.pages"):
        agents.run(folder, form="instruct", max_length=160, story=1.0)
