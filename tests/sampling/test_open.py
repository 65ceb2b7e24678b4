# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import math
import sys

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax.config import bridge
from mimir_jax.encoders import decoding
from mimir_jax.models import quantization
from mimir_jax.parallel import distributed
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import configure
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import open as open_lib
from mimir_jax.sampling.config import SHIPPED, SampleConfig
from mimir_jax.sampling.request import Request

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

    def opened(config, mesh=None, **changes):
        folder = tmp_path_factory.mktemp("run")
        run = dataclasses.replace(RUN, system=dataclasses.replace(RUN.system, **changes))
        (folder / "config.json").write_text(bridge.to_json(run))
        return open_lib.open_pipeline(folder, config, mesh, start=True)

    return opened


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": -7}, "--frames must be at least 1, got -7"),
        ({"height": 0}, "--height must be at least 1, got 0"),
        ({"width": -64}, "--width must be at least 1, got -64"),
        ({"steps": 0}, "--steps must be at least 1, got 0"),
        ({"cache_threshold": 1.5}, "--cache_threshold must be a number from 0 to 1, got 1.5"),
        ({"guidance_every": 0}, "--guidance_every must be at least 1, got 0"),
        ({"guidance_scale": math.nan}, "--guidance_scale must be .* from 0, got nan"),
        ({"image_guidance_scale": -1.0}, "--image_guidance_scale must be .* from 0, got -1.0"),
        ({"guidance_scale": -math.inf}, "--guidance_scale must be .* from 0, got -inf"),
        ({"answer_temperature": -1.0}, "--answer_temperature must be .* from 0, got -1.0"),
        ({"answer_temperature": math.nan}, "--answer_temperature must be .* from 0, got nan"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, *value.items())),
)
def test_settings_that_no_model_can_follow_are_named_by_their_flags(values, message):
    with pytest.raises(ValueError, match=message):
        SampleConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 18}, r"--frames must be 8N\+1 .* got 18; the nearest is 17"),
        ({"height": 70}, "--height must be a multiple of 8 .* got 70; the nearest is 72"),
        ({"width": 6}, "--width must be a multiple of 8 .* got 6; the nearest is 8"),
        ({"steps": 1001}, "--steps must be at most the 1000 of training, got 1001"),
        ({"cache_threshold": 0.1}, "--cache_threshold must be 0 without a cache, got 0.1"),
        (
            {"image_guidance_scale": 2.0},
            "--image_guidance_scale must be left out for a run of mimir, .* got 2.0",
        ),
        ({"cache": "forecast"}, "--cache_threshold must be above 0 with --cache=forecast, got 0"),
        (
            {"cache": "first_block", "cache_threshold": 0.1, "guidance_every": 2},
            "--guidance_every must be 1 with --cache=first_block, got 2",
        ),
        ({"instructions": ("a", "b")}, "--instructions must hold 4 instructions, .* got 2"),
        ({"instructions": ("a", "b", "c", "many " * 60)}, "instruction 'many .* shorten it"),
    ],
    ids=[
        "frames",
        "height",
        "width",
        "steps",
        "cacheless",
        "images",
        "zero",
        "both",
        "number",
        "length",
    ],
)
def test_settings_that_a_run_cannot_follow_are_named_by_their_flags(open_run, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_run(SampleConfig(**values))
    assert "--config.data" not in str(caught.value)


FOUR = ("How many?", "Which colour?", "Where?", "What happens?")


@pytest.mark.parametrize(
    ("changes", "ignored"),
    [
        ({"ablation": "baseline"}, ("instructions", "answer_temperature", "answer_seed")),
        pytest.param({"ablation": "zeroconv"}, ("instructions",), marks=pytest.mark.slow),
        pytest.param(
            {"text": dataclasses.replace(RUN.system.text, llm_tokens="query")},
            ("answer_temperature", "answer_seed"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["baseline", "no-stabilizer", "query"],
)
def test_settings_that_nothing_reads_are_refused(open_run, changes, ignored):
    values = {"instructions": FOUR, "answer_temperature": 0.5, "answer_seed": 0}
    for name in ignored:
        message = f"must be a model that reads .* for --{name} to change a video, got mimir, row"
        with pytest.raises(ValueError, match=message):
            open_run(SampleConfig(**{name: values[name]}), **changes)
    read = {name: value for name, value in values.items() if name not in ignored}
    pipeline = open_run(SampleConfig(**read), **changes)
    assert {name for name in values if name in pipeline.settings} == set(read)
    if "answer_seed" in ignored:
        assert pipeline.answers([Request("a star"), Request("a ring")]) == [[], []]


def test_blocks_that_training_writes_out_are_scanned(open_run):
    pipeline = open_run(SampleConfig(), model=RUN.system.model.with_dit(unroll=2))
    assert pipeline.system.config.model.dit.unroll == pipeline.system.backbone.unroll == 1


def dtypes(params):
    return {str(x.dtype) for x in jax.tree.leaves(params)}


def test_transformer_and_encoders_are_quantised_and_the_record_says_so(open_run):
    pipeline = open_run(SampleConfig(quantize="fp8"), ablation="baseline")
    assert pipeline.settings["quantize"] == "fp8"
    for params in (pipeline.params["dit"], pipeline.text_encoder.params):
        assert dtypes(params) == {"float32", "float8_e4m3fn"}
    assert dtypes(pipeline.encoder.codec_params) == {"float32"}


@pytest.mark.slow
def test_a_run_with_quantised_encoders_is_sampled_with_them_unless_told_otherwise(open_run):
    text = dataclasses.replace(RUN.system.text, quantize="int8")
    for how, kept in ((None, {"float32", "int8"}), ("off", {"float32"})):
        pipeline = open_run(SampleConfig(quantize=how), text=text)
        assert dtypes(pipeline.encoder.text.networks["t5"].params) == kept
        assert dtypes(pipeline.params) == {"float32"}
        assert ("quantize" in pipeline.settings) == (how is not None)


def test_networks_that_cannot_be_quantised_are_named(open_run, monkeypatch, tmp_path):
    network = c.DivotConfig(detokenizer=c.UNetDetokenizerConfig())
    divot = c.TrainConfig(system=c.DivotSystemConfig(model=network, vae=c.ImageVAEConfig()))
    with pytest.raises(ValueError, match="--quantize must be off for a run of divot, which has no"):
        configure.with_settings(divot, SampleConfig(quantize="int8"), tmp_path)
    monkeypatch.setitem(sys.modules, "qwix", None)
    quantization.quantized.cache_clear()
    with pytest.raises(ValueError, match="quantize needs qwix, which is not installed; pip"):
        open_run(SampleConfig(quantize="int8"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["int8", "int8_activations", "fp8"])
def test_a_trained_run_makes_nearly_the_same_videos(how):
    plain, other = (
        open_lib.open_pipeline(SHIPPED, SampleConfig(quantize=quantize, steps=4))
        for quantize in (None, how)
    )
    requests = requests_for(["a large red ball on a white background"], 3)
    videos = [pipeline.generate(requests).astype(float) for pipeline in (plain, other)]
    assert 0 < np.abs(videos[0] - videos[1]).mean() < 0.25 * np.abs(videos[0] - 255 / 2).mean()


@pytest.mark.slow
def test_quantised_kernels_are_split_over_a_mesh(open_run):
    text = dataclasses.replace(RUN.system.text, llm_tokens="query")
    config, requests = SampleConfig(quantize="int8"), requests_for(["a red ball"], 4)
    pipeline = open_run(config, mesh_lib.own_mesh((1, 4, 1, 2)), text=text)
    t5 = pipeline.encoder.text.networks["t5"].params
    for params in (pipeline.params["dit"], t5):
        kernel = params["blocks"]["block"]["mlp"]["up"]["kernel"]
        assert kernel["values"].size == 8 * kernel["values"].addressable_shards[0].data.size
    expected = open_run(config, text=text).generate(requests).astype(int)
    np.testing.assert_allclose(pipeline.generate(requests), expected, atol=2)  # of 255


def requests_for(prompts, first_seed):
    return [Request(prompt, seed=seed) for seed, prompt in enumerate(prompts, first_seed)]


@pytest.mark.slow
def test_any_number_of_videos_runs_on_all_devices_with_one_decoding(open_run, monkeypatch):
    generate, calls = decoding.generate_states, []
    monkeypatch.setattr(
        decoding, "generate_states", lambda *a, **k: calls.append(0) or generate(*a, **k)
    )
    assert jax.local_device_count() == 8
    pipeline = open_run(SampleConfig(), mesh_lib.own_mesh((-1, 1, 1, 1)))
    requests = requests_for(["a red ball", "a blue box", *["a star"] * 6], 4)
    three = pipeline.generate(requests[:3], batch_size=8)
    assert three.shape == (3, 1, 16, 16, 3)
    answers = pipeline.answers(requests[:3])
    assert len(calls) == 3
    eight = pipeline.generate(requests)
    np.testing.assert_array_equal(three, eight[:3])
    assert len(np.unique(eight, axis=0)) == 8

    assert [len(said) for said in answers] == [2, 2, 2] and answers[0][0] != answers[1][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "multiple"), [((1, 2, 2, 2), 1), ((1, 1, 1, 8), 1), ((1, 8, 1, 1), 4)]
)
def test_a_model_split_over_a_mesh_makes_the_same_videos(open_run, sizes, multiple):
    requests = requests_for(["a red ball", "a blue box"], 4)
    text = dataclasses.replace(RUN.system.text, llm_tokens="query")  # decodes no answers
    pipeline = open_run(SampleConfig(), mesh_lib.own_mesh(sizes), text=text)
    assert pipeline.batch_multiple == multiple
    matrix = pipeline.params["dit"]["blocks"]["block"]["mlp"]["up"]["kernel"]
    assert matrix.size // matrix.addressable_shards[0].data.size == sizes[1] * sizes[3]
    expected = open_run(SampleConfig(), text=text).generate(requests).astype(int)
    np.testing.assert_allclose(pipeline.generate(requests), expected, atol=1)  # of 255
    np.testing.assert_allclose(pipeline.generate(requests[1:]), expected[1:], atol=1)


@pytest.fixture(scope="module")
def quick(open_run):
    """A pipeline that decodes no answers, on one device."""
    return open_run(SampleConfig(), text=dataclasses.replace(RUN.system.text, llm_tokens="query"))


@pytest.mark.slow
def test_a_run_is_called_like_a_pipeline_of_diffusers(quick):
    key = jax.random.key(7)
    videos = quick("a red ball", key=key)
    made = quick.generate([Request("a red ball", seed=7)])
    assert videos.shape == (1, 1, 16, 16, 3)
    assert np.abs(np.round(255 * videos) - made).max() <= 1
    features = quick.encode_prompt(["a red ball"])
    np.testing.assert_array_equal(quick(prompt_embeds=features, key=key), videos)
    with pytest.raises(ValueError, match=r"as states \(b, l, 128\) and .*, got shape \(1, 2\)"):
        quick(prompt_embeds=np.zeros((1, 2)), key=key)


@pytest.mark.slow
def test_negative_prompts_and_sizes_belong_to_a_request(quick, monkeypatch):
    denoise, nulls = quick.denoiser, []
    monkeypatch.setattr(quick, "denoiser", lambda *a, **k: nulls.append(a[2]) or denoise(*a, **k))
    quick.generate([Request("a red ball"), Request("a red ball", negative_prompt="a blue box")])
    features, drop = nulls[0]
    assert drop.tolist() == [True, False]
    np.testing.assert_array_equal(features.t5[1:], quick.encode_prompt(["a blue box"]).t5)
    wide = quick.generate([Request("a red ball", width=24)])
    assert wide.shape == (1, 1, 16, 24, 3)
    with pytest.raises(ValueError, match="requests made together must have one size, got 2"):
        quick.generate([Request("a"), Request("a", width=24)])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 20}, "width must be a multiple of 8 .* got 20; the nearest is 16"),
        ({"first_frame": np.zeros((8, 8, 3), np.uint8)}, "first_frame must be left out for mimir"),
        (
            {"images": (np.zeros((8, 8, 3), np.uint8),)},
            "images must be left out for this mimir",
        ),
    ],
    ids=["size", "first-frame", "images"],
)
def test_requests_that_a_system_cannot_follow_are_refused(quick, values, message):
    with pytest.raises(ValueError, match=message):
        quick.generate([Request("a red ball", **values)])


