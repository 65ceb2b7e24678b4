# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.encoders import decoding
from mimir_jax.parallel import distributed
from mimir_jax.sampling import generator
from mimir_jax.sampling.generator import Options

RUN = c.TrainConfig(
    system=c.MimirSystemConfig(
        model=c.MimirConfig(
            dit=dataclasses.replace(
                c.TINY_DIT, num_layers=1, num_heads=2, head_dim=16, sample_height=4, sample_width=4
            ),
            fuser=c.FuserConfig(t5_width=128, llm_width=160),
            stabilizer=c.StabilizerConfig(t5_width=128, llm_width=160),
        ),
        vae=c.TINY_VAE,
        vae_path="package:tiny/vae",
        text=c.TextConfig(
            t5_path="package:tiny/t5",
            llm_path="package:tiny/llm",
            length=40,
            num_answers=2,
            answer_length=12,
            instruction_length=48,
        ),
        sampler=c.SamplerConfig(name="ddim", steps=2, guidance_scale=2.0, dynamic_guidance="off"),
    ),
    data=c.DataConfig(frames=1, height=16, width=16),
)


@pytest.fixture(scope="module")
def open_run(tmp_path_factory):
    """Opens the start of a small run, with changes to its task."""

    def opened(options, **changes):
        folder = tmp_path_factory.mktemp("run")
        run = dataclasses.replace(RUN, system=dataclasses.replace(RUN.system, **changes))
        (folder / "config.json").write_text(bridge.to_json(run))
        return generator.open_generator(folder, dataclasses.replace(options, start=True))

    return opened


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": -7}, "--frames must be at least 1, got -7"),
        ({"height": 0}, "--height must be at least 1, got 0"),
        ({"width": -64}, "--width must be at least 1, got -64"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"guidance": math.nan}, "--guidance must be a finite number, got nan"),
        ({"guidance": -math.inf}, "--guidance must be a finite number, got -inf"),
        ({"answer_temperature": -1.0}, "--answer_temperature must be .* from 0, got -1.0"),
        ({"answer_temperature": math.nan}, "--answer_temperature must be .* from 0, got nan"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, *value.items())),
)
def test_options_that_no_model_can_follow_are_named_by_their_flags(values, message):
    with pytest.raises(ValueError, match=message):
        Options(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 18}, r"--frames must be 8N\+1 .* got 18; the nearest is 17"),
        ({"height": 70}, "--height must be a multiple of 8 .* got 70; the nearest is 72"),
        ({"width": 6}, "--width must be a multiple of 8 .* got 6; the nearest is 8"),
        ({"steps": 1001}, "--steps must be at most the 1000 of training, got 1001"),
        ({"instructions": ("a", "b")}, "--instructions must hold 4 instructions, .* got 2"),
        ({"instructions": ("a", "b", "c", "many " * 60)}, "instruction 'many .* shorten it"),
    ],
    ids=["frames", "height", "width", "steps", "number", "length"],
)
def test_options_that_a_run_cannot_follow_are_named_by_their_flags(open_run, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_run(Options(**values))
    assert "--config.data" not in str(caught.value)


FOUR = ("How many?", "Which colour?", "Where?", "What happens?")


@pytest.mark.parametrize(
    ("changes", "ignored"),
    [
        ({"ablation": "baseline"}, ("instructions", "answer_temperature", "answer_seed")),
        ({"ablation": "zeroconv"}, ("instructions",)),
        (
            {"text": dataclasses.replace(RUN.system.text, llm_tokens="query")},
            ("answer_temperature", "answer_seed"),
        ),
    ],
    ids=["baseline", "no-stabilizer", "query"],
)
def test_options_that_nothing_reads_are_refused(open_run, changes, ignored):
    values = {"instructions": FOUR, "answer_temperature": 0.5, "answer_seed": 0}
    for name in ignored:
        message = f"must be a Mimir that reads .* for --{name} to change a video, got the row"
        with pytest.raises(ValueError, match=message):
            open_run(Options(**{name: values[name]}), **changes)
    read = {name: value for name, value in values.items() if name not in ignored}
    maker = open_run(Options(**read), **changes)
    assert {name for name in values if name in maker.settings} == set(read)
    if "answer_seed" in ignored:
        assert maker.answers(["a star", "a ring"]) == [[], []]


@pytest.mark.slow
def test_any_number_of_videos_runs_on_all_devices_with_one_decoding(open_run, monkeypatch):
    generate, calls = decoding.generate_states, []
    monkeypatch.setattr(
        decoding, "generate_states", lambda *a, **k: calls.append(0) or generate(*a, **k)
    )
    assert jax.local_device_count() == 8
    maker = open_run(Options())
    prompts = ["a red ball", "a blue box", "a star"]
    three = maker.generate(prompts, [4, 5, 6], batch_size=8)
    assert three.shape == (3, 1, 16, 16, 3)
    answers = maker.answers(prompts)
    assert len(calls) == 3
    eight = maker.generate([*prompts, *["a star"] * 5], [4, 5, 6, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(three, eight[:3])
    assert len(np.unique(eight, axis=0)) == 8

    assert [len(said) for said in answers] == [2, 2, 2] and answers[0][0] != answers[1][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "ways"), [((1, 2, 2, 2), 1), ((1, 1, 1, 8), 1), ((1, 8, 1, 1), 4)]
)
def test_a_model_split_over_a_mesh_makes_the_same_videos(open_run, sizes, ways):
    prompts, seeds = ["a red ball", "a blue box"], [4, 5]
    text = dataclasses.replace(RUN.system.text, llm_tokens="query")  # decodes no answers
    maker = open_run(Options(mesh=sizes), text=text)
    assert maker.ways == ways
    matrix = maker._params["dit"]["blocks"]["block"]["mlp"]["up"]["kernel"]
    assert matrix.size // matrix.addressable_shards[0].data.size == sizes[1] * sizes[3]
    expected = open_run(Options(), text=text).generate(prompts, seeds).astype(int)
    made = maker.generate(prompts, seeds)
    np.testing.assert_allclose(made, expected, atol=1)  # of 255
    one = maker.generate(prompts[1:], seeds[1:])
    np.testing.assert_allclose(one, expected[1:], atol=1)


def test_a_mesh_that_the_devices_cannot_form_is_named_by_its_flag(open_run):
    with pytest.raises(ValueError, match=r"mesh sizes .* to the 8 devices; set them with --mesh"):
        open_run(Options(mesh=(1, 3, 1, 1)))


def test_what_no_part_of_the_condition_reads_is_told(open_run):
    prompt = " ".join(["a red ball and a blue box"] * 5)
    text = dataclasses.replace(RUN.system.text, length=64)
    rest = open_run(Options(), text=text).unread(prompt)  # cut for the instructions first
    assert rest and prompt.endswith(rest)
    without = open_run(Options(), text=text, ablation="zeroconv").unread(prompt)
    assert len(without) < len(rest)


def test_answers_of_many_processes_are_joined(monkeypatch):
    class Own(generator.Generator):
        fps, ways, settings, generate, unread = 8.0, 1, {}, None, None

        def answers(self, prompts):
            return [[prompt.upper()] for prompt in prompts]

    # The second of two processes makes the last of three videos, twice.
    monkeypatch.setattr(distributed, "split_rows", lambda count: [2, 2])
    monkeypatch.setattr(distributed, "gather", lambda own: [[["A"], ["B"]], own])
    assert generator.Spread(Own()).answers(["a", "b", "c"]) == [["A"], ["B"], ["C"]]
