# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems, weights
from mimir_jax.config import bridge
from mimir_jax.models import condition, dit
from mimir_jax.sampling.request import Request
from mimir_jax.systems import text_to_video
from mimir_jax.systems.cogvideox import presets, published
from mimir_jax.training import loop
from mimir_jax.weights import initialization
from tests import commands, runs

READS_IMAGE = dataclasses.replace(runs.DIT, in_channels=8)


def cogvideox_run(frozen, cfg=READS_IMAGE, **image):
    """Returns the config of a short run of an image-to-video CogVideoX."""
    run = runs.mimir_run(frozen)
    text = dataclasses.replace(run.system.text, llm_path=None)
    system = c.CogVideoXSystemConfig(
        dit=cfg,
        vae=runs.VAE,
        vae_path=run.system.vae_path,
        text=text,
        sampler=run.system.sampler,
        first_frame=c.FirstFrameConfig(**image),
        heldout_clips=2,
        loss_bands=2,
        sample_prompts=1,
    )
    optimizer = dataclasses.replace(run.optimizer, lr_scale=())
    return dataclasses.replace(run, system=system, optimizer=optimizer, steps=2)


def moments(rows=2, copies=3):
    """Moments whose copies differ by whole numbers, of no variance."""
    mean = jnp.arange(copies, dtype=jnp.float32)[None, :, None, None, None, None]
    mean = jnp.broadcast_to(mean + 1.0, (rows, copies, 1, 2, 2, 4))
    text = text_to_video.text_lib.CaptionFeatures(t5=jnp.zeros((rows, 5, 24)), t5_mask=None)
    return text_to_video.FirstFrameMoments(text, mean, jnp.full_like(mean, -30.0))


def draw(key=None, rows=2, **fields):
    config = c.CogVideoXSystemConfig(
        dit=READS_IMAGE,
        vae=dataclasses.replace(runs.VAE, scaling_factor=0.5),
        first_frame=c.FirstFrameConfig(**({"noise_draws": 2} | fields)),
    )
    data = c.DataConfig(frames=9, height=32, width=32)
    system = systems.make_system(c.TrainConfig(system=config, data=data))
    return system.draw_features(moments(rows), key)


@pytest.mark.parametrize(("scale", "factor"), [("scaled", 0.5), ("raw", 1.0), ("inverse", 2.0)])
def test_sampling_reads_the_clean_frame_in_the_scale_of_the_field(scale, factor):
    drawn = draw(latent_scale=scale)
    np.testing.assert_allclose(drawn.image_latents, factor * np.ones((2, 1, 2, 2, 4)))


def test_training_draws_noisy_copies_and_drops_some():
    latents = draw(jax.random.key(0), rows=400, dropout=0.25).image_latents[:, 0, 0, 0, 0]
    values, counts = np.unique(np.round(2 * latents, 3), return_counts=True)
    np.testing.assert_allclose(
        values, [0.0, 2.0, 3.0], rtol=1e-6
    )  # dropped, first copy, second copy
    np.testing.assert_allclose(counts / 400, [0.25, 0.375, 0.375], atol=0.08)
    clean = draw(jax.random.key(0), noise_draws=0, dropout=0.0)
    assert set(np.unique(np.round(2 * clean.image_latents))) <= {1.0, 2.0, 3.0}


def continued(rows=300, frames=4, temporal_patch=None, share=0.5, **fields):
    """Draws for clips whose latent frame i has the value i + 1, times the factor 0.5."""
    cfg = READS_IMAGE
    if temporal_patch:
        cfg = dataclasses.replace(cfg, temporal_patch=temporal_patch, rope_grid="integer")
    config = c.CogVideoXSystemConfig(
        dit=cfg,
        vae=dataclasses.replace(runs.VAE, scaling_factor=0.5),
        first_frame=c.FirstFrameConfig(continuation=share, dropout=0.0, **fields),
    )
    data = c.DataConfig(frames=9, height=32, width=32)
    system = systems.make_system(c.TrainConfig(system=config, data=data))
    features = system.draw_features(moments(rows), jax.random.key(0))
    clip = jnp.arange(1.0, frames + 1)[None, :, None, None, None]
    clip = jnp.broadcast_to(clip, (rows, frames, 2, 2, 4))
    return features, system.with_clip(features, clip, jax.random.key(1))


