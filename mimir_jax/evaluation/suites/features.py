# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""Features of Mimir's two text encoders and of their fusion: the measurements behind Fig. 7.

(a) many prompts: encoder branch, decoder branch and their sum; (b) one prompt with many sampled
answers: query tokens, answer tokens and final tokens, which are the fused ones (M-U29); (d) values
of both encoders before and after normalisation.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from mimir_jax import files, systems, tables
from mimir_jax.config import TextConfig, TrainConfig
from mimir_jax.data import sources
from mimir_jax.encoders import text as text_lib
from mimir_jax.errors import InputError
from mimir_jax.evaluation import checkpoints, plots, results
from mimir_jax.evaluation.config import FeaturesEvalConfig
from mimir_jax.models import condition, functional
from mimir_jax.models.mimir import fuser as fuser_lib
from mimir_jax.parallel import distributed
from mimir_jax.sampling import prompts as prompts_lib
from mimir_jax.weights import runs

Points = Float[np.ndarray, "_n _d"]  # sets differ in number and width


@dataclasses.dataclass(frozen=True)
class Features:
    """The data of the figure.

    Attributes:
        prompts: Prompts of (a).
        branches: (a): mean token of each prompt, by `encoder`, `decoder` and `sum`.
        prompt: Prompt of (b).
        runs: (b): mean token of each run, by `query`, `answer` and `final`.
        values: (d): all values of all prompts' tokens, by kind.
    """

    prompts: tuple[str, ...]
    branches: dict[str, Points]
    prompt: str
    runs: dict[str, Points]
    values: dict[str, Float[np.ndarray, " _n"]]


def evaluate(config: FeaturesEvalConfig) -> results.Report:
    """Measures the features, writes their statistics and draws the figure.

    Raises:
        InputError: if the run is not a Mimir that reads an LLM, or the prompts cannot be used.
    """
    run, step = checkpoints.find_run(config), checkpoints.find_step(config)
    prompts = _read_prompts(config, run)
    folder = checkpoints.find_folder(config, "features", step)
    settings = {"suite": "features", "checkpoint": str(run), "step": step, "runs": config.runs}
    with results.open_results(folder, {**settings, "prompts": prompts}):
        measured = measure_features(config, prompts)
        if not distributed.is_first():
            return results.Report("")
        summary = summarise(measured)
        files.write_json(folder / results.RESULTS, {**settings, **summary})
        plots.plot_features(
            folder / "features.png",
            branches=measured.branches,
            runs=measured.runs,
            values=measured.values,
        )
    return results.Report(format_table(summary), folder, (results.RESULTS, "features.png"))


def measure_features(config: FeaturesEvalConfig, prompts: Sequence[str]) -> Features:
    """Runs the encoders and the fuser of a Mimir on `prompts`.

    Args:
        config: Names a run of a Mimir, in any row of the ablation that reads the LLM.
        prompts: Prompts of (a); the first is that of (b).

    Raises:
        InputError: if the run is not a Mimir that reads an LLM, or there are too few prompts.
    """
    if len(prompts) < 4:
        raise InputError(f"the figure needs at least 4 prompts, got {len(prompts)}; give more")
    run = _read_run(checkpoints.find_run(config))
    system = systems.make_system(run)
    model = functional.build(fuser_lib.TokenFuser, run.system.network.fuser)
    params = checkpoints.load_params(config, run, system.model)["fuser"]
    encoder = systems.make_encoder(run, system).text
    rows = [_measure_prompt(model, params, encoder, prompt) for prompt in prompts]
    branches = {name: np.stack([row[0][name] for row in rows]) for name in rows[0][0]}
    values = {name: np.concatenate([row[1][name] for row in rows]) for name in rows[0][1]}
    repeated = _measure_runs(model, params, _with_answers(run, config.runs), prompts[0])
    return Features(tuple(prompts), branches, prompts[0], repeated, values)


def relative_spread(points: Points) -> float:
    """Returns the root mean square distance from the mean, relative to the mean norm."""
    centre = points.mean(axis=0)
    length = np.linalg.norm(points, axis=1).mean()
    return float(np.sqrt(np.square(points - centre).sum(axis=1).mean()) / max(length, 1e-12))


