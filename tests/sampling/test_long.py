# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import systems
from mimir_jax.diffusion import windows
from mimir_jax.sampling import latents as latents_lib
from mimir_jax.sampling import long, scenes
from mimir_jax.sampling.request import Request
from tests import runs

RUN = c.TrainConfig(
    system=c.CogVideoXSystemConfig(dit=runs.DIT, vae=runs.VAE),
    data=c.DataConfig(frames=9, height=32, width=32, fps=8.0),
)
SIZE = (9, 32, 32)


def test_windows_cover_a_sample_with_the_last_one_at_its_end():
    assert windows.spread(9, 3, 1) == (0, 2, 4, 6)
    assert windows.spread(8, 3, 1) == (0, 2, 4, 5)
    assert windows.spread(3, 3, 2) == (0,)
    for total, overlap, message in ((2, 1, "at least as long as a window of 3"), (9, 3, "less th")):
        with pytest.raises(ValueError, match=message):
            windows.spread(total, 3, overlap)


def test_blended_predictions_are_averages_of_windows_and_equal_where_all_agree():
    def predict(xt, time, condition, aux):
        return xt + condition[:, None, None] * (1.0 + time[:, None, None]), aux

    xt = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 3)), jnp.float32)
    plan = windows.Windows(4, (0, 2, 3), (0, 1, 1))
    condition, time = jnp.array([[1.0, 1.0], [2.0, 2.0]]), jnp.zeros(2)
    pred, _ = windows.blended(predict, plan)(xt, time, condition, None)
    whole, _ = predict(xt, time, condition[:, 0], None)
    np.testing.assert_allclose(pred, whole, atol=1e-6)
    mixed, _ = windows.blended(predict, plan)(xt, time, jnp.array([[0.0, 5.0]] * 2), None)
    added = np.asarray(mixed - xt)[0, :, 0]
    # weights 1 2 2 1 of the first window against those of the other two, of which it is 0 to 5
    expected = [0, 0, 5 * 1 / 3, 5 * 3 / 4, 5, 5, 5]
    np.testing.assert_allclose(added, expected, atol=1e-5)


def test_scenes_have_times_in_order_without_gaps():
    found = scenes.parse(["2-5s: it bounces", "0-2s: a ball rolls"])
    assert [scene.prompt for scene in found] == ["a ball rolls", "it bounces"]
    assert [scenes.at(found, second) for second in (0.0, 1.9, 2.0, 9.0)] == [0, 0, 1, 1]
    assert scenes.parse(["a ball", "10 birds"]) == ()
    for prompts, message in (
        (["0-2s: a", "b"], "must have times in all prompts of a video or in none, got '0-2s: a'"),
        (["0-2s: a", "3-5s: b"], "3-5s must start at 2s, where the one before ends, got a gap"),
        (["0-2s: a", "1-5s: b"], "1-5s must start at 2s, .* got a overlap|got an overlap"),
        (["1-2s: a"], "1-2s must start at 0s"),
        (["0-0s: a"], "0-0s must end after it starts"),
        (["0-1s: "], "0-1s must end after it starts and hold a text, got ''"),
    ):
        with pytest.raises(ValueError, match=message):
            scenes.parse(prompts)


def test_videos_made_together_have_one_length():
    clip, longer = Request("a"), Request("a", length=17)
    assert long.are_long([longer, longer]) and not long.are_long([clip, clip])
    for requests in ([clip, longer], [longer, Request("a", length=25)]):
        with pytest.raises(ValueError, match="must have one length, got 2; make them one by one"):
            long.are_long(requests)


def test_a_plan_gives_each_window_the_scene_at_its_middle():
    system = systems.make_system(RUN)
    two = (scenes.Scene(0.0, 1.0, "a"), scenes.Scene(1.0, 4.0, "b"))
    plan = long.plan(system, Request("", length=33, scenes=two), SIZE, 8.0)
    assert plan.shape == (9, 8, 8, 4) and plan.windows.length == 3
    assert plan.windows.starts == (0, 2, 4, 6)
    assert plan.windows.conditions == (0, 1, 1, 1)
    assert [request.prompt for request in plan.requests] == ["a", "b"]
    frame = np.zeros((32, 32, 3), np.uint8)
    plan = long.plan(system, Request("a", length=25, first_frame=frame), SIZE, 8.0)
    assert plan.windows.conditions == (0, 1, 1)
    assert [request.first_frame is None for request in plan.requests] == [False, True]
    for length, message in ((9 - 8, "at least the 9 frames of a window"), (20, "8N\\+1 .* got 20")):
        with pytest.raises(ValueError, match=message):
            long.plan(system, Request("a", length=length), SIZE, 8.0)


@pytest.mark.slow
def test_chunks_of_a_stream_are_the_video_and_their_memory_does_not_grow(frozen):
    system = systems.make_system(RUN)
    params = jax.jit(system.codec.model.init)(jax.random.key(0))
    decoder = latents_lib.Decoder(system.codec, params, None)
    latents = np.random.default_rng(0).normal(size=(1, 9, 4, 4, 4)).astype(np.float32)
    parts = list(decoder.stream(latents))
    assert [part.shape[1] for part in parts] == [9, 8, 8, 8]
    np.testing.assert_allclose(np.concatenate(parts, 1), decoder(latents, tiled=False), atol=1e-5)
    sizes = []
    for total in (9, 25):  # latents that the loop holds at once, besides the sample itself
        plan = windows.Windows(3, windows.spread(total, 3, 1), (0,) * ((total - 1) // 2))
        shapes = []

        def predict(xt, time, condition, aux, shapes=shapes):
            shapes.append(xt.shape)
            return xt, aux

        given = jnp.zeros((1, total, 2)), jnp.zeros(1), jnp.zeros((1, 1)), None
        jax.eval_shape(windows.blended(predict, plan), *given)
        sizes.append(shapes[-1])
    assert sizes[0] == sizes[1] == (1, 3, 2)
