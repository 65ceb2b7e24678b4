# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import json
from unittest import mock

import av
import numpy as np
import pytest
from PIL import Image

from mimir_jax.sampling import edits
from mimir_jax.sampling.config import SampleConfig
from mimir_jax.sampling.open import load_pipeline, open_pipeline
from mimir_jax.sampling.request import Request
from mimir_jax.systems import base
from tests import commands, quick
from tests.data import video_files
from tests.helpers import relative_error
from tests.sampling import test_cogvideox as text_to_video

PROMPTS = text_to_video.PROMPTS
SIZE = (9, 32, 48)
CLIP = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
LEFT = np.zeros(SIZE[1:], bool)
LEFT[:, :24] = True


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    """Two tiny pipelines of diffusers, with DDIM and with DPM, and ours from their folders."""
    pytest.importorskip("diffusers")
    root = tmp_path_factory.mktemp("pipelines")
    tokenizer = text_to_video.make_tokenizer(root / "tokenizer")
    encoder, pairs = text_to_video.make_text_encoder(), {}
    for variant in ("2b", "5b"):
        theirs = text_to_video.make_pipeline(variant, tokenizer, encoder)
        theirs.save_pretrained(root / variant)
        pairs[variant] = theirs, load_pipeline(root / variant), root / variant
    return pairs


def run_reference(pipeline, noise, fresh, **options):
    """Edits `CLIP` by diffusers with given noise and mean latents."""
    from diffusers import CogVideoXVideoToVideoPipeline
    from diffusers.pipelines.cogvideo import pipeline_cogvideox_video2video as module

    other = CogVideoXVideoToVideoPipeline(**pipeline.components)
    other.set_progress_bar_config(disable=True)
    start = text_to_video.to_torch(noise)
    with pytest.MonkeyPatch.context() as patch:
        mean = module.retrieve_latents
        patch.setattr(module, "retrieve_latents", lambda x, _: mean(x, sample_mode="argmax"))
        patch.setattr(module, "randn_tensor", lambda *a, **k: start)
        frames = [Image.fromarray(frame) for frame in CLIP]
        return text_to_video.run_reference(
            other, None, fresh, video=frames, height=32, width=48, **options
        )


def compare(theirs, ours, strength, *, steps=5, dynamic="off", scale=4.0):
    """Returns how far our edit of `CLIP` is from that of diffusers."""
    shape = (1, *text_to_video.NATIVE[1:])
    noise, fresh = text_to_video.draw(shape, steps=int(steps * strength))
    fresh = fresh if ours.scheduler.stochastic else None
    shared = {"num_inference_steps": steps, "guidance_scale": scale, "strength": strength}
    expected = run_reference(
        theirs, noise, fresh, prompt=PROMPTS[:1], use_dynamic_cfg=dynamic != "off", **shared
    )
    made = ours(
        PROMPTS[:1], video=CLIP, latents=noise, noise=fresh, dynamic_guidance=dynamic, **shared
    )
    return relative_error(made, expected)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("variant", "strength", "dynamic"),
    quick.some([("2b", 0.6, "off"), ("5b", 0.6, "reference"), ("2b", 1.0, "off")]),
)
def test_edited_videos_are_those_of_diffusers(pipelines, variant, strength, dynamic):
    theirs, ours, _ = pipelines[variant]
    assert compare(theirs, ours, strength, dynamic=dynamic) < 1e-4


@pytest.mark.torch
def test_pixels_outside_a_mask_and_frames_of_a_continuation_stay(pipelines):
    _, ours, _ = pipelines["2b"]
    noise, _ = text_to_video.draw((1, *text_to_video.NATIVE[1:]))
    options = {"latents": noise, "num_inference_steps": 3, "guidance_scale": 1.0}
    source = np.asarray(ours.encoder.encode_video(CLIP[None]))
    drawn = ours(PROMPTS[0], video=CLIP, mask=LEFT, output="latent", **options)
    np.testing.assert_array_equal(drawn[:, :, :, 6:], source[:, :, :, 6:])
    assert np.abs(drawn - source)[:, :, :, :6].min(axis=(1, 2, 4)).max() > 1e-3
    request = Request(PROMPTS[0], extend=CLIP[:7], overlap=1, frames=9)
    known = edits.known(ours.system, ours.encoder, [request])
    assert known.keep[:, 0].all() and not known.keep[:, 1:].any()
    made = ours.generate([request])
    shown = edits.spliced(request, made[0])
    assert shown.shape == (15, 32, 48, 3)
    np.testing.assert_array_equal(shown[:7], CLIP[:7])
    np.testing.assert_array_equal(shown[7:], made[0, 1:])


