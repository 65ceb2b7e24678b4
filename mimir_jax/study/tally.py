# Copyright 2026 The mimir_jax authors.
# SPDX-License-Identifier: Apache-2.0
"""From answers to win rates, as in Table 2 of Mimir (arXiv 2412.03085).

The rate of a system on an axis is the mean, over the systems it met, of the share of answers that
prefer it; "no difference" is half a win for both. In a full round robin each axis then sums to 50
times the number of systems, as the rows of Table 2 do (M-U26).
"""

import math
import os
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mimir_jax import files, tables
from mimir_jax.errors import InputError
from mimir_jax.evaluation import confidence
from mimir_jax.study import form

RESAMPLES, CHUNK = 2000, 200


class Votes(NamedTuple):
    """All answers, one entry each.

    Attributes:
        axis: Index into `form.AXES`.
        left: Index of the left system.
        right: Index of the right system.
        score: What the left system won: 1, 0, or 0.5 for no difference.
        rater: Index of the answer file.
        prompt: Index of the prompt.
    """

    axis: Int[np.ndarray, " n"]
    left: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    rater: Int[np.ndarray, " n"]
    prompt: Int[np.ndarray, " n"]


def read_answers(paths: Sequence[str | os.PathLike[str]], key: form.Key) -> Votes:
    """Reads the files that raters sent.

    Raises:
        ValueError: if a file is no answers of this study, holds a choice that the study does not
            offer, or repeats the session of another file.
    """
    if not paths:
        raise InputError("a tally needs at least one file of answers, got none")
    systems = list(key.systems)
    pairs = {pair.id: pair for pair in key.pairs}
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(p.prompt for p in key.pairs))}
    sessions: dict[str, str] = {}
    rows = []
    for rater, path in enumerate(map(str, paths)):
        raw = form.read_json(path, "study answers")
        if raw.get("study") != key.study:
            raise InputError(
                f"{path} must answer study {key.study}, of the key, got {raw.get('study')!r}"
            )
        session = raw.get("session")
        if not isinstance(session, str) or not session:
            raise InputError(f"{path} must name its session, got {session!r}")
        if session in sessions:
            raise InputError(
                f"{path} repeats the session of {sessions[session]}; a rater counts once, keep the "
                "later file"
            )
        sessions[session] = path
        before = len(rows)
        for pair, axis, choice in _choices(raw.get("answers"), path, pairs, key.choices):
            left, right = (systems.index(side.system) for side in (pair.left, pair.right))
            score = {"left": 1.0, "right": 0.0, "tie": 0.5}[choice]
            rows.append((axis, left, right, score, rater, prompts[pair.prompt]))
        if len(rows) == before:
            raise InputError(f"{path} must hold at least one answer, holds none")
    columns = np.asarray(rows, np.float64).T
    return Votes(*(c if i == 3 else c.astype(np.int64) for i, c in enumerate(columns)))


def tally(votes: Votes, key: form.Key, *, seed: int = 0) -> dict[str, Any]:
    """Counts answers into win rates in percent, with 95 % intervals.

    An interval is the wider, on each end, of two: Wilson's, which takes answers as independent, and
    a bootstrap over raters and over prompts, which does not.

    Args:
        votes: From `read_answers`.
        key: Of the study.
        seed: Of the bootstrap.

    Returns:
        What the result file holds.
    """
    names = list(key.systems)
    upper = np.triu_indices(len(names), 1)  # in the order of `combinations`
    axes: dict[str, Any] = {}
    unmet: set[tuple[str, str]] = set()
    for index, axis in enumerate(form.AXES):
        of_axis = Votes(*(column[votes.axis == index] for column in votes))
        wins, met = _count(of_axis, len(names))
        rate = _rates(wins, met)
        unmet |= {pair for i, pair in enumerate(combinations(names, 2)) if not met[upper][i]}
        low, high = _interval(of_axis, wins, met, np.random.default_rng(seed))
        axes[axis.id] = {
            "answers": len(of_axis.score),
            "no_difference": int((of_axis.score == 0.5).sum()),
            "left": _percent(of_axis.score.mean() if len(of_axis.score) else np.nan),
            "systems": {
                name: {
                    "win_rate": _percent(rate[i]),
                    "interval": [_percent(low[i]), _percent(high[i])],
                    "answers": int(met[i].sum()),
                    "against": {
                        names[j]: {"wins": float(wins[i, j]), "answers": int(met[i, j])}
                        for j in range(len(names))
                        if j != i
                    },
                }
                for i, name in enumerate(names)
            },
        }
    return {
        "kind": "study tally",
        "study": key.study,
        "raters": len(set(votes.rater.tolist())),
        "pairs": len(key.pairs),
        "unmet": [list(pair) for pair in sorted(unmet)],
        "axes": axes,
    }


def table(result: dict[str, Any]) -> str:
    """Lays out a tally for people: a row a system, a column an axis, and the sums."""
    columns = [result["axes"][axis.id] for axis in form.AXES]
    rows = [["win rate, %", *(axis.name.lower() for axis in form.AXES)]]
    for name in columns[0]["systems"]:
        rows.append([name])
        for cell in (column["systems"][name] for column in columns):
            low, high = cell["interval"]
            rate = cell["win_rate"]
            rows[-1].append("-" if rate is None else f"{rate:.2f} ({low:.1f} to {high:.1f})")
    rates = [[cell["win_rate"] for cell in column["systems"].values()] for column in columns]
    rows.append(["sum", *("-" if None in rate else f"{sum(rate):.2f}" for rate in rates)])
    rows.append(["answers", *(str(column["answers"]) for column in columns)])
    shares = [column["left"] for column in columns]
    rows.append(["left chosen, %", *("-" if x is None else f"{x:.1f}" for x in shares)])
    return tables.align(rows)