def test_a_negative_prompt_needs_guidance(open_run):
    config = SampleConfig(guidance_scale=1.0)
    pipeline = open_run(config, ablation="baseline")
    with pytest.raises(ValueError, match="negative_prompt must be left out without guidance"):
        pipeline.generate([Request("a red ball", negative_prompt="a blue box")])


@pytest.mark.slow
def test_what_no_part_of_the_condition_reads_is_told(open_run):
    prompt = " ".join(["a red ball and a blue box"] * 5)
    text = dataclasses.replace(RUN.system.text, length=64)
    # Cut for the instructions first.
    rest = open_run(SampleConfig(), text=text).truncated_text(Request(prompt))
    assert rest and prompt.endswith(rest)
    without = open_run(SampleConfig(), text=text, ablation="zeroconv").truncated_text(
        Request(prompt)
    )
    assert len(without) < len(rest)


def test_processes_share_the_videos_of_models_of_their_own(quick, monkeypatch):
    # The second of two processes makes the last of three videos, twice.
    requests = requests_for(["a", "b", "c"], 0)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed, "split_rows", lambda count: [2, 2])
    monkeypatch.setattr(distributed, "join_rows", lambda made, count: made[:count])
    monkeypatch.setattr(distributed, "gather", lambda own: [[["A"], ["B"]], own])
    made, videos = [], np.zeros((2, 1, 1, 1, 3), np.uint8)
    monkeypatch.setattr(
        quick, "_generate", lambda rows, shape, size: made.append((rows, size)) or videos
    )
    quick.generate(requests, batch_size=3)
    assert made == [([requests[2], requests[2]], 2)]
    monkeypatch.setattr(quick.encoder, "answers", lambda prompt: [prompt.upper()])
    assert quick.answers(requests) == [["A"], ["B"], ["C"]]
    assert quick.batch_multiple == 2


