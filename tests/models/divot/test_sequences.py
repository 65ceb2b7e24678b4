# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import numpy as np
import pytest

from mimir_jax.config import ClipSequenceConfig
from mimir_jax.errors import InputError
from mimir_jax.models.divot import sequences, vocabulary
from mimir_jax.models.divot.sequences import InputTurn, OutputTurn, TextTurn
from tests.models.divot.rows import CFG, IDS, LONG, QUERIES, VOCAB, WIDTH, clips, ids

CAPTION = TextTurn(ids=[7, 8])
ANSWER = TextTurn(ids=[7, 8], learn=True)


def labels_of(row):
    """Positions and values of the labels."""
    return {int(i): int(row.labels[i]) for i in np.flatnonzero(row.labels != -100)}


@pytest.mark.parametrize("instructed", [False, True], ids=["pretraining", "instructed"])
def test_worked_example_of_generation(instructed):
    clip = clips()
    turn = OutputTurn(tokens=clip, learn_delimiters=instructed)
    row = sequences.build([CAPTION, turn], VOCAB, CFG)
    assert row.ids.tolist() == ids("<s> 7 8 <vid> F </vid> </s> <unk>")
    assert row.roles.tolist() == [1, 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 0]
    learned = {3: IDS["<vid>"], 10: IDS["</vid>"]} if instructed else {}
    assert labels_of(row) == learned | {11: IDS["</s>"]}
    assert row.query_positions.tolist() == [[5, 6, 7, 8]]
    assert (row.targets == clip[None]).all()
    assert (row.input_positions == -1).all() and (row.inputs == 0).all()


def test_positions_of_a_generation_row_at_full_size():
    cfg = ClipSequenceConfig(max_length=180)
    names = ["<unk>", "<s>", "</s>", "<img>", "</img>", "<vid>", "</vid>", "<frame>", "</frame>"]
    names += [f"<frame_{i:05d}>" for i in range(256)]
    vocab = vocabulary.read({name: i for i, name in enumerate(names)}, cfg.num_queries)
    turns = [TextTurn(ids=range(300, 410)), OutputTurn(tokens=np.zeros((64, 256)))]
    row = sequences.build(turns, vocab, cfg)  # a caption of 110 tokens fills it
    assert (row.roles != 0).sum() == 110 + 70 == cfg.max_length
    assert row.query_positions[0, [0, -1]].tolist() == [110 + 3, 110 + 66]
    assert row.inputs.shape == (20, 64, 256)


@pytest.mark.parametrize("count", [1, 3])
def test_comprehension_of_a_video(count):
    video = clips(count)
    row = sequences.build([InputTurn(tokens=video), ANSWER], VOCAB, LONG)
    expected = ids(f"<s> <vid> {'F ' * count}</vid> 7 8 </s>")
    size = len(expected)
    assert row.ids[:size].tolist() == expected and (row.ids[size:] == IDS["<unk>"]).all()
    assert row.roles.tolist() == [1] * size + [0] * (60 - size)
    assert labels_of(row) == {size - 3: 7, size - 2: 8, size - 1: IDS["</s>"]}
    assert (row.inputs[:count] == video).all() and (row.inputs[count:] == 0).all()
    for clip in range(count):
        assert row.input_positions[clip].tolist() == [3 + 6 * clip + i for i in range(4)]
    assert (row.input_positions[count:] == -1).all()
    assert (row.query_positions == -1).all() and (row.targets == 0).all()


@pytest.mark.parametrize("writes", [False, True])
def test_images_have_their_own_delimiters(writes):
    read = [InputTurn(tokens=clips(1), kind="image"), ANSWER]
    turns = [CAPTION, OutputTurn(tokens=clips(), kind="image")] if writes else read
    row = sequences.build(turns, VOCAB, LONG)
    expected = ids("<s> 7 8 <img> F </img> </s>" if writes else "<s> <img> F </img> 7 8 </s>")
    assert row.ids[: len(expected)].tolist() == expected
    learned = {3: IDS["<img>"], 10: IDS["</img>"]} if writes else {9: 7, 10: 8}
    assert labels_of(row) == learned | {11: IDS["</s>"]}


def test_questions_and_answers_about_a_video():
    turns = [
        TextTurn(ids=[1, 2]),
        InputTurn(tokens=clips(2)),
        TextTurn(ids=[3, 4]),
        TextTurn(ids=[5], learn=True),
        TextTurn(ids=[6]),
        TextTurn(ids=np.array([8, 9]), learn=True),
    ]
    row = sequences.build(turns, VOCAB, LONG)
    expected = ids("<s> 1 2 <vid> F F </vid> 3 4 5 6 8 9 </s>")
    assert row.ids[: len(expected)].tolist() == expected
    assert labels_of(row) == {19: 5, 21: 8, 22: 9, 23: IDS["</s>"]}
    assert row.input_positions[:2, 0].tolist() == [5, 11]