def write_result(result: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes a tally; replaces only an earlier tally of the same study.

    Raises:
        ValueError: if something else is at `path`, or it cannot be written.
    """
    path = files.expand_path(path)
    if path.exists() or path.is_symlink():
        try:
            same = form.read_json(path, "study tally").get("study") == result["study"]
        except ValueError:
            same = False
        if not same:
            raise InputError(
                f"--out must not exist or be a tally of study {result['study']}, found {path}"
            )
    files.write_json(path, result, indent=1, ensure_ascii=False)


def _choices(answers, path: str, pairs: dict[str, form.Pair], offered: Sequence[str]):
    """Yields pair, index of the axis and choice, after checking each."""
    axes = {axis.id: i for i, axis in enumerate(form.AXES)}
    if not isinstance(answers, list):
        raise InputError(f"{path} must hold a list of answers, got {type(answers).__name__}")
    seen: set[str] = set()
    for entry in answers:
        name = entry.get("pair") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name not in pairs:
            raise InputError(f"{path} must answer pairs of the study, got {name!r}")
        if name in seen:
            raise InputError(f"{path} must answer a pair once, got {name} again")
        seen.add(name)
        for axis, choice in entry.items():
            if axis == "pair":
                continue
            if axis not in axes:
                raise InputError(f"{path} must answer {', '.join(axes)}, got {axis!r}")
            if choice not in offered:
                raise InputError(
                    f"{path} must answer {axis} of pair {name} with {' or '.join(offered)}, got "
                    f"{choice!r}"
                )
            yield pairs[name], axes[axis], choice


def _count(votes: Votes, num: int) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"]]:
    """Returns what each system won against each other, and how often they met."""
    wins, met = np.zeros((2, num, num))
    np.add.at(wins, (votes.left, votes.right), votes.score)
    np.add.at(wins, (votes.right, votes.left), 1 - votes.score)
    np.add.at(met, (votes.left, votes.right), 1)
    np.add.at(met, (votes.right, votes.left), 1)
    return wins, met


def _rates(
    wins: Float[np.ndarray, "*b s s"], met: Float[np.ndarray, "*b s s"]
) -> Float[np.ndarray, "*b s"]:
    """Averages over the systems met; NaN where a system met nobody."""
    shares = np.divide(wins, met, out=np.zeros_like(wins), where=met > 0)
    opponents = (met > 0).sum(-1)
    total = shares.sum(-1)
    return np.divide(total, opponents, out=np.full_like(total, np.nan), where=opponents > 0)


def _interval(
    votes: Votes,
    wins: Float[np.ndarray, "s s"],
    met: Float[np.ndarray, "s s"],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    low, high = wilson_intervals(_rates(wins, met), met)
    resampled = _resample(votes, len(met), rng)  # (resamples, s)
    for system in range(len(met)):
        found = resampled[:, system]
        if len(found := found[~np.isnan(found)]):
            ends = np.percentile(found, [2.5, 97.5])
            low[system] = min(low[system], ends[0])
            high[system] = max(high[system], ends[1])
    return low, high


def wilson_intervals(
    rate: Float[np.ndarray, " s"], met: Float[np.ndarray, "s s"]
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """Returns Wilson intervals of means over opponents, at their effective number of answers."""
    inverse = np.divide(1.0, met, out=np.zeros_like(met), where=met > 0).sum(-1)
    opponents = (met > 0).sum(-1)
    low, high = np.full((2, len(rate)), np.nan)
    for i in np.flatnonzero(opponents):
        answers = opponents[i] ** 2 / inverse[i]  # all, where opponents are met equally often
        low[i], high[i] = confidence.wilson_interval(float(rate[i]), float(answers))
    return low, high


def _resample(votes: Votes, num: int, rng: np.random.Generator) -> Float[np.ndarray, "resamples s"]:
    """Draws raters and, independently, prompts with replacement, and counts anew each time."""
    raters, rater = np.unique(votes.rater, return_inverse=True)
    prompts, prompt = np.unique(votes.prompt, return_inverse=True)
    if not len(raters):
        return np.full((1, num), np.nan)
    cells = np.zeros((len(raters), len(prompts), 2, num, num))
    np.add.at(cells, (rater, prompt, 0, votes.left, votes.right), votes.score)
    np.add.at(cells, (rater, prompt, 0, votes.right, votes.left), 1 - votes.score)
    np.add.at(cells, (rater, prompt, 1, votes.left, votes.right), 1)
    np.add.at(cells, (rater, prompt, 1, votes.right, votes.left), 1)
    flat = cells.reshape(len(raters), -1)
    rates = []
    for size in [CHUNK] * (RESAMPLES // CHUNK):  # in parts, for large studies
        of_rater = rng.multinomial(len(raters), [1 / len(raters)] * len(raters), size)
        of_prompt = rng.multinomial(len(prompts), [1 / len(prompts)] * len(prompts), size)
        by_prompt = (of_rater @ flat).reshape(size, len(prompts), -1)
        counts = np.einsum("bp,bpk->bk", of_prompt, by_prompt).reshape(size, 2, num, num)
        rates.append(_rates(counts[:, 0], counts[:, 1]))
    return np.concatenate(rates)


def _percent(share: float) -> float | None:
    return None if math.isnan(share) else round(100 * float(share), 4)
