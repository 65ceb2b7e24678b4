# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from PIL import Image

from mimir_jax.evaluation import plots


def test_features_of_branches_and_runs_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    draw = lambda: rng.normal(size=(5, 3))  # noqa: E731
    equal = np.ones((5, 3))  # answers of a greedy LLM
    values = ("T5", "LLM", "LLM, normalised", "LLM, what is added")
    path = tmp_path / "features.png"
    plots.plot_features(
        path,
        branches={"T5": draw(), "sum": draw()},
        runs={"query": draw(), "answer": equal, "final": equal},
        values={name: rng.normal(size=40) for name in values},
    )
    with Image.open(path) as image:
        assert image.size == (1650, 924)


def test_equal_points_stay_equal():
    points = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 2, axis=0)
    placed = plots.embed_tsne(points)
    assert placed.shape == (6, 2) and np.isfinite(placed).all()
    assert (plots.embed_tsne(np.ones((4, 3))) == 0).all()