def test_some_rows_read_the_first_frames_of_their_clip():
    before, after = continued()
    image = np.asarray(after.image_latents)[:, :, 0, 0, 0]
    kinds, counts = np.unique(image, axis=0, return_counts=True)
    kinds = {tuple(row): count / 300 for row, count in zip(kinds, counts, strict=True)}
    np.testing.assert_allclose(kinds[0.5, 1.0, 0.0, 0.0], 0.25, atol=0.08)  # two of four
    np.testing.assert_allclose(kinds[0.5, 1.0, 1.5, 0.0], 0.25, atol=0.08)  # all but one
    alone = {row: share for row, share in kinds.items() if row[1] == 0.0}
    np.testing.assert_allclose(sum(alone.values()), 0.5, atol=0.1)  # the noisy first frame alone
    assert all(row[0] > 0.5 and not any(row[1:]) for row in alone)
    assert before.text is after.text


def test_continuations_are_padded_as_clips_are_and_short_clips_have_none():
    _, after = continued(frames=5, temporal_patch=2, share=1.0)
    kinds = {tuple(row) for row in np.asarray(after.image_latents)[:, :, 0, 0, 0]}
    ends = [(1.0, 0.0, 0.0, 0.0), (1.0, 1.5, 0.0, 0.0), (1.0, 1.5, 2.0, 0.0)]
    assert kinds == {(0.5, 0.5, *end) for end in (e[:4] for e in ends)}
    for options in ({"frames": 2, "share": 1.0}, {"share": 0.0}):
        before, after = continued(rows=2, **options)
        assert after is before


def test_both_branches_of_guidance_see_the_image_and_ofs():
    cfg = dataclasses.replace(
        READS_IMAGE, temporal_patch=2, rope_grid="integer", ofs_width=8, sample_frames=4
    )
    system = systems.make_system(
        c.TrainConfig(
            system=c.CogVideoXSystemConfig(
                dit=cfg, vae=runs.VAE, first_frame=c.FirstFrameConfig(ofs=3.0)
            ),
            data=c.DataConfig(frames=9, height=32, width=32),
        )
    )
    image = jnp.ones((2, 1, 2, 2, 4))
    features = text_to_video.FirstFrameFeatures(jnp.ones((2, 5, 24)), image)
    made = system.condition({}, features, jnp.array([True, False]))
    assert isinstance(made, condition.Condition)
    np.testing.assert_array_equal(made.image_latents, image)
    np.testing.assert_array_equal(made.ofs, [3.0, 3.0])
    assert not made.tokens[0].any() and made.tokens[1].all()
    assert system.condition({}, features.text).image_latents is None


def test_the_image_stands_at_the_first_frame_and_zeros_behind():
    cfg = READS_IMAGE
    xt, image = jnp.full((1, 3, 2, 2, 4), 7.0), jnp.ones((1, 1, 2, 2, 4))
    joined = dit.with_image(xt, image, cfg)
    np.testing.assert_array_equal(joined[..., :4], xt)
    np.testing.assert_array_equal(joined[:, 0, ..., 4:], image[:, 0])
    assert not joined[:, 1:, ..., 4:].any()
    assert not dit.with_image(xt, None, cfg)[..., 4:].any()
    assert dit.with_image(xt, None, runs.DIT) is xt


def test_a_run_reads_first_frames_and_its_empty_caption_keeps_them(frozen, tmp_path):
    run = cogvideox_run(frozen, noise_draws=2)
    text = dataclasses.replace(run.system.text, null="empty")
    run = dataclasses.replace(run, system=dataclasses.replace(run.system, text=text))
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    clips, captions = encoder.heldout()
    batch = jax.device_put(encoder.encode_clips({"video": clips, "caption": captions}))
    spec = system.batch_spec(dataclasses.replace(system.buckets[0], batch=2))
    assert jax.tree.structure(batch) == jax.tree.structure(spec)
    assert batch.features.image_mean.shape == (2, 3, 1, 8, 8, 4)
    for one, other in ((0, 1), (1, 2)):
        assert (batch.features.image_mean[:, one] != batch.features.image_mean[:, other]).any()
    again = encoder.first_frames.noisy(clips[0, 0], 1)
    np.testing.assert_array_equal(again, encoder.first_frames.noisy(clips[0, 0].copy(), 1))
    features = system.draw_features(batch.features)
    null = system.with_null(features, batch.null, jnp.array([True, False]))
    np.testing.assert_array_equal(null.image_latents, features.image_latents)
    assert (null.text[0] != features.text[0]).any() and (null.text[1] == features.text[1]).all()
    record = encoder.to_record(batch)
    assert {"image_mean", "image_logvar", "t5", "mean"} <= set(record)


