# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Stories of Toyworld: one object that appears, acts and leaves, exactly told."""

import numpy as np
import pytest

from mimir_jax import config as c
from mimir_jax import evaluation
from mimir_jax.config import checks
from mimir_jax.data import sources
from mimir_jax.data.toyworld import motion


def stories(split="train"):
    toyworld = c.ToyworldConfig(num_scenes=50, variety="single", pages=3)
    return sources.make_source(c.DataConfig(frames=51, toyworld=toyworld), split, seed=0)


def test_each_scene_of_a_story_begins_where_the_one_before_ends():
    for index in range(30):
        story = stories().story(index)
        first, middle, last = story.pages
        assert [page.actions[0].verb for page in (first, last)] == ["appear", "disappear"]
        assert middle.actions[0].verb not in ("appear", "disappear")
        group = story.pages[0].groups[0]
        for before, after in zip(story.pages, story.pages[1:], strict=False):
            ends = motion.state(before, 16).objects
            begins = motion.state(after, 0).objects
            for a, b in zip(ends, begins, strict=True):
                np.testing.assert_allclose((a.x, a.y, a.radius), (b.x, b.y, b.radius), atol=1e-3)
            assert (after.groups[0].shape, after.groups[0].colour) == (group.shape, group.colour)
        assert story.request.startswith("Tell a story about ") and group.colour in story.request
        assert len(story.texts) == 3 and all(group.colour in text for text in story.texts)


def test_the_judge_passes_the_clips_of_a_story():
    source = stories("heldout")
    record, story = source[3], source.story(3)
    assert record["video"].shape == (51, 64, 64, 3)
    assert record["caption"].splitlines() == list(story.texts)
    for scene, clip in zip(story.pages, np.split(record["video"], 3), strict=True):
        verdict = evaluation.judge(scene, clip)
        assert all(score.passed for score in verdict.values() if score is not None)
    assert repr(stories()) == repr(stories()) != repr(source)


def test_pages_that_make_no_story_are_refused():
    with pytest.raises(checks.FieldError, match="pages must be 1 or at least 3, got 2"):
        c.ToyworldConfig(pages=2)
    with pytest.raises(checks.FieldError, match="frames must be a multiple of"):
        c.DataConfig(frames=17, toyworld=c.ToyworldConfig(pages=3))
