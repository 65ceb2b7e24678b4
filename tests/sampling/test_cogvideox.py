# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.config import COGVIDEOX, DiTConfig, VAEConfig
from mimir_jax.encoders import tokenizers
from mimir_jax.models import dit
from mimir_jax.parallel import mesh as mesh_lib
from mimir_jax.sampling import arguments
from mimir_jax.sampling import request as request_lib
from mimir_jax.sampling import video as video_lib
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.open import load_pipeline, open_pipeline
from mimir_jax.sampling.request import Request
from mimir_jax.systems.cogvideox import published
from tests import quick
from tests.helpers import relative_error
from tests.models import dit_reference, vae_reference

LENGTH, WIDTH = 12, 16
PROMPTS = ["a red ball rolls", "two green birds fly over the lake"]

VAE = VAEConfig(
    block_channels=(8, 8, 8),
    layers_per_block=1,
    latent_channels=4,
    norm_groups=4,
    scaling_factor=0.7,
    sample_height=48,  # tiles of 6 x 5 latents, whose overlaps are whole
    sample_width=40,
)
ROPE = DiTConfig(
    num_layers=2,
    num_heads=2,
    head_dim=16,
    in_channels=4,
    out_channels=4,
    sample_frames=3,
    sample_height=8,
    sample_width=12,
    text_width=WIDTH,
    text_length=LENGTH,
    time_width=16,
)

VARIANTS = {
    "2b": dataclasses.replace(ROPE, position="sincos"),
    "5b": ROPE,
    "1.5-5b": dataclasses.replace(
        ROPE, temporal_patch=2, rope_grid="integer", sample_height=16, sample_width=16
    ),
}
SCHEDULERS = {"2b": ("ddim", 3.0), "5b": ("dpm", 1.0), "1.5-5b": ("dpm", 1.0)}


def make_tokenizer(folder):
    tokenizers.train(PROMPTS, folder, kind="t5", vocab_size=300)
    return tokenizers.load(folder)


def make_text_encoder():
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=300,
        d_model=WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return transformers.T5EncoderModel(config).eval()


