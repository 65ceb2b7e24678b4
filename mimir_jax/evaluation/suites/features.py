# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""What the fuser makes of its two encoders: the measurements behind Fig. 7 of Mimir.

(a) many prompts: encoder branch, decoder branch and their sum; (b) one prompt, answered many times:
query tokens, answer tokens and final tokens, which are the fused ones (M-U29); (d) values of both
encoders before and after normalisation.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from sklearn import manifold

from mimir_jax import tables, weights
from mimir_jax.config import DiffusionSystemConfig, MimirConfig, TextConfig, TrainConfig
from mimir_jax.encoders import text as features_lib
from mimir_jax.errors import InputError
from mimir_jax.models import condition, functional
from mimir_jax.models.mimir import fuser as fuser_lib
from mimir_jax.systems import video_encoder
from mimir_jax.weights import initialization
from mimir_jax.weights import runs as runs_lib

Points = Float[np.ndarray, "n d"]


@dataclasses.dataclass(frozen=True)
class Features:
    """What the figure shows.

    Attributes:
        prompts: Those of (a).
        branches: (a): mean token of each prompt, by `encoder`, `decoder` and `sum`.
        prompt: That of (b).
        runs: (b): mean token of each run, by `query`, `answer` and `final`.
        values: (d): all values of all prompts' tokens, by what they are.
    """

    prompts: tuple[str, ...]
    branches: dict[str, Points]
    prompt: str
    runs: dict[str, Points]
    values: dict[str, Float[np.ndarray, " n"]]


def measure(
    workdir: pathlib.Path, prompts: Sequence[str], *, runs: int, start: bool = False
) -> Features:
    """Runs the encoders and the fuser of a Mimir on `prompts`.

    Args:
        workdir: A run of a Mimir, in any row of the ablation that reads the LLM.
        prompts: Of (a); the first is that of (b).
        runs: Sampled answers of (b).
        start: Measure what the run started from.

    Raises:
        ValueError: if the run is none of a Mimir, or there is too little to show.
    """
    config = _config(workdir)
    if len(prompts) < 4 or runs < 4:
        raise InputError(
            f"the figure needs at least 4 prompts and 4 runs, got {len(prompts)} and {runs}"
        )
    task = config.system
    model = functional.build(fuser_lib.TokenFuser, task.network.fuser)
    params = _fuser_params(config, workdir, start)
    encoder = _encoder(config, task.text)
    rows = [_prompt_row(model, params, encoder, prompt) for prompt in prompts]
    branches = {name: np.stack([row[0][name] for row in rows]) for name in rows[0][0]}
    values = {name: np.concatenate([row[1][name] for row in rows]) for name in rows[0][1]}
    repeated = _repeated(model, params, config, prompts[0], runs)
    return Features(tuple(prompts), branches, prompts[0], repeated, values)


def spread(points: Points) -> float:
    """Root mean square distance from the mean, relative to the mean length of the points."""
    centre = points.mean(axis=0)
    length = np.linalg.norm(points, axis=1).mean()
    return float(np.sqrt(np.square(points - centre).sum(axis=1).mean()) / max(length, 1e-12))


