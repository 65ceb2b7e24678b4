# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.models import dit
from mimir_jax.sampling import configure, first_frames
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.open import load_pipeline, open_pipeline
from mimir_jax.sampling.request import Request
from mimir_jax.systems.cogvideox import published
from tests import commands, quick
from tests.helpers import relative_error
from tests.models import dit_reference, vae_reference
from tests.sampling import test_cogvideox as text_to_video

VAE, PROMPTS = text_to_video.VAE, text_to_video.PROMPTS
READS_IMAGE = {"in_channels": 8, "out_channels": 4}
LEARNED = dataclasses.replace(  # an odd grid of 5 x 7 tokens
    text_to_video.ROPE, position="rope+learned", sample_height=10, sample_width=14, **READS_IMAGE
)
LATER = dataclasses.replace(
    text_to_video.VARIANTS["1.5-5b"], **READS_IMAGE, ofs_width=text_to_video.ROPE.time_width
)
SIZES = {"5b-i2v": (LEARNED, 9, 40, 56), "1.5-5b-i2v": (LATER, 9, 24, 40)}
SCHEDULERS = {"5b-i2v": "ddim", "1.5-5b-i2v": "dpm"}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Per variant, a tiny image-to-video pipeline of diffusers, and ours from its folder."""
    pytest.importorskip("diffusers")
    root, pairs = tmp_path_factory.mktemp("pipelines"), {}
    tokenizer = text_to_video.make_tokenizer(root / "tokenizer")
    encoder = text_to_video.make_text_encoder()
    for variant in SIZES:
        theirs = make_pipeline(variant, tokenizer, encoder)
        theirs.save_pretrained(root / variant)
        pairs[variant] = theirs, load_pipeline(root / variant), root / variant
    return pairs


def make_pipeline(variant, tokenizer, encoder):
    import diffusers

    vae = vae_reference.make_reference(VAE)
    vae.register_to_config(invert_scale_latents=variant.startswith("1.5"))
    pipeline = diffusers.CogVideoXImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=vae,
        transformer=dit_reference.make_reference(SIZES[variant][0]),
        scheduler=text_to_video.make_scheduler(SCHEDULERS[variant], 1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def run_reference(pipeline, frame, latents, noise, **options):
    """Runs diffusers with the mean latents of `frame` in place of a draw."""
    import torch
    from diffusers.pipelines.cogvideo import pipeline_cogvideox_image2video as module

    pixels = torch.tensor(np.moveaxis(frame, -1, 0)[None] / 255.0, dtype=torch.float32)
    rows = len(options["prompt"])
    with pytest.MonkeyPatch.context() as patch:
        mean = module.retrieve_latents
        patch.setattr(module, "retrieve_latents", lambda x, _: mean(x, sample_mode="argmax"))
        return text_to_video.run_reference(
            pipeline, latents, noise, image=pixels.repeat(rows, 1, 1, 1), **options
        )


def compare(theirs, ours, variant, steps=3, scale=4.0):
    """Returns our videos with and without a first frame, and the error of the former."""
    cfg, frames, height, width = SIZES[variant]
    padded = dit.padded_frames((frames - 1) // 4 + 1, cfg)
    latents, noise = text_to_video.draw((2, padded, height // 4, width // 4, 4), steps)
    noise = noise if ours.scheduler.stochastic else None
    frame = random_image(height, width)
    shared = {"num_inference_steps": steps, "guidance_scale": scale}
    size = {"num_frames": frames, "height": height, "width": width}
    expected = run_reference(
        theirs, frame, latents, noise, prompt=PROMPTS, use_dynamic_cfg=False, **size, **shared
    )
    options = {"latents": latents, "noise": noise, "num_frames": frames, **shared}
    videos = ours(PROMPTS, first_frame=frame, **options)
    return videos, ours(PROMPTS, **options), relative_error(videos, expected)


@pytest.mark.torch
@pytest.mark.parametrize("variant", quick.some(SIZES, "5b-i2v"))
def test_videos_are_those_of_diffusers(pipelines, variant):
    theirs, ours, _ = pipelines[variant]
    videos, without, error = compare(theirs, ours, variant)
    assert videos.shape[1:] == (*SIZES[variant][1:], 3)
    assert ((videos > 0) & (videos < 1)).mean() > 0.7 and videos.std() > 0.05
    assert error < 1e-4
    assert relative_error(without, videos) > 1e-2  # the image does something


@pytest.mark.slow
@pytest.mark.torch
def test_a_command_makes_videos_of_an_image_of_another_shape(pipelines, tmp_path):
    _, ours, folder = pipelines["5b-i2v"]
    shown = random_image(80, 56)
    Image.fromarray(shown).save(tmp_path / "wall.png")
    out, options = tmp_path / "out", ["--steps", 2, "--image_fit", "pad", "--guidance_scale", 4]
    given = ["--first_frame", tmp_path / "wall.png", "--prompt", PROMPTS[0], "--out", out]
    code, _, err = commands.call("sample", "--checkpoint", folder, *given, *options)
    assert code == 0, err
    assert "wall.png: 56x80 pixels resized, with black bars to 56x40" in err
    record = json.loads((out / "000.json").read_text())
    assert (record["image_fit"], record["image_latent_scale"]) == ("pad", "scaled")
    assert len(record["first_frame"]) == 1
    with Image.open(out / record["first_frame_image"]) as read:
        padded = np.asarray(read)
    assert padded.shape == (40, 56, 3) and not padded[:, :14].any() and padded[:, 14:42].any()
    page = (out / "index.html").read_text()
    assert 'alt="the first frame that was given"' in page and "data:image/png;base64," in page
    whole = ours(
        PROMPTS[0], first_frame=padded, num_inference_steps=2, guidance_scale=4.0,
        key=jax.random.key(0),
    )  # fmt: skip
    config = SampleConfig(steps=2, image_fit="pad", guidance_scale=4.0)
    pipeline = open_pipeline(folder, config)
    made = pipeline.generate([Request(PROMPTS[0], first_frame=shown)])
    assert np.abs(np.round(255 * whole) - made).max() <= 1
    mixed = [Request(PROMPTS[0], first_frame=shown), Request(PROMPTS[0])]
    both = pipeline.generate(mixed)
    assert np.abs(both[0].astype(int) - made[0]).max() <= 1 and (both[0] != both[1]).any()


@pytest.mark.torch
def test_scales_and_models_that_read_no_image_are_told(pipelines, tmp_path):
    _, later, folder = pipelines["1.5-5b-i2v"]
    assert later.settings["image_latent_scale"] == "inverse"
    run = published.read(folder).config
    raw = configure.with_settings(run, SampleConfig(image_latent_scale="raw"), folder)
    assert systems.make_system(raw).sampling_options()["image_latent_scale"] == "raw"
    with pytest.raises(ValueError, match="--height must be .* of at most 64 .* got 80"):
        configure.with_settings(run, SampleConfig(height=80), folder)
    fixed, message = pipelines["5b-i2v"][2], r"must have the size \(3, 10, 14\) of the learned"
    with pytest.raises(ValueError, match=message):
        configure.with_settings(published.read(fixed).config, SampleConfig(height=48), fixed)
    with pytest.raises(ValueError, match="one image, or one per prompt, got 1 for 2; pass as"):
        later(PROMPTS, first_frame=[random_image(24, 40)], key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"\(h, w, 3\) of uint8 in 0..255, got .*float64"):
        later(PROMPTS, first_frame=np.zeros((24, 40, 3)), key=jax.random.key(0))
    strict = c.FirstFrameConfig(dropout=0.0)
    config = dataclasses.replace(run, system=dataclasses.replace(run.system, first_frame=strict))
    with pytest.raises(ValueError, match="first_frame must be given for a model that was never"):
        first_frames.check(systems.make_system(config), [None])


@pytest.mark.parametrize(
    ("how", "size", "note"),
    [
        ("crop", (20, 10), "20x10 pixels resized to 40x20"),
        ("crop", (10, 10), "10x10 pixels cropped in the middle and resized to 40x20"),
        ("pad", (10, 10), "10x10 pixels resized, with black bars to 40x20"),
        ("pad", (40, 20), ""),
    ],
)
def test_images_are_fitted_as_said(how, size, note):
    columns, rows = size
    frame, said = first_frames.fit(random_image(rows, columns), 20, 40, how)
    assert (frame.shape, said) == ((20, 40, 3), note)
