# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of results, as PNG.

matplotlib and scikit-learn are imported by the first figure: they would cost every start a second.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "_n _d"]  # sets differ in number and width


_COLOURS = (
    "#3b6fb6", "#d97b29", "#4f9d69", "#a54a8c", "#8c8c8c", "#c9a227", "#5ab4c4", "#7a4b2a",
    "#e08bb0", "#2b2b2b",
)  # fmt: skip


def plot_bars(
    path: pathlib.Path,
    shares: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    label: str,
) -> None:
    """Draws grouped bars with intervals: one group per category, one bar per series.

    Args:
        path: PNG to write.
        shares: `{series: {category: (share, low, high)}}`, 0 to 1.
        label: Label of the vertical axis.
    """
    from matplotlib import figure

    categories = list(dict.fromkeys(name for row in shares.values() for name in row))
    group = 0.9 * max(1.0, len(shares) / 4)  # inches
    chart = figure.Figure(figsize=(max(6.0, group * len(categories) + 2), 4.2), dpi=130)
    axes = chart.subplots()
    width = 0.8 / len(shares)
    for number, (name, row) in enumerate(shares.items()):
        indices = [i for i, c in enumerate(categories) if c in row]
        values = np.array([row[categories[i]] for i in indices])  # (n, 3)
        offset = (number - (len(shares) - 1) / 2) * width
        errors = np.clip(np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]), 0, 1)
        axes.bar(
            np.array(indices) + offset,
            100 * values[:, 0],
            width * 0.92,
            yerr=100 * errors,
            color=_COLOURS[number % len(_COLOURS)],
            error_kw={"elinewidth": 0.8, "capsize": 2},
            label=name,
        )
    axes.set_xticks(range(len(categories)), [c.replace("_", "\n") for c in categories], fontsize=8)
    axes.set_ylim(0, 100)
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    if len(shares) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=min(4, len(shares)))
    chart.tight_layout()
    chart.savefig(path)


def plot_features(
    path: pathlib.Path,
    *,
    branches: Mapping[str, Points],
    runs: Mapping[str, Points],
    values: Mapping[str, Float[np.ndarray, " _n"]],
) -> None:
    """Draws the figure of the features suite; see `suites.features.Features`."""
    from matplotlib import figure

    chart = figure.Figure(figsize=(15, 8.4), dpi=110)
    (left, middle, right), (low_left, low_middle, low_right) = chart.subplots(2, 3)
    prompts, answers = len(branches["sum"]), len(runs["query"])
    _scatter(left, branches, f"{prompts} prompts: mean tokens, t-SNE")
    llm = {name: runs[name] for name in ("query", "answer")}
    _scatter(middle, llm, f"one prompt, {answers} runs: LLM states, t-SNE")
    _scatter(right, {"final": runs["final"]}, f"one prompt, {answers} runs: fused, t-SNE")
    before, after = ("T5", "LLM"), ("T5", "LLM, normalised", "LLM, what is added")
    wide = max(float(np.abs(np.percentile(values["LLM"], [0.1, 99.9])).max()), 0.5)
    _histogram(low_left, values, before, wide, "before normalisation")
    _histogram(low_middle, values, after, wide, "after normalisation")
    _histogram(low_right, values, after, 0.5, "after normalisation, near zero")
    chart.tight_layout()
    chart.savefig(path)


def embed_tsne(points: Points, *, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Maps points to the plane by t-SNE, initialised with their principal components.

    Equal points, such as those of equal answers, stay equal.
    """
    from sklearn import manifold

    if (points == points[0]).all():
        return np.zeros((len(points), 2), np.float32)
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(points.astype(np.float32))


def _scatter(axes: Any, groups: Mapping[str, np.ndarray], title: str) -> None:
    points = embed_tsne(np.concatenate(list(groups.values())))
    first = 0
    for number, (name, group) in enumerate(groups.items()):
        part = points[first : first + len(group)]
        first += len(group)
        axes.scatter(*part.T, s=18, alpha=0.75, color=_COLOURS[number], label=name)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=9)


def _histogram(
    axes: Any, values: Mapping[str, np.ndarray], names: Sequence[str], limit: float, title: str
) -> None:
    edges = np.linspace(-limit, limit, 121)
    for name in names:
        colour = _COLOURS[list(values).index(name)]
        inside = values[name][np.abs(values[name]) <= limit]
        weights = np.full(len(inside), 1 / (len(values[name]) * (edges[1] - edges[0])))
        axes.hist(inside, edges, weights=weights, histtype="step", color=colour, label=name)
    axes.set_yscale("log")
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("value")
    axes.set_ylabel("density")
    axes.legend(frameon=False, fontsize=9)