def test_edits_made_together_have_one_strength():
    system = mock.Mock(spec=base.DiffusionSystem, request_fields={"prompt"}, config=mock.Mock())
    whole, masked = Request("a", video=CLIP), Request("a", video=CLIP, mask=LEFT)
    edits.check(system, [whole, Request("a", video=CLIP, strength=edits.STRENGTH)], SIZE)
    with pytest.raises(ValueError, match="must have one strength, got 2; make them one by one"):
        edits.check(system, [whole, masked], SIZE)


def test_a_latent_is_made_anew_where_any_of_its_pixels_is():
    mask = np.zeros((9, 8, 8), bool)
    mask[0, 0, 0] = mask[4, 7, 7] = True
    anew = edits.latent_mask(mask, mask.shape, (3, 2, 2))[..., 0]
    np.testing.assert_array_equal(anew[0], [[True, False], [False, False]])
    np.testing.assert_array_equal(anew[1], [[False, False], [False, True]])
    assert not anew[2].any()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strength": 0.5}, "strength must be left out without a video to edit; pass video"),
        ({"video": CLIP[:5]}, r"video must have the size \(9, 32, 48\) of the result, got \(5, 32"),
        ({"video": CLIP, "mask": LEFT[:8]}, r"mask must have the size \(32, 48\) of a frame"),
        ({"video": CLIP, "strength": 0.01}, "strength must be at most 1 and leave a step of 50"),
        ({"video": CLIP, "extend": CLIP}, "one of video and extend must be left out, got both"),
        ({"extend": CLIP, "overlap": 4}, r"overlap \(--extend_frames\) must be 8N\+1 .* got 4"),
        ({"extend": CLIP[:5], "overlap": 9}, r"below the 9 frames .* got 9 of \(5, 32, 48\)"),
    ],
)
def test_edits_that_cannot_be_made_are_named(pipelines, fields, message):
    with pytest.raises(ValueError, match=message):
        pipelines["2b"][1].generate([Request(PROMPTS[0], **fields)])


@pytest.mark.torch
def test_commands_edit_and_continue_videos(pipelines, tmp_path):
    _, _, folder = pipelines["2b"]
    video_files.write_video(tmp_path / "in.mp4", list(CLIP))
    Image.fromarray(np.uint8(255 * LEFT)).save(tmp_path / "mask.png")
    shared = ["--checkpoint", folder, "--prompt", PROMPTS[0], "--steps", 2, "--guidance_scale", 1]
    words = ["--video", tmp_path / "in.mp4", "--mask", tmp_path / "mask.png"]
    code, _, err = commands.call("sample", *shared, *words, "--out", tmp_path / "edited")
    assert code == 0, err
    record = json.loads((tmp_path / "edited" / "000.json").read_text())
    assert record["strength"] == 1.0 and record["clip"] == "000-clip.mp4"
    assert {"video_content", "mask_content"} <= set(record)
    words = ["--extend", tmp_path / "in.mp4", "--extend_frames", 1]
    code, _, err = commands.call("sample", *shared, *words, "--out", tmp_path / "longer")
    assert code == 0, err
    record = json.loads((tmp_path / "longer" / "000.json").read_text())
    assert record["overlap"] == 1 and "in.mp4: 9 frames read as" in err
    line = commands.error_of("sample", *shared, "--mask", "m.png", "--out", tmp_path / "no")
    assert "--mask must be left out without a video to edit; pass --video" in line


@pytest.mark.slow
@pytest.mark.torch
def test_long_videos_are_windows_and_one_window_is_a_clip(pipelines, tmp_path):
    _, _, folder = pipelines["2b"]
    ours = open_pipeline(folder, SampleConfig(steps=2, guidance_scale=4.0))
    clip = ours.generate([Request(PROMPTS[0], seed=3)])
    same = ours.generate([Request(PROMPTS[0], seed=3, length=9)])
    assert np.abs(clip.astype(int) - same).max() <= 1
    words = ["--prompt", f"0-1s: {PROMPTS[0]}", "--prompt", f"1-2s: {PROMPTS[1]}"]
    code, _, err = commands.call(
        "sample", "--checkpoint", folder, "--steps", 2, *words, "--out", tmp_path / "out"
    )
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "000.json").read_text())
    assert record["length"] == 17 and [x["prompt"] for x in record["scenes"]] == PROMPTS
    with av.open(str(tmp_path / "out" / "000.mp4")) as container:
        assert len(list(container.decode(video=0))) == 17
    shared = ["sample", "--checkpoint", folder, "--out", tmp_path / "no"]
    line = commands.error_of(*shared, "--prompt", "0-1s: a", "--prompt", "2-3s: b")
    assert "--prompt 2-3s must start at 1s, where the one before ends, got a gap" in line
    line = commands.error_of(*shared, "--prompt", "0-1s: a", "--length", 17)
    assert "--length must be the 9 frames of 1 s at 8 fps, got 17" in line
    line = commands.error_of(*shared, "--prompt", "a", "--length", 1)
    assert "length (--length) must be at least the 9 frames of a window, got 1" in line