def make_scheduler(name, shift):
    import diffusers

    kind = {"ddim": diffusers.CogVideoXDDIMScheduler, "dpm": diffusers.CogVideoXDPMScheduler}[name]
    return kind(
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        snr_shift_scale=shift,
    )


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Per variant, a tiny pipeline of diffusers, and ours loaded from its folder."""
    pytest.importorskip("diffusers")
    root, pairs = tmp_path_factory.mktemp("pipelines"), {}
    tokenizer, encoder = make_tokenizer(root / "tokenizer"), make_text_encoder()
    for variant in VARIANTS:
        theirs = make_pipeline(variant, tokenizer, encoder)
        theirs.save_pretrained(root / variant)
        pairs[variant] = theirs, load_pipeline(root / variant), root / variant
    return pairs


def make_pipeline(variant, tokenizer, encoder):
    import diffusers

    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae_reference.make_reference(VAE),
        transformer=dit_reference.make_reference(VARIANTS[variant]),
        scheduler=make_scheduler(*SCHEDULERS[variant]),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def to_torch(x):
    import torch

    return None if x is None else torch.tensor(np.moveaxis(x, -1, -3))


def torch_array(x):
    import torch

    return torch.tensor(x)


def run_reference(pipeline, latents, noise=None, **options):
    """Runs diffusers on channels-last noise."""
    draws = iter(() if noise is None else noise)
    step = type(pipeline.scheduler).step

    def with_noise(self, *args, **kwargs):
        fresh = to_torch(next(draws))
        with pytest.MonkeyPatch.context() as patch:
            module = "diffusers.schedulers.scheduling_dpm_cogvideox.randn_tensor"
            patch.setattr(module, lambda *a, **k: fresh)
            return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        if noise is not None:
            patch.setattr(type(pipeline.scheduler), "step", with_noise)
        return pipeline(
            latents=to_torch(latents),
            max_sequence_length=LENGTH,
            output_type="np",
            **options,
        ).frames


def draw(shape, steps=3, seed=0):
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=shape).astype(np.float32)
    return latents, rng.normal(size=(steps, *shape)).astype(np.float32)


def compare(theirs, ours, latents, noise, *, size=None, dynamic="off", **options):
    """Returns our videos and how far they are from those of diffusers."""
    noise = noise if ours.scheduler.stochastic else None
    shared = {"num_inference_steps": 3, "guidance_scale": 4.0} | options
    torch_options = {
        name: torch_array(x) if isinstance(x, np.ndarray) else x for name, x in shared.items()
    }
    expected = run_reference(
        theirs,
        latents,
        noise,
        use_dynamic_cfg=dynamic != "off",
        **torch_options,
        **(size or {}),
    )
    videos = ours(latents=latents, noise=noise, dynamic_guidance=dynamic, **shared)
    assert videos.dtype == np.float32
    return videos, relative_error(videos, expected)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("variant", "frames", "height", "width"),
    [
        pytest.param("2b", 9, 32, 48, id="2b-native"),
        pytest.param("5b", 9, 32, 48, id="5b-native", marks=pytest.mark.slow),
        pytest.param("5b", 13, 48, 16, id="5b-portrait", marks=pytest.mark.slow),
        pytest.param("1.5-5b", 9, 24, 40, id="1.5-padded", marks=pytest.mark.slow),
    ],
)
def test_videos_are_those_of_diffusers(pipelines, variant, frames, height, width):
    theirs, ours, _ = pipelines[variant]
    count = (frames - 1) // 4 + 1
    shape = (2, dit.padded_frames(count, VARIANTS[variant]), height // 4, width // 4, 4)
    size = {"num_frames": frames, "height": height, "width": width}
    for dynamic in ("off", "reference"):
        videos, error = compare(
            theirs, ours, *draw(shape), size=size, dynamic=dynamic, prompt=PROMPTS
        )
        # 4 latent frames decode to 16.
        assert videos.shape == (2, 16 if frames == 13 else frames, height, width, 3)
        assert videos.std() > 0.05  # not a flat image, nor one that clipping made
        assert ((videos > 0) & (videos < 1)).mean() > 0.7
        assert error < 1e-4


NATIVE = (2, 3, 8, 12, 4)
STILL = (2, 1, 8, 12, 4)


@pytest.mark.torch
def test_text_is_that_of_diffusers(pipelines):
    theirs, ours, _ = pipelines["5b"]
    texts = [*PROMPTS, "", "a green ball " * 20]
    expected = theirs._get_t5_prompt_embeds(texts, max_sequence_length=LENGTH)  # noqa: SLF001
    states = ours.encode_prompt(texts)
    assert states.shape == (4, LENGTH, WIDTH)
    assert relative_error(states, expected.detach()) < 1e-5


@pytest.mark.torch
@pytest.mark.parametrize("variant", quick.some(["2b", "5b"], "2b"))
def test_negative_prompts_and_embeds_are_those_of_diffusers(pipelines, variant):
    theirs, ours, _ = pipelines[variant]
    noise = draw(NATIVE)
    negative = ["blurry", "the lake"]
    videos, error = compare(theirs, ours, *noise, prompt=PROMPTS, negative_prompt=negative)
    assert error < 1e-4
    states = np.array(ours.encode_prompt([*PROMPTS, *negative]))
    embeds = {"prompt_embeds": states[:2], "negative_prompt_embeds": states[2:]}
    same, error = compare(theirs, ours, *noise, **embeds)
    assert error < 1e-4
    np.testing.assert_array_equal(same, videos)
    plain, error = compare(theirs, ours, *noise, prompt_embeds=states[:2])
    assert error < 1e-4
    assert relative_error(plain, videos) > 1e-3


@pytest.mark.slow
@pytest.mark.torch
def test_scale_one_is_unguided_however_dynamic(pipelines):
    theirs, ours, _ = pipelines["2b"]
    options = {"prompt": PROMPTS, "guidance_scale": 1.0, "size": {"num_frames": 1}}
    plain, error = compare(theirs, ours, *draw(STILL), **options)
    assert error < 1e-4
    dynamic, error = compare(theirs, ours, *draw(STILL), dynamic="reference", **options)
    assert error < 1e-4
    np.testing.assert_array_equal(dynamic, plain)


@pytest.mark.slow
@pytest.mark.torch
def test_several_videos_of_a_prompt_differ_by_their_noise(pipelines):
    _, ours, _ = pipelines["2b"]
    latents, _ = draw(STILL)
    options = {"latents": latents, "num_inference_steps": 3}
    both = ours([PROMPTS[0]] * 2, **options)
    np.testing.assert_array_equal(ours(PROMPTS[0], num_videos_per_prompt=2, **options), both)
    assert relative_error(both[0], both[1]) > 1e-2
    drawn = ours(PROMPTS[0], num_videos_per_prompt=2, output="latent", **options)
    assert drawn.shape == latents.shape
    np.testing.assert_array_equal(ours.decode(drawn), both)


@pytest.mark.slow
@pytest.mark.torch
def test_sizes_default_to_those_of_the_transformer(pipelines):
    _, ours, _ = pipelines["5b"]
    make = functools.partial(ours, PROMPTS, num_inference_steps=3)
    videos = make(key=jax.random.key(0))
    assert videos.shape == (2, 9, 32, 48, 3)
    np.testing.assert_array_equal(videos, make(key=jax.random.key(0)))
    assert relative_error(videos, make(key=jax.random.key(1))) > 1e-2
    assert relative_error(videos, make(key=jax.random.key(0), dynamic_guidance="smooth")) > 1e-3


@pytest.mark.slow
@pytest.mark.torch
def test_tiles_are_those_of_diffusers(pipelines):
    theirs, ours, _ = pipelines["2b"]
    latents = draw(STILL)[0][:1, ..., :4, :]  # two tiles, one above the other
    whole = theirs.decode_latents(to_torch(latents))
    theirs.vae.enable_tiling()
    tiled = theirs.decode_latents(to_torch(latents))
    theirs.vae.disable_tiling()
    expected, other = (
        np.clip(np.moveaxis(x.detach().numpy(), 1, -1) / 2 + 0.5, 0, 1) for x in (tiled, whole)
    )
    frames = ours.decode(latents, tiled=True)
    assert relative_error(frames, expected) < 1e-4
    assert relative_error(frames, other) > 1e-3


@pytest.mark.slow
@pytest.mark.torch
def test_networks_spread_over_a_mesh_make_the_same_video(pipelines):
    _, ours, folder = pipelines["2b"]
    spread = load_pipeline(folder, mesh=mesh_lib.make_mesh((1, 2, 1, 1), jax.devices()[:2]))
    kernel = spread.transformer.params["blocks"]["block"]["mlp"]["up"]["kernel"]
    assert len(kernel.sharding.device_set) == 2
    options = {"latents": draw(STILL)[0], "num_inference_steps": 3, "guidance_scale": 1.0}
    assert relative_error(spread(PROMPTS, **options), ours(PROMPTS, **options)) < 1e-4


@pytest.mark.slow
@pytest.mark.torch
def test_requests_run_on_all_devices_whatever_their_number(pipelines, monkeypatch):
    _, ours, folder = pipelines["2b"]
    config = SampleConfig(steps=2, frames=1, guidance_scale=4.0)
    spread = open_pipeline(folder, config, mesh_lib.own_mesh((-1, 1, 1, 1)))
    denoise, drawn = spread.denoiser, []
    monkeypatch.setattr(
        spread, "denoiser", lambda *a, **k: drawn.append(denoise(*a, **k)) or drawn[-1]
    )
    prompts = [*PROMPTS, "a lake " * 20]
    requests = [Request(prompt, seed=seed) for seed, prompt in enumerate(prompts, 3)]
    videos = spread.generate(requests)
    assert drawn[0].shape == (4, 1, 8, 12, 4)  # one more, for a guided row on each device
    assert len(drawn[0].sharding.device_set) == 8
    assert (spread.batch_multiple, len(spread.generate(requests[:1], batch_size=3))) == (4, 1)
    assert drawn[1].shape == drawn[0].shape  # of the program that ran before
    alone = ours(
        prompts,
        num_frames=1,
        num_inference_steps=2,
        guidance_scale=4.0,
        key=request_lib.make_keys([3, 4, 5]),
    )
    assert np.abs(videos - video_lib.to_uint8(2.0 * alone - 1.0).astype(int)).max() <= 1
    assert prompts[2].strip().endswith(spread.truncated_text(Request(prompts[2])))
    assert not spread.truncated_text(Request("a ball"))
    assert spread.answers(requests) == [[], [], []]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 18}, r"--frames must be 8N\+1 .* got 18; the nearest is 17"),
        ({"height": 70}, "--height must be a multiple of 8 .* got 70; the nearest is 72"),
        ({"steps": 1001}, "--steps must be at most the 1000 of training, got 1001"),
        ({"instructions": ("a",)}, "for --instructions to change a video, got cogvideox"),
        ({"answer_seed": 0}, "for --answer_seed to change a video, got cogvideox"),
        ({"sampler": "heun"}, "--sampler must be ddim or dpm for this checkpoint, got heun"),
        ({"sampler": "dpm", "eta": 0.5}, "--eta must be 0 with the sampler dpm, got 0.5"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_a_pipeline_cannot_follow_are_named_by_their_flags(
    pipelines, values, message
):
    with pytest.raises(ValueError, match=message):
        open_pipeline(pipelines["2b"][2], SampleConfig(**values))


@pytest.mark.slow
@pytest.mark.torch
def test_a_pipeline_follows_its_settings(pipelines):
    folder = pipelines["2b"][2]
    with pytest.raises(ValueError, match="must be a run to have a start and steps"):
        open_pipeline(folder, start=True)
    config = SampleConfig(sampler="dpm", steps=7, dynamic_guidance="smooth", tiled=True)
    pipeline = open_pipeline(folder, config)
    assert (type(pipeline.scheduler).__name__, pipeline.scheduler.num_steps) == ("DPM", 7)
    sampler = {"name": "dpm", "steps": 7, "guidance_scale": 6.0, "dynamic_guidance": "smooth"}
    assert pipeline.settings["sampler"].items() >= sampler.items()
    assert pipeline.settings["tiled"] and pipeline.size == (9, 32, 48)


@pytest.mark.slow
@pytest.mark.torch
def test_networks_run_in_the_dtype_asked_for(pipelines):
    _, ours, folder = pipelines["2b"]
    half = load_pipeline(folder, dtype="bfloat16")
    for network in (half.text_encoder, half.transformer, half.vae):
        assert network.model.config.dtype == "bfloat16"
    options = {"latents": draw(STILL)[0], "num_inference_steps": 3, "guidance_scale": 1.0}
    assert np.abs(half(PROMPTS, **options) - ours(PROMPTS, **options)).mean() < 0.05


START = np.zeros(NATIVE, np.float32)
STATES = np.zeros((2, LENGTH, WIDTH), np.float32)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": None}, "one of prompt and prompt_embeds must be given, got neither"),
        ({"prompt_embeds": STATES}, "one of prompt and prompt_embeds must be given, got both"),
        ({"prompt": []}, r"prompts must be at least one, .* got shape \(0, 12, 16\)"),
        ({"prompt": None, "prompt_embeds": STATES[..., :8]}, r"\(b, l, 16\), got shape .*8\)"),
        ({"negative_prompt": "x", "negative_prompt_embeds": STATES}, "left out, got both"),
        ({"negative_prompt": ["x"]}, r"the shape \(2, 12, 16\) of the prompt, got \(1, 12, 16\)"),
        ({"negative_prompt_embeds": STATES[:, :6]}, r"of the prompt, got \(2, 6, 16\)"),
        ({"num_videos_per_prompt": 0}, "num_videos_per_prompt must be at least 1, got 0"),
        ({"num_inference_steps": 0}, "num_inference_steps must be within 1..1000, got 0"),
        (
            {"dynamic_guidance": "on"},
            "dynamic_guidance must be one of off, .* got .on.",
        ),
        ({"latents": None, "num_frames": 12}, r"num_frames must be 8N\+1 .* got 12; .* is 9"),
        ({"latents": None, "num_frames": -3}, r"num_frames must be 8N\+1 .* got -3; .* is 1"),
        ({"latents": None, "height": 36}, "height must be a multiple of 8 .* got 36; .* is 32"),
        ({"latents": None, "width": 3}, "width must be a multiple of 8 .* got 3; .* is 8"),
        ({"latents": START[:1]}, r"latents must have shape .* with 2 rows, .* got \(1, 3, 8"),
        ({"latents": START[..., :3]}, "latents must have 4 channels, got 3"),
        ({"latents": START[:, :, :5]}, "latent height must be a positive multiple of .* 2, got 5"),
        ({"height": 40}, r"height must be the 32 of latents \(2, 3, 8, 12, 4\), got 40"),
        ({"num_frames": 17}, "latents must have 5 frames for num_frames=17, got 3"),
        ({"noise": START[None]}, r"noise must have the shape \(50, 2, 3, 8, 12, 4\), got \(1, 2"),
        ({}, "key must be a random key where noise is drawn, got None"),
    ],
)
def test_contradictions_are_named_before_anything_runs(pipelines, options, message, monkeypatch):
    _, ours, _ = pipelines["5b"]
    monkeypatch.setattr(type(ours), "encode_prompt", None)
    with pytest.raises(ValueError, match=message) as caught:
        ours(**({"prompt": PROMPTS, "latents": START} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.torch
def test_limits_of_a_variant_are_named(pipelines):
    with pytest.raises(ValueError, match="noise must be left out with DDIM"):
        pipelines["2b"][1](PROMPTS, latents=START, noise=START[None])
    later = pipelines["1.5-5b"][1]
    with pytest.raises(ValueError, match="height must be .* of at most 64 .* got 72; .* is 64"):
        later(PROMPTS, height=72, key=jax.random.key(0))
    with pytest.raises(ValueError, match="latent frames must be a positive multiple of .* 2"):
        later(PROMPTS, latents=START, key=jax.random.key(0))


def system_of(dit_config, vae=VAE):
    """Returns a CogVideoX system without weights."""
    config = c.CogVideoXSystemConfig(dit=dit_config, vae=vae)
    return systems.make_system(c.TrainConfig(system=config, data=c.DataConfig(frames=9)))


@pytest.mark.parametrize(
    ("given", "num_frames", "kept"), [(4, None, 3), (4, 9, 3), (2, None, 1), (6, 17, 5)]
)
def test_padding_of_given_latents_is_known(given, num_frames, kept):
    shape = (1, given, 4, 4, 4)
    later = system_of(VARIANTS["1.5-5b"])
    kept_shape = arguments.latent_shape_of(later, shape, 1, num_frames=num_frames)
    assert kept_shape == (1, kept, 4, 4, 4)
    assert arguments.latent_shape_of(system_of(ROPE), shape, 1) == shape


@pytest.mark.slow
def test_released_sizes_are_those_of_diffusers():
    names = {"2b": (49, 480, 720), "5b": (49, 480, 720), "1.5-5b": (81, 2400, 2400)}
    for name, (frames, height, width) in names.items():
        system = system_of(DiTConfig(**COGVIDEOX[name]), VAEConfig())
        shape = (1, (frames + 3) // 4, height // 8, width // 8, 16)
        assert arguments.latent_shape(system, (frames, height, width), 1) == shape
    size = {"num_frames": 161, "height": 768, "width": 1360}
    assert arguments.latent_shape(system, (0, 0, 0), 1, **size) == (1, 41, 96, 170, 16)


def test_a_pipeline_that_edits_videos_has_the_networks_of_the_first(tmp_path):
    index = {"_class_name": "CogVideoXVideoToVideoPipeline"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    for part in ("tokenizer", "scheduler", "text_encoder", "transformer", "vae"):
        (tmp_path / part).mkdir()
    assert published.CLASSES[published.check_index(tmp_path)] is False


@pytest.mark.torch
def test_folders_that_are_no_pipeline_are_named(pipelines, tmp_path):
    source = pipelines["2b"][2]

    def refused(folder, message):
        with pytest.raises(ValueError, match=message) as caught:
            load_pipeline(folder)
        assert "\n" not in str(caught.value)

    refused(
        tmp_path,
        "of a run or the model_index.json of diffusers, found neither",
    )
    (tmp_path / "model_index.json").write_text("{")
    refused(str(tmp_path), "must hold the model_index.json of diffusers, got none: Expecting")
    index = {"_class_name": "CogVideoXFunControlPipeline"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    refused(tmp_path, "a CogVideoXPipeline or a CogVideoXImageToVideo.*, got CogVideoXFunControl")
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    (folder / "vae").rename(folder / "text_encoder_2")
    refused(folder, "must hold the folders tokenizer, .* got no vae")
    shutil.copytree(folder / "text_encoder", folder / "vae")
    refused(folder, "must hold a vae, got a t5")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 8}, "in_channels of .* must be 4, the channels of the VAE, .* got 8"),
        ({"text_width": 32}, "text_width of .* must be 16, the width of T5, .* got 32"),
    ],
)
def test_networks_that_do_not_fit_are_named(pipelines, tmp_path, changes, message):
    folder = tmp_path / "copy"
    shutil.copytree(pipelines["2b"][2], folder)
    shutil.rmtree(folder / "transformer")
    other = dit_reference.make_reference(dataclasses.replace(VARIANTS["2b"], **changes))
    other.save_pretrained(folder / "transformer")
    with pytest.raises(ValueError, match=message):
        load_pipeline(folder)
