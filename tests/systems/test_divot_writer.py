# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What an untrained LLM of Divot writes, compared with forwards over explicit rows."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import systems
from mimir_jax.encoders import decoding
from mimir_jax.errors import InputError
from mimir_jax.models.divot import sequences
from mimir_jax.models.divot.sequences import InputTurn, OutputTurn, TextTurn
from mimir_jax.systems import clip_turns
from mimir_jax.systems.divot_llm import context, objective, writer
from mimir_jax.systems.divot_llm import encoder as encoder_lib
from tests.systems import agents

CLIPS = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)


def make(form="pretrain", favourite=None, settings=writer.Settings(), **system):  # noqa: B008
    """A writer; `favourite` is the token that its LLM likes best after any other."""
    config = agents.run("none", form=form, **{"max_length": 64, "clip_frames": 4} | system)
    system = systems.make_system(config)
    params = jax.jit(system.model.init)(jax.random.key(0))
    if favourite is not None:
        params = agents.prefer(params, favourite(system.vocab))
    return system, params, writer.Writer(system, turns_of(system), params, settings)


def turns_of(system):
    return clip_turns.RowMaker(system.tokenizer, system.rows)


@pytest.mark.slow
def test_a_clip_is_the_draw_of_one_forward():
    system, params, ours = make()
    page = ours.write_clip("a red circle", seed=3)
    turns = [
        TextTurn(ids=turns_of(system).encode("a red circle")),
        OutputTurn(tokens=np.zeros((4, 6), np.float32), learn_delimiters=False),
    ]
    row = encoder_lib.stack([sequences.build(turns, system.vocab, system.rows)])
    states = jax.jit(lambda p, r: system.model.encode(p, r.ids, r.roles))(params, row)
    taken = states[0, row.query_positions[0, 0]]
    key = jax.random.split(jax.random.key(3))[1]
    expected = objective.draw(system.model, params, taken, key)
    np.testing.assert_allclose(page.clip, expected, atol=1e-5)
    mean = writer.Writer(system, turns_of(system), params, writer.Settings(choice="mean"))
    expected = objective.draw(system.model, params, taken, key, choice="mean")
    np.testing.assert_allclose(mean.write_clip("a red circle").clip, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["pretrain", "instruct"])
def test_the_likelihood_of_a_clip_is_that_of_its_training_row(form):
    system, params, ours = make(form, max_length=64)
    request = "Generate a video of" if form == "instruct" else ""
    turns = turns_of(system).generation(CLIPS[0], request, "a red circle")
    batch = encoder_lib.stack([sequences.build(turns, system.vocab, system.rows)])
    _, values = jax.jit(system.loss)(params, batch, jax.random.key(0))
    found = ours.log_likelihood(CLIPS[0], "a red circle")
    np.testing.assert_allclose(-found, values["clip_loss"], rtol=1e-5)
    assert ours.with_var_scale(1.0).log_likelihood(CLIPS[0], "a red circle") == found
    with pytest.raises(InputError, match="head must be mixture to have likelihoods"):
        make(model={"head": "regression"})[2].log_likelihood(CLIPS[0], "a red circle")


def test_a_description_is_the_likeliest_text_without_tokens_of_clips():
    system, params, ours = make(settings=writer.Settings(text_length=6))
    told = ours.describe(CLIPS)
    ids = context.Context(agents.MODEL, system.vocab, [InputTurn(tokens=CLIPS)]).ids
    clips = CLIPS[None]
    starts = [3 + 6 * n for n in range(2)]
    places = np.array([[np.arange(s, s + 4) for s in starts]])
    length = len(ids) + 6
    score = jax.jit(
        lambda ids, n: system.model.apply(
            params,
            None,
            (jnp.arange(length) < n).astype(jnp.int32)[None],
            embeddings=system.model.embed(params, ids, clips, places),
        ).logits[0, n - 1]
    )
    banned = np.array([*system.vocab.indices, system.vocab.clip[1]])
    written = []
    while len(written) < 6 and system.vocab.eos not in written:
        row = np.array([[*ids, *written, *[0] * (6 - len(written))]], np.int32)
        scores = np.array(score(row, len(ids) + len(written)))
        scores[banned] = -np.inf
        written.append(int(scores.argmax()))
    assert told == ours.decode(written)
    assert ours.describe(CLIPS) == told
    assert ours.describe(CLIPS + 1.0) != told or not told