@pytest.mark.slow
def test_values_that_are_not_finite_end_a_video_at_its_step_and_64_bits_change_nothing(open_run):
    pipeline = open_run(SampleConfig())
    requests = [Request("a red circle", seed=2**64 - 1)]
    frames = pipeline.generate(requests)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(pipeline.generate(requests), frames)
    broken = jax.tree.map(lambda x: x, pipeline.params)
    broken["dit"]["head"]["proj"]["bias"] = broken["dit"]["head"]["proj"]["bias"] * np.nan
    with pytest.raises(FloatingPointError, match="step 1 of 2 gave values .*--guidance_scale"):
        pipeline.with_params(broken).generate(requests)
    vae = jax.tree.map(lambda x: x * np.nan, pipeline.encoder.codec_params)
    pipeline.decoder = latents_lib.Decoder(pipeline.system.codec, vae, None)
    with pytest.raises(FloatingPointError, match="video 1 of 1 must be finite, decoding"):
        pipeline.generate(requests)


def test_a_dtype_is_that_of_every_network():
    system = bridge.replace_everywhere(RUN.system, "dtype", "bfloat16")
    assert {system.text.dtype, system.vae.dtype, system.model.dit.dtype} == {"bfloat16"}
    assert system.model.fuser.dtype == system.model.stabilizer.dtype == "bfloat16"
    assert dataclasses.replace(system.vae, dtype="float32") == c.TINY_VAE