def test_stories_interleave_text_and_clips():
    first, second, seen = clips(seed=1), clips(seed=2), clips(1, seed=3)
    turns = [CAPTION, TextTurn(ids=[5], learn=True), OutputTurn(tokens=first)]
    turns += [InputTurn(tokens=seen), TextTurn(ids=[6], learn=True), OutputTurn(tokens=second)]
    row = sequences.build(turns, VOCAB, LONG)
    expected = ids("<s> 7 8 5 <vid> F </vid> <vid> F </vid> 6 <vid> F </vid> </s>")
    assert row.ids[: len(expected)].tolist() == expected
    assert (row.targets == np.stack([first, second])).all()
    assert (row.inputs[:1] == seen).all()
    assert row.query_positions[:, 0].tolist() == [6, 23]
    assert row.input_positions[:2, 0].tolist() == [14, -1]
    assert np.flatnonzero(row.roles == -1).tolist() == row.query_positions.ravel().tolist()
    names = {4: "<vid>", 11: "</vid>", 21: "<vid>", 28: "</vid>", 29: "</s>"}
    assert labels_of(row) == {3: 5, 20: 6} | {i: IDS[name] for i, name in names.items()}


def test_text_is_cut_on_the_right():
    row = sequences.build(
        [InputTurn(tokens=clips(1)), TextTurn(ids=range(9), learn=True)], VOCAB, CFG
    )
    assert row.ids.tolist() == ids("<s> <vid> F </vid> 0 1 2 3")
    assert labels_of(row) == {9: 0, 10: 1, 11: 2, 12: 3}  # without an EOS
    assert (row.roles == 1).all()


def test_rows_stack_to_batches():
    generation = [CAPTION, OutputTurn(tokens=clips())]
    comprehension = [InputTurn(tokens=clips(2)), ANSWER]
    rows = [sequences.build(turns, VOCAB, LONG) for turns in (generation, comprehension)]
    batch = jax.tree.map(lambda *parts: np.stack(parts), *rows)
    shapes = [part.shape for part in batch]
    assert shapes == [
        *[(2, 60)] * 3,
        (2, 3, QUERIES, WIDTH),
        (2, 3, QUERIES),
        (2, 2, QUERIES, WIDTH),
        (2, 2, QUERIES),
    ]
    assert [str(part.dtype) for part in batch] == [
        *["int32"] * 3,
        *["float32", "int32"] * 2,
    ]


BAD = {
    "video without clips": (
        [InputTurn(tokens=clips(0)), ANSWER],
        "turn 1 .* 1 to 3 clips, each",
    ),
    "too many clips": ([InputTurn(tokens=clips(4)), ANSWER], "at most max_inputs=3 clips, got 4"),
    "flat video": ([InputTurn(tokens=clips()), ANSWER], r"turn 1 .* got \(4, 3\); encode it"),
    "image of two": (
        [InputTurn(tokens=clips(2), kind="image"), ANSWER],
        "of one clip, each",
    ),
    "narrow clip": (
        [CAPTION, OutputTurn(tokens=clips()[:, :2])],
        r"turn 2 .* got \(4, 2\)",
    ),
    "empty clip": ([CAPTION, OutputTurn(tokens=clips()[:0])], r"one clip, of .* got \(0, 3\)"),
    "two clips to write": (
        [OutputTurn(tokens=clips())] * 2,
        "at most max_outputs=1 clips, got 2; leave some out",
    ),
    "empty text": (
        [TextTurn(ids=[], learn=True)],
        "turn 1 must hold text, got no tokens",
    ),
    "nothing to learn": (
        [InputTurn(tokens=clips(1)), CAPTION],
        "to learn .* neither in 2; set",
    ),
    "no turns": ([], "got neither in 0"),
    "long caption": (
        [TextTurn(ids=range(4)), OutputTurn(tokens=clips())],
        "must fit whole, as they write a clip, in max_length=13 tokens, got 14; shorten",
    ),
    "long question before a video": (
        [TextTurn(ids=range(5)), InputTurn(tokens=clips(1)), ANSWER],
        "must fit up to their last clip in max_length=13 tokens, got 14",
    ),
    "answer behind the cut": (
        [TextTurn(ids=range(4)), InputTurn(tokens=clips(1)), ANSWER],
        "text to learn within max_length=13 tokens, got none before the cut of 16",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_turns_are_refused(case):
    turns, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        sequences.build(turns, VOCAB, CFG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["max_length", "num_queries", "max_outputs"])
def test_bad_configs_are_refused(field):
    with pytest.raises(ValueError, match=f"ClipSequenceConfig.{field} must be at least 1, got 0"):
        dataclasses.replace(CFG, **{field: 0})