def summarise(features: Features) -> dict[str, Any]:
    """Returns the statistics behind the figure."""
    return {
        "prompts": len(features.prompts),
        "prompt": features.prompt,
        "runs": len(features.runs["query"]),
        "spread": {name: relative_spread(points) for name, points in features.runs.items()},
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


def format_table(summary: dict[str, Any]) -> str:
    """Formats the statistics."""
    spreads = [["one prompt", "relative spread"]]
    spreads += [[f"{name} tokens", f"{value:.4f}"] for name, value in summary["spread"].items()]
    rows = [["values", "mean", "std", "99 % within"]]
    for name, cell in summary["values"].items():
        within = f"{cell['p0.5']:.3f} to {cell['p99.5']:.3f}"
        rows.append([name, f"{cell['mean']:.4f}", f"{cell['std']:.4f}", within])
    return tables.align(spreads) + "\n\n" + tables.align(rows)


def _read_prompts(config: FeaturesEvalConfig, run: pathlib.Path) -> list[str]:
    """Returns the prompts of `--prompts`, else held-out captions of Toyworld."""
    if config.prompts is not None:
        return prompts_lib.check(prompts_lib.read(files.expand_path(config.prompts)))
    training = runs.read_config(run)
    if training.data.source != "toyworld":
        raise InputError("--prompts must name a file of prompts for a run on videos, got none")
    source = sources.make_source(training.data, "heldout", seed=training.seed)
    return [source.text(index) for index in range(min(50, len(source)))]


def _read_run(workdir: pathlib.Path) -> TrainConfig:
    """Reads the config of a run, which must be a Mimir that reads an LLM."""
    run = runs.read_config(workdir)
    fuser = getattr(run.system.network, "fuser", None)
    if fuser is None or not fuser.use_llm:
        row = getattr(run.system, "ablation", None)
        what = run.system.kind if fuser is None or row is None else f"{row} row"
        raise InputError(
            f"checkpoint {workdir} must be a Mimir that reads an LLM, got a {what}; choose another "
            "--checkpoint"
        )
    return run


def _with_answers(run: TrainConfig, number: int) -> TrainConfig:
    """Returns a run whose LLM answers each prompt `number` times, drawn also where it is greedy."""
    text = run.system.text
    text = dataclasses.replace(
        text,
        num_answers=number,
        llm_tokens="query+answer",
        answer_temperature=text.answer_temperature or TextConfig().answer_temperature,
    )
    return dataclasses.replace(run, system=dataclasses.replace(run.system, text=text))


def _measure_prompt(
    model: functional.Model,
    params: functional.Params,
    encoder: text_lib.TextEncoder,
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


def _measure_runs(
    model: functional.Model,
    params: functional.Params,
    run: TrainConfig,
    prompt: str,
) -> dict[str, Points]:
    """Returns the mean query, answer and final token for every answer to one prompt."""
    encoder = systems.make_encoder(run, systems.make_system(run)).text
    query, answers = encoder.llm_branches(prompt)
    row, number = encoder.encode([prompt]), len(answers)
    features = condition.TextFeatures(
        t5=jnp.repeat(row.t5, number, axis=0),
        t5_mask=jnp.repeat(row.t5_mask, number, axis=0),
        llm=jnp.asarray(row.llm[0]),
        llm_mask=jnp.asarray(row.llm_mask[0]),
    )
    fused = model.t5_branch(params, features) + model.llm_branch(params, features)
    mask = np.asarray(features.t5_mask | features.llm_mask)
    return {
        "query": np.repeat(query.mean(axis=0)[None], number, axis=0),
        "answer": np.stack([states.mean(axis=0) for states in answers]),
        "final": _mean(fused, mask),
    }


def _mean(tokens: jax.Array, mask: Bool[np.ndarray, "b n"]) -> Float[np.ndarray, "b d"]:
    weights_ = mask[..., None].astype(np.float32)
    return (np.asarray(tokens) * weights_).sum(axis=1) / weights_.sum(axis=1)
