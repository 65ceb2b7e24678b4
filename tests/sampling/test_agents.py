# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Agents: which frames of videos they read, what they write, and the command."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from mimir_jax import hashing, systems, weights
from mimir_jax.data import loader
from mimir_jax.evaluation import generation
from mimir_jax.models.divot import sequences
from mimir_jax.models.divot.sequences import TextTurn
from mimir_jax.sampling import agents, pipeline, video, written_videos
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base
from mimir_jax.systems.divot_llm import agent as agent_lib
from mimir_jax.systems.divot_llm import video_files, writer
from mimir_jax.weights import runs
from tests import commands
from tests import runs as tiny_runs
from tests.systems import agents as tiny_agents


def test_a_video_is_read_in_clips_at_the_rate_of_the_run(folders):
    config = runs.read_config(folders / "pretrain")
    frames, note = video_files.read_video(folders / "clip.mp4", config)
    assert frames.shape == (27, 16, 16, 3) and note == ""  # the last clip ends with the video
    video.write_mp4(folders / "short.mp4", np.zeros((6, 32, 48, 3), np.uint8), fps=16.0)
    frames, note = video_files.read_video(folders / "short.mp4", config)
    assert frames.shape == (9, 16, 16, 3)
    assert note == "short.mp4: 16 fps read at 8, 0.38 s stretched to a window of 9 frames"


def test_a_part_of_a_video_is_read_alone(folders):
    config = runs.read_config(folders / "pretrain")
    ramp = np.arange(24, dtype=np.uint8)[:, None, None, None] * 10
    path = folders / "ramp.mp4"
    video.write_mp4(path, np.broadcast_to(ramp, (24, 16, 16, 3)), fps=8.0)
    frames, note = video_files.read_video(path, config, span=(1.0, 2.125))
    np.testing.assert_allclose(frames.mean((1, 2, 3)), range(80, 170, 10), atol=4)
    assert note == ""
    with pytest.raises(ValueError, match="no frame from 5 to 6 s of 3; convert it, or name"):
        video_files.read_video(path, config, span=(5.0, 6.0))