def embed(points: Points, *, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Maps points to the plane by t-SNE, started from their principal components."""
    perplexity = min(30.0, (len(points) - 1) / 3)
    tsne = manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(points.astype(np.float32))


def summary(features: Features) -> dict[str, Any]:
    """Returns the numbers behind the figure."""
    return {
        "prompts": len(features.prompts),
        "prompt": features.prompt,
        "runs": len(features.runs["query"]),
        "spread": {name: spread(points) for name, points in features.runs.items()},
        "values": {
            name: {
                "mean": float(x.mean()),
                "std": float(x.std()),
                "p0.5": float(np.percentile(x, 0.5)),
                "p99.5": float(np.percentile(x, 99.5)),
            }
            for name, x in features.values.items()
        },
    }


def text(result: dict[str, Any]) -> str:
    """Lays the numbers out."""
    spreads = [["one prompt", "relative spread"]]
    spreads += [[f"{name} tokens", f"{value:.4f}"] for name, value in result["spread"].items()]
    rows = [["values", "mean", "std", "99 % within"]]
    for name, cell in result["values"].items():
        within = f"{cell['p0.5']:.3f} to {cell['p99.5']:.3f}"
        rows.append([name, f"{cell['mean']:.4f}", f"{cell['std']:.4f}", within])
    return tables.align(spreads) + "\n\n" + tables.align(rows)


def _config(workdir: pathlib.Path) -> TrainConfig:
    config = runs_lib.read_config(workdir)
    task = config.system
    if not isinstance(task, DiffusionSystemConfig) or not task.network.fuser.use_llm:
        row = getattr(task, "ablation", None)
        what = task.kind if row is None else f"{row} row"
        raise InputError(
            f"checkpoint {workdir} must be a Mimir that reads an LLM, got a {what}; choose another "
            "--checkpoint"
        )
    return config


def _encoder(config: TrainConfig, text: TextConfig) -> features_lib.TextEncoder:
    mesh = video_encoder.text_mesh(config, None)
    return features_lib.TextEncoder(text, use_llm=True, seed=config.seed, mesh=mesh)


def _fuser_params(config: TrainConfig, workdir: pathlib.Path, start: bool) -> functional.Params:
    if not start:
        return weights.load(workdir, kind="mimir")[1]["fuser"]
    from mimir_jax.models.mimir import model as model_lib

    network: MimirConfig = config.system.network
    return initialization.start_of(config, functional.build(model_lib.Mimir, network))["fuser"]


def _prompt_row(
    model: functional.Model,
    params: functional.Params,
    encoder: features_lib.TextEncoder,
    prompt: str,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the mean token of each branch, and the values of both encoders, of one prompt."""
    features = jax.tree.map(jnp.asarray, encoder.encode([prompt])).pick()
    encoded = model.t5_branch(params, features)
    decoded = model.llm_branch(params, features)
    scaled = model.normalise(params, features.llm)
    t5_mask, llm_mask = np.asarray(features.t5_mask), np.asarray(features.llm_mask)
    either = t5_mask | llm_mask
    means = {
        "encoder": _mean(encoded, t5_mask)[0],
        "decoder": _mean(decoded, llm_mask)[0],
        "sum": _mean(encoded + decoded, either)[0],
    }
    values = {
        "T5": np.asarray(features.t5)[t5_mask].ravel(),
        "LLM": np.asarray(features.llm)[llm_mask].ravel(),
        "LLM, normalised": np.asarray(scaled)[llm_mask].ravel(),
        "LLM, what is added": np.asarray(decoded)[llm_mask].ravel(),
    }
    return means, values


def _repeated(
    model: functional.Model,
    params: functional.Params,
    config: TrainConfig,
    prompt: str,
    runs: int,
) -> dict[str, Points]:
    """Returns the mean query, answer and final token of every run of one prompt."""
    text = dataclasses.replace(config.system.text, num_answers=runs, llm_tokens="query+answer")
    encoder = _encoder(config, text)
    query, answers = encoder.llm_branches(prompt)
    row = encoder.encode([prompt])
    features = condition.TextFeatures(
        t5=jnp.repeat(row.t5, runs, axis=0),
        t5_mask=jnp.repeat(row.t5_mask, runs, axis=0),
        llm=jnp.asarray(row.llm[0]),
        llm_mask=jnp.asarray(row.llm_mask[0]),
    )
    fused = model.t5_branch(params, features) + model.llm_branch(params, features)
    mask = np.asarray(features.t5_mask | features.llm_mask)
    return {
        "query": np.repeat(query.mean(axis=0)[None], runs, axis=0),
        "answer": np.stack([states.mean(axis=0) for states in answers]),
        "final": _mean(fused, mask),
    }


def _mean(tokens: jax.Array, mask: Bool[np.ndarray, "b n"]) -> Float[np.ndarray, "b d"]:
    weights_ = mask[..., None].astype(np.float32)
    return (np.asarray(tokens) * weights_).sum(axis=1) / weights_.sum(axis=1)