@pytest.mark.slow
def test_rules_force_the_tokens_of_a_clip_and_mute_them_elsewhere():
    system = make()[0]
    vocab = system.vocab
    size = system.config.model.llm.vocab_size
    last = jnp.array([vocab.clip[0], vocab.indices[0], vocab.indices[-1], vocab.bos])
    scores = jnp.full((4, size), -1.0)
    forced = writer.make_rules(system, reference=False).apply(scores, last)
    expected = [vocab.indices[0], vocab.indices[1], vocab.clip[1]]
    assert forced[:3].argmax(-1).tolist() == expected and (forced[:3] > -jnp.inf).sum() == 3
    muted = [*vocab.indices, vocab.clip[1]]
    assert (forced[3, jnp.array(muted)] == -jnp.inf).all() and (forced[3] == -1).sum() == size - 5
    forced = writer.make_rules(system, reference=True).apply(scores, last)
    assert (forced[3, jnp.array(muted)] == 0).all() and (forced[3] == -1).sum() == size - 5


def test_an_instructed_model_begins_the_clip_itself():
    _, _, ours = make(
        "instruct", lambda vocab: vocab.video[0], writer.Settings(text_length=8), max_length=160
    )
    page = ours.write_clip("a red circle")
    assert page.text == "" and page.clip.shape == (4, 6)


@pytest.mark.slow
def test_a_story_reads_each_finished_clip():
    settings = writer.Settings(text_length=4)
    system, params, ours = make("instruct", lambda vocab: vocab.video[0], settings, max_length=160)
    story = ours.write_story("tell a story about a red circle", pages=3)
    assert len(story) == 3 and all(page.clip.shape == (4, 6) for page in story)
    # The second clip, with the first one in its context, by hand.
    ids = turns_of(system).encode("[INST] tell a story about a red circle [/INST]\n")
    turns = [TextTurn(ids=ids), InputTurn(tokens=story[0].clip[None]), OutputTurn(tokens=CLIPS[0])]
    row = encoder_lib.stack([sequences.build(turns, system.vocab, system.rows)])
    reading = jax.jit(
        lambda p, r: system.model.read(
            p, r.ids, r.roles, r.inputs, r.input_positions, r.targets, r.query_positions
        )
    )(params, row)
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 1))[1]
    expected = objective.draw(system.model, params, reading.queries[0, 0], key)
    np.testing.assert_allclose(story[1].clip, expected, atol=1e-5)
    ends = make("instruct", lambda vocab: vocab.eos, settings, max_length=160)[2]
    assert [page.clip for page in ends.write_story("tell a story")] == [None]


def narrow(positions, form="pretrain", **options):
    """A writer whose LLM has few positions."""
    rope = dataclasses.replace(agents.MODEL.llm.rope, max_length=positions)
    llm = dataclasses.replace(agents.MODEL.llm, rope=rope)
    return make(form, model={"llm": llm}, max_length=positions, **options)[2]


@pytest.mark.parametrize("form", ["pretrain", "instruct"])
def test_prompts_without_room_are_refused_before_anything_runs(form, monkeypatch):
    ours = narrow(24, form)
    monkeypatch.setattr(decoding, "generate", None)
    monkeypatch.setattr(objective, "draw", None)
    for write in (ours.write_clip, ours.write_story):
        with pytest.raises(InputError, match="room for the 4 queries of a clip within the 24 pos"):
            write("a red circle " * 12)
    with pytest.raises(InputError, match="must leave room for an answer within the 24 positions"):
        ours.describe(CLIPS, "how many objects are there? " * 12)


def test_text_ends_where_the_clip_behind_it_must_begin(monkeypatch):
    ours = narrow(48, "instruct", settings=writer.Settings(text_length=64))
    generate, asked = decoding.generate, []

    def record(*args, **options):
        asked.append((int(args[3].sum()), options["max_new_tokens"]))
        return generate(*args, **options)

    monkeypatch.setattr(decoding, "generate", record)
    ours.write_clip("a red circle")
    ((read, written),) = asked
    assert written == 48 - read - 6 and 0 < written < 20


@pytest.mark.parametrize("shape", [(0, 4, 6), (21, 4, 6), (1, 4, 7)], ids=str)
def test_clips_that_the_llm_does_not_read_are_refused(shape):
    with pytest.raises(InputError, match=r"must be 1 to 20 clips, of tokens of shape \(4, 6\)"):
        make()[2].describe(np.zeros(shape, np.float32))