def test_a_video_to_continue_is_read_as_training_reads_it(frozen):
    run = cogvideox_run(frozen, continuation=0.5)
    system = systems.make_system(run)
    encoder = systems.make_encoder(run, system)
    clip = encoder.heldout()[0][0]  # (5, 32, 32, 3)
    request = Request("a red circle", extend=clip, overlap=1, frames=5)
    (features, (null, _)) = encoder.features([request]), encoder.null_features([request])
    image = np.asarray(features.image_latents)
    mean = encoder.encode_moments(clip[None, -1:]).mean
    np.testing.assert_array_equal(image[:, :1], np.asarray(system.scale_image(mean)))
    assert image.shape[1] == mean.shape[1] + 1 and not image[:, 1:].any()
    np.testing.assert_array_equal(null.image_latents, image)


@pytest.fixture(scope="module")
def trained(frozen, tmp_path_factory):
    """A run of two steps from a text-to-video transformer: its config, folder and base."""
    root = tmp_path_factory.mktemp("trained")
    model = systems.make_system(cogvideox_run_text(frozen)).model
    params = jax.jit(model.init)(jax.random.key(3))
    weights.save(root / "base", "dit", runs.DIT, params, dtype="float32")
    run = dataclasses.replace(cogvideox_run(frozen), init_from=str(root / "base"))
    result = loop.train(run, root / "run")
    assert np.isfinite(result.after["loss"]) and result.samples
    return run, root / "run", params


@pytest.mark.slow
def test_a_run_starts_from_a_text_to_video_model_and_learns_to_read_the_image(trained):
    run, folder, params = trained
    system = systems.make_system(run)
    assert system.num_tokens(system.buckets[0]) == 24 + 3 * 4 * 4
    kernel = initialization.start_of(run, system.model)["patch"]["kernel"]
    assert kernel.shape == (32, 32) and not kernel[16:].any()
    np.testing.assert_array_equal(kernel[:16], params["patch"]["kernel"])
    after = weights.load_run(folder, system.model)
    assert np.asarray(after["patch"]["kernel"])[16:].any()


@pytest.mark.slow
@pytest.mark.torch
def test_a_run_becomes_a_pipeline_that_diffusers_opens(trained, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    run, folder, _ = trained
    code, out, err = commands.call("convert", folder, tmp_path / "out", "--to", "pipeline")
    assert code == 0 and "pipeline -> " in out, err
    back = diffusers.CogVideoXImageToVideoPipeline.from_pretrained(tmp_path / "out")
    kernel = weights.load_run(folder, systems.make_system(run).model)["text"]["kernel"]
    found = back.transformer.patch_embed.text_proj.weight.detach().numpy()
    np.testing.assert_array_equal(found, np.asarray(kernel).T)
    assert back.vae.config.invert_scale_latents is False
    assert type(back.scheduler).__name__ == "CogVideoXDDIMScheduler"
    assert back.tokenizer("a red ball").input_ids[-1] == back.tokenizer.eos_token_id
    again = published.read(tmp_path / "out").config
    assert again.system.first_frame == run.system.first_frame and again.system.reads_image
    raw = c.FirstFrameConfig(latent_scale="raw")
    other = dataclasses.replace(run, system=dataclasses.replace(run.system, first_frame=raw))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "config.json").write_text(bridge.to_json(other))
    line = commands.error_of("convert", tmp_path / "raw", tmp_path / "no", "--to", "pipeline")
    assert "latent_scale must be scaled or inverse" in line and not (tmp_path / "no").exists()


def cogvideox_run_text(frozen):
    """Returns the config of a run of CogVideoX that reads no image."""
    run = cogvideox_run(frozen)
    return dataclasses.replace(run, system=run.system.with_dit(in_channels=4))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dit": dict(in_channels=5)}, "in_channels must equal vae.latent_channels, or twice that"),
        ({"first_frame": dict(dropout=0.2)}, "first_frame.dropout must be left out where the tran"),
        (
            {"dit": dict(in_channels=8), "first_frame": dict(ofs=1.0)},
            "first_frame.ofs must be left",
        ),
        ({"dit": dict(in_channels=8), "first_frame": dict(dropout=2.0)}, "at most 1, got 2.0"),
    ],
)
def test_fields_that_contradict_each_other_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        c.CogVideoXSystemConfig(
            dit=dataclasses.replace(runs.DIT, **fields.get("dit", {})),
            vae=runs.VAE,
            first_frame=c.FirstFrameConfig(**fields.get("first_frame", {})),
        )


def test_a_learned_table_has_one_size():
    config = bridge.to_json(presets.cogvideox_5b_i2v())
    assert '"position": "rope+learned"' in config
    data = dataclasses.replace(presets.cogvideox_5b_i2v().data, frames=41)
    with pytest.raises(ValueError, match=r"must be \(49, 480, 720\), the size of the learned"):
        dataclasses.replace(presets.cogvideox_5b_i2v(), data=data)