def test_a_published_llm_reads_frames_as_the_public_code_does(folders):
    config = runs.read_config(folders / "instruct")
    frame = np.random.default_rng(2).integers(0, 255, (40, 60, 3), np.uint8)
    Image.fromarray(frame).save(folders / "wide.png")
    read, _ = video_files.read_video(folders / "wide.png", config, published=True)
    whole = Image.fromarray(frame).resize((24, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read[0], np.asarray(whole)[:, 4:20])
    ours, _ = video_files.read_video(folders / "wide.png", config)
    assert ours.shape == read.shape and (ours != read).any()


class Echo(writer.Writer):
    """Answers with what was asked."""

    def __init__(self):
        pass

    def describe(self, clips, question="", *, kind=None, seed=0):
        return f"{kind}: {question}"


def test_an_image_is_one_clip_of_its_frame(folders):
    config = runs.read_config(folders / "instruct")
    frame = np.random.default_rng(1).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(frame).save(folders / "still.png")
    read, note = video_files.read_video(folders / "still.png", config)
    np.testing.assert_array_equal(read, frame[None])
    assert note == ""
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    tokens = encoder.clip_tokens.encode(read)
    still = np.repeat(read, tiny_agents.TOKENIZER.frames, axis=0)  # five copies, as published
    np.testing.assert_allclose(tokens, encoder.clip_tokens.encode(still), atol=1e-5)
    agent = agent_lib.Agent(config, system, encoder, Echo())
    assert agent.describe(read) == "image: Describe the image."
    assert agent.describe(read, "Why?") == "image: Why?"
    assert agent.describe(np.repeat(read, 9, axis=0)) == "video: Describe the video."
    vocab = system.vocab
    (open_, image, _) = encoder.rows.asked(tokens, "What colour is it?", "image")
    row = sequences.build(
        [open_, image, TextTurn(ids=[1], learn=True)], vocab, system.rows
    ).ids.tolist()
    start = 1 + len(open_.ids)
    block = [vocab.clip[0], *vocab.indices, vocab.clip[1]]
    assert row[start : start + len(block) + 2] == [vocab.image[0], *block, vocab.image[1]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tokenizer of clips, and a run of each form."""
    root = tmp_path_factory.mktemp("describe")
    clips = tiny_agents.write_tokenizer(root / "tokenizer")
    for form in ("pretrain", "instruct"):
        config = tiny_agents.run(clips, form=form, max_length=160, answer_length=6)
        system = systems.make_system(config)
        tiny_agents.write_run(root / form, config, jax.jit(system.model.init)(jax.random.key(0)))
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 48, 3), np.uint8)
    video.write_mp4(root / "clip.mp4", frames, fps=8.0)
    return root


@pytest.mark.slow
def test_the_command_describes_and_answers(folders):
    args = ("--checkpoint", folders / "instruct", "--describe", folders / "clip.mp4")
    code, out, err = commands.call("sample", *args)
    assert code == 0, err
    assert out.startswith(f"{folders / 'clip.mp4'}: ")
    code, other, err = commands.call("sample", *args, "--question", "How many objects are there?")
    assert code == 0, err
    assert other != out
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folders / "grey.jpg")
    args = (*args[:2], "--describe", folders / "grey.jpg", "--describe", folders / "clip.mp4")
    code, both, err = commands.call("sample", *args)
    assert code == 0, err
    assert both.startswith(f"{folders / 'grey.jpg'}: ") and both.endswith(out)


@pytest.mark.parametrize(
    "run, args, message",
    [
        ("pretrain", ["--question", "Why?"], "--question must be left out for a model that was"),
        ("instruct", ["--prompt", "a"], "--prompt must be left out with --describe"),
        ("package:tiny/mimir", [], "must be a run of divot_llm"),
    ],
    ids=["question", "prompt", "system"],
)
def test_requests_that_cannot_be_met_are_one_line(folders, run, args, message):
    checkpoint = run if run.startswith("package:") else folders / run
    line = commands.error_of(
        "sample", "--checkpoint", checkpoint, "--describe", folders / "clip.mp4", *args
    )
    assert message in line


@pytest.mark.parametrize(
    "name, value",
    [("negative_prompt", "b"), ("first_frame", "heldout:0"), ("retrieve", "memory"),
     ("extend", "heldout:0"), ("length", 17)],
)  # fmt: skip
def test_what_no_clip_follows_from_is_refused_before_the_llm_is_read(
    folders, tmp_path, name, value, monkeypatch
):
    monkeypatch.setattr(agents, "open_agent", None)
    args = ("--checkpoint", folders / "instruct", "--prompt", "a", "--out", tmp_path / "none")
    line = commands.error_of("sample", *args, f"--{name}", value)
    assert f"--{name} must be left out for a run of divot_llm, " in line
    assert f"got {value}; leave it out" in line and not (tmp_path / "none").exists()


def test_a_missing_video_is_one_line(folders):
    args = ("--checkpoint", folders / "pretrain", "--describe", folders / "none.mp4")
    assert "must be a video, a folder of frames or an image" in commands.error_of("sample", *args)
    assert "pass --describe" in commands.error_of("sample", "--question", "Why?")


@pytest.fixture(scope="module")
def pair(folders, frozen):
    """A run of an LLM that begins a clip after any text, and the run of its de-tokenizer."""
    config = tiny_runs.divot_run(frozen)
    system = systems.make_system(config)
    tiny_agents.write_run(folders / "divot", config, jax.jit(system.model.init)(jax.random.key(0)))
    clips = dataclasses.replace(config.data, frames=9)
    changes = dict(model={"token_width": 8}, form="instruct", max_length=200)
    config = tiny_agents.run(folders / "divot", **changes)
    config = dataclasses.replace(config, data=clips)
    system = systems.make_system(config)
    params = jax.jit(system.model.init)(jax.random.key(0))
    params = tiny_agents.prefer(params, system.vocab.video[0])
    return tiny_agents.write_run(folders / "agent", config, params)


@pytest.mark.slow
def test_prompts_and_stories_become_videos(pair, tmp_path):
    code, _, err = commands.call(
        "sample", "--checkpoint", pair, "--prompt", "a red circle", "--out", tmp_path / "prompt"
    )
    assert code == 0, err
    record = json.loads((tmp_path / "prompt/000.json").read_text())
    assert record["prompt"] == "a red circle" and record["tokens_content"]
    code, _, err = commands.call(
        "sample", "--checkpoint", pair, "--story", "a circle", "--pages", 2, "--out",
        tmp_path / "story",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = commands.call(
        "sample", "--checkpoint", pair, "--reconstruct", "heldout:0", "--out", tmp_path / "again"
    )
    assert code == 0, err
    assert (tmp_path / "again/000-clip.mp4").is_file()
    records = [json.loads((tmp_path / f"story/00{n}.json").read_text()) for n in range(2)]
    assert records[0]["tokens_content"] != records[1]["tokens_content"]
    assert (tmp_path / "story/index.html").is_file()


@pytest.mark.slow
def test_the_command_sweeps_variances(pair, tmp_path):
    code, out, err = commands.call(
        "evaluate", "variances", "--checkpoint", pair, "--scenes", 1, "--variety", "single",
        "--steps", 1, "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert "variances x 0.1" in out and "negative log-likelihood per dimension of" in out
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["scales"] == [0.0, 0.1, 0.3, 1.0]
    assert np.isfinite(found["negative_log_likelihood"]["mean"])


@pytest.mark.slow
def test_a_released_run_takes_along_what_draws_its_clips(pair, folders, tmp_path):
    one = tmp_path / "one"
    weights.convert(pair, one, to="run", dtype="float16")
    config, inner = runs.read_config(one), runs.read_config(one / "clip_tokenizer")
    assert config.system.clip_tokenizer_path == str(one / "clip_tokenizer")
    assert inner.system.kind == "divot" and runs.is_released(one / "clip_tokenizer")
    moved = one.rename(tmp_path / "moved")
    assert agents.is_agent(moved)
    read = [
        systems.make_encoder(c, systems.make_system(c))
        for c in map(runs.read_config, (pair, moved))
    ]
    video = np.zeros((9, 16, 16, 3), np.uint8)
    expected, found = (encoder.clip_tokens.encode(video) for encoder in read)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    weights.convert(folders / "pretrain", tmp_path / "native", to="run")
    assert (tmp_path / "native/clip_tokenizer/manifest.json").is_file()


class Drawn(pipeline.Pipeline):
    """Draws the first number of the tokens."""

    fps, batch_multiple = 8.0, 2
    settings = {"checkpoint": "divot", "step": 9, "steps": 20}

    def __init__(self):
        pass

    def generate(self, requests, *, batch_size):
        return np.stack([np.full((1, 2, 2, 3), r.tokens[0, 0], np.uint8) for r in requests])


class Writing(agent_lib.Agent):
    """Writes the seed of a request."""

    config = system = None

    def __init__(self):
        pass

    def write_clip(self, caption, *, seed=0):
        return base.Page("", np.full((4, 8), seed, "f"))


def test_suites_generate_what_the_agent_writes():
    made = written_videos.WrittenVideos(Writing(), Drawn(), {"checkpoint": "llm", "step": 3})
    assert isinstance(made, generation.Generator) and made.settings == {
        "checkpoint": "llm", "step": 3, "steps": 20, "detokenizer": "divot", "detokenizer_step": 9
    }  # fmt: skip
    requests = [Request("a red circle", seed=4), Request("two rings", seed=5)]
    assert made.generate(requests, batch_size=2)[:, 0, 0, 0, 0].tolist() == [4, 5]


@pytest.mark.slow
def test_a_detokenizer_trains_on_what_the_llm_writes(pair, folders, tmp_path):
    config = runs.read_config(folders / "divot")
    part = dataclasses.replace(config.system, agent_path=str(pair))
    config = dataclasses.replace(
        config, system=part, data=dataclasses.replace(config.data, window="first")
    )
    system = systems.make_system(config)
    encoder = systems.make_encoder(config, system)
    found = [encoder.source("train")[i] for i in range(2)]
    batch = encoder.encode(loader.stack(found))
    tokens = batch.features.tokens
    assert (
        tokens.shape
        == system.feature_batch_spec(dataclasses.replace(system.buckets[0], batch=2)).tokens.shape
    )
    assert np.abs(tokens[0] - tokens[1]).max() > 1e-4
    agent = agents.open_agent(pair)
    key = int.from_bytes(hashing.content_key(found[1]["caption"])[:4], "big") >> 1
    expected = agent.writer.write_clip(found[1]["caption"], seed=key).clip
    np.testing.assert_array_equal(tokens[1], expected)
    params = jax.jit(system.model.init)(jax.random.key(0))
    value, _ = jax.jit(system.loss)(params, batch, jax.random.key(0))
    assert np.isfinite(value)
    assert "agent" in encoder.identity()


@pytest.mark.slow
def test_what_cannot_draw_the_clips_is_one_line(pair, folders, tmp_path):
    args = ("--checkpoint", pair, "--prompt", "a", "--out", tmp_path / "none")
    line = commands.error_of("sample", *args, "--detokenizer", folders / "tokenizer")
    assert "--detokenizer must be a run of divot" in line
    args = ("--checkpoint", folders / "instruct", "--prompt", "a", "--out", tmp_path / "none")
    line = commands.error_of("sample", *args, "--detokenizer", folders / "divot")
    assert "4 tokens of 6 numbers that the LLM reads, it makes 4 of 8" in line
    assert not (tmp_path / "none").exists()
